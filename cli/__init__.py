"""The autoscorer command."""
