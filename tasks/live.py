"""Scorers that are saved while a flow runs: the next scoring uses them, the one that runs finishes with its code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..core.config import Settings
from ..scorers.recorded import RecordedFiles, load_configured
from ..scorers.watch import ScorerWatcher

__all__ = ["live_scorers"]


@contextlib.contextmanager
def live_scorers(settings: Settings) -> Iterator[ScorerWatcher]:
    """Keep this process's registry equal to the configured folders and the recorded files, while inside.

    Args:
        settings: The configuration.

    Yields:
        The watcher. What does not load is logged, and the last good version stays.
    """
    load_configured(settings)
    with ScorerWatcher(settings.scorers.dirs, recorded=RecordedFiles(settings.home)) as watcher:
        yield watcher
