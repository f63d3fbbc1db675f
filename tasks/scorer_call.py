"""Calling a scorer's code, which may raise anything, and ending in an error of the catalogue all the same."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ..core.backoff import seldom
from ..core.bounds import MAX_MESSAGE, shortened
from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.storage import full_disk
from ..core.text import escape
from ..schemas.job import Job
from ..scorers.base import BaseScorer
from ..scorers.registry.entry import ScorerEntry
from ..scorers.registry.loader import is_ctrl_c
from ..scorers.registry.missing_names import import_lines

__all__ = ["call_scorer", "make_scorer", "one_line"]

# Seconds between two times that somebody is told how far a scorer is, and characters of what is told.
_TELLING, _MOST_TOLD = 1.0, 200

P = ParamSpec("P")
R = TypeVar("R")


def call_scorer(entry: ScorerEntry, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a method of a scorer.

    Args:
        entry: Whose it is.
        function: The method.
        args: What it is called with.
        kwargs: The same.

    Raises:
        AutoScorerError: What the scorer raised as such; ``SCORER_ERROR`` for everything else, a ``SystemExit`` too.
        MemoryError: There was not enough; what that means is for the caller to say.
        OSError: A disk is full; which one is for the caller to say.
    """
    try:
        return function(*args, **kwargs)
    except (AutoScorerError, MemoryError):
        raise
    except BaseException as error:  # the user gets its place, not a traceback
        if is_ctrl_c(error) or full_disk(error) is not None:
            raise
        raise _scorer_failed(entry, error) from error


def _scorer_failed(entry: ScorerEntry, error: BaseException) -> AutoScorerError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(entry.source)] or frames[-1:]
    where = f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "unknown place"
    kind = type(error).__name__
    # In a method: the file itself has loaded.
    lines = import_lines([error.name]) if type(error) is NameError and error.name else []
    return AutoScorerError(
        ErrorCode.SCORER_ERROR,
        f"The scorer {entry.id} failed in {where}: {kind}: {_text(error)}"
        + (f". Add to its top: {lines[0]}" if lines else ""),
        details={"scorer": entry.id, "exception": kind, "where": where},
    )


def _text(value: object) -> str:
    try:
        return shortened(str(value), MAX_MESSAGE)
    except Exception:
        return "(its text can't be had)"


def make_scorer(
    entry: ScorerEntry, job: Job, settings: Settings, progress: Callable[[str], None] = lambda told: None
) -> BaseScorer:
    """A scorer that knows what meta.json and the configuration say of the scoring.

    Args:
        entry: The scorer.
        job: Whose files it will read.
        settings: The configuration.
        progress: Told how far it is, once a second at most.

    Raises:
        AutoScorerError: As ``call_scorer``.
    """
    scorer: BaseScorer = call_scorer(entry, entry.create)
    scorer.min_count = settings.security.disclosure.min_count
    scorer.encodings = job.data.encodings
    scorer.settings = settings
    # A scorer tells of each row that it has done, if it likes; nobody can read that fast.
    scorer.progress = seldom(lambda told: progress(one_line(told)), _TELLING)
    return scorer


def one_line(told: object) -> str:
    """What a scorer says of how far it is, as it may stand in a line of a log or of a terminal."""
    return shortened(escape(" ".join(_text(told).split())), _MOST_TOLD)
