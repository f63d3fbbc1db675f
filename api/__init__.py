"""The REST facade: requests into tasks, what became of them into the standard envelope."""
