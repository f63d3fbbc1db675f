"""``doctor --prove``: attacks on each backend of this machine, and which of them the seal holds against."""
