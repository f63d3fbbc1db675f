"""From counts and columns to metrics and their intervals."""
