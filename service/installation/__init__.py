"""One whole installation on one machine: its processes, their lock, the ports they need."""
