"""A batch in this process: what the flow ``batch`` does, without Prefect, a server or a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.result import Result
from ...tasks.pipeline import run_pipeline
from ...tasks.scoring.guarded import GuardedScoring, ScorerChoice
from .expand import Entry, expand
from .journal import BatchJournal
from .outcome import Outcome, summarize
from .pool import WorkerPool, run_all

__all__ = ["LocalBatch", "run_batch"]

# A name that means nothing: the service refuses it before there is a batch.
_NOTHING = frozenset({ErrorCode.WORKSPACE_NOT_FOUND, ErrorCode.INVALID_META})


class LocalBatch(dict[str, Any]):
    """A batch's summary, as the flow ``batch`` gives it.

    Attributes:
        error: Why it ended before it came to all of its workspaces; None when it did not.
    """

    error: AutoScorerError | None = None


def run_batch(
    workspaces: Sequence[str],
    *,
    settings: Settings,
    action: Literal["pipeline", "score"] = "pipeline",
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    backend: str | None = None,
    concurrency: int = 2,
    scorers_dirs: tuple[Path, ...] = (),
    begun: Callable[[list[Outcome], int], None] = lambda known, total: None,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> LocalBatch:
    """Work on many workspaces, a few at a time; one failure stops none of the others.

    Call it in the main thread: a signal that raises there ends what is under way, in order.

    Args:
        workspaces: Each a workspace, a folder of workspaces, or a pattern.
        settings: The configuration.
        action: pipeline (validate, run and score) or score (the predictions that are there).
        scorer: Scorer id instead of the one that each meta.json names.
        params: Added to each meta.json's params, and stronger than they are.
        backend: auto, docker, kubernetes or process; as configured when None.
        concurrency: Workspaces worked on at the same time.
        scorers_dirs: More folders of scorers.
        begun: Told what needs no work (duplicates, links that lead astray), and how many workspaces there are in all.
        done: Told of each outcome as it comes.

    Returns:
        The summary; its ``error`` is ``CANCELLED`` when a signal ended it.

    Raises:
        AutoScorerError: ``WORKSPACE_NOT_FOUND`` or ``INVALID_META`` when one of ``workspaces`` means nothing; no work
            was done then.
    """
    started = time.monotonic()
    entries = expand(workspaces, settings.workspace_roots)
    for entry in entries:
        _check(entry)
    journal = BatchJournal(entries, None, warn=lambda text: None)
    begun([*journal.outcomes.values()], journal.total)

    def add(workspace: str, outcome: Outcome) -> None:
        journal.add(workspace, outcome)
        done(outcome)

    error = None
    if left := journal.left():
        choice: ScorerChoice = {"scorer": scorer, "params": params}
        with GuardedScoring(settings, scorers_dirs=scorers_dirs) as scoring:

            def work(workspace: str, cancelled: Callable[[], bool]) -> Result:
                if action == "score":
                    return scoring.score(workspace, **choice)
                return run_pipeline(
                    workspace, settings=settings, backend=backend, cancelled=cancelled, scoring=scoring, **choice
                )

            try:
                with WorkerPool(min(concurrency, len(left)), work, settings, scoring) as pool:
                    run_all(pool, left, cancelled=lambda: False, done=add)
            except AutoScorerError as ended:  # a signal
                error = ended
    summary = LocalBatch(summarize(action, journal.close(error), seconds=time.monotonic() - started))
    summary.error = error
    return summary


def _check(entry: Entry) -> None:
    if entry.error is not None and entry.error.code in _NOTHING:
        raise entry.error
