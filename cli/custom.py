"""Making the operator's custom scorers known to this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..scorers.registry import get_registry

__all__ = ["load_custom_scorers"]


def load_custom_scorers(settings: Settings, extra: Sequence[str]) -> None:
    """Load the folders of the configuration and of ``--scorers``.

    A file that does not load is told on stderr and shown by ``scorers list``; it stops nobody who uses another.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when a folder does not exist.
    """
    registry = get_registry()
    for folder in [*settings.scorers.dirs, *map(Path, extra)]:
        if not folder.is_dir():
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"The scorer folder {str(folder)!r} does not exist.")
        registry.load_directory(folder)
    for problem in registry.errors():
        print(f"autoscorer: {problem}", file=sys.stderr)
