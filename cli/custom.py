"""Making the operator's custom scorers known to this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..scorers.recorded import load_configured

__all__ = ["load_custom_scorers"]


def load_custom_scorers(settings: Settings, extra: Sequence[str]) -> None:
    """Load the folders of the configuration and of ``--scorers``, and the files that ``scorers load`` recorded.

    A file that does not load is told on stderr and shown by ``scorers list``; it stops nobody who uses another.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when a folder does not exist.
    """
    for folder in extra:
        if not Path(folder).is_dir():
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"The scorer folder {folder!r} does not exist.")
    load_configured(settings, extra=[Path(folder) for folder in extra])
