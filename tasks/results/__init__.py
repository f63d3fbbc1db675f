"""The one standard Result: its provenance, its bounds, its reports, and the Result of a failure."""
