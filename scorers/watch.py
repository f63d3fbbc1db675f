"""The documented import path of the watcher; what it does stands in ``registry/watcher.py``."""

from .registry.watcher import ScorerWatcher, WatchEvent

__all__ = ["ScorerWatcher", "WatchEvent"]
