"""``autoscorer up``."""
