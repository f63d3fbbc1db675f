"""The operator's custom scorers in a command: none of their code may keep the command from ending."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode

if TYPE_CHECKING:
    from ..tasks.scoring import GuardedScoring

__all__ = ["check_folders", "command_scoring", "load_custom_scorers"]


def check_folders(extra: Sequence[str]) -> None:
    """Refuse a folder of ``--scorers`` that is not there.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    for folder in extra:
        if not Path(folder).is_dir():
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"The scorer folder {folder!r} does not exist.")


def command_scoring(args: argparse.Namespace) -> GuardedScoring:
    """Who validates and scores for a command: this process with the built-in scorers, another with all others."""
    from ..tasks.scoring import GuardedScoring

    folders = tuple(Path(folder).absolute() for folder in args.scorers_dirs)
    return GuardedScoring(args.settings, scorers_dirs=folders, builtins_here=True)


def load_custom_scorers(settings: Settings, extra: Sequence[str]) -> None:
    """Load the folders of the configuration and of ``--scorers``, and the files that ``scorers load`` recorded.

    A file that has changed since it last loaded is tried in a process of its own first. One that does not load is told
    on stderr and shown by ``scorers list``.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when a folder does not exist.
    """
    from ..scorers.registry import get_registry
    from ..scorers.registry.manifest import load_configured
    from ..scorers.registry.trial import try_import

    check_folders(extra)
    get_registry().trial = functools.partial(try_import, seconds=settings.scorers.load_timeout)
    load_configured(settings, extra=[Path(folder) for folder in extra])
