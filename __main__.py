"""``python -m autoscorer``."""

from .cli.main import entry

entry()
