"""A batch in this process: what the flow ``batch`` does, without Prefect, a server or a journal."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.storage import fault_of
from ..tasks.batch_outcome import Outcome, failed_outcome, outcome_of, summarize
from ..tasks.pipeline import run_pipeline
from ..tasks.scoring import GuardedScoring
from .batch_journal import BatchJournal
from .batch_work import run_all
from .expand import Entry, expand

__all__ = ["LocalBatch", "run_batch"]

# Seconds that a scoring has left when the batch is cancelled; most are done by then, and their Results stand.
_GRACE = 1.0
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
        backend: auto, docker or process; as configured when None.
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
        options = {"scorer": scorer, "params": params}
        with GuardedScoring(settings, scorers_dirs=scorers_dirs) as scoring:
            pool = _Threads(min(concurrency, len(left)), settings, scoring, action, backend, options)
            try:
                with pool:
                    run_all(pool, left, cancelled=lambda: False, done=add)
            except AutoScorerError as ended:  # a signal
                error = ended
    summary = LocalBatch(summarize(action, journal.close(error), seconds=time.monotonic() - started))
    summary.error = error
    return summary


def _check(entry: Entry) -> None:
    if entry.error is not None and entry.error.code in _NOTHING:
        raise entry.error


class _Threads:
    """Works on each workspace in a thread; models and scorers are processes of their own. Use it with ``with``."""

    def __init__(
        self,
        size: int,
        settings: Settings,
        scoring: GuardedScoring,
        action: str,
        backend: str | None,
        options: dict[str, Any],
    ) -> None:
        self._size, self._settings, self._scoring = size, settings, scoring
        self._action, self._backend, self._options = action, backend, options
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="autoscorer-batch")
        self._under_way: set[str] = set()
        self._ended: queue.SimpleQueue[tuple[str, Outcome]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stop.set()
            self._scoring.stop()
        self._pool.shutdown(cancel_futures=True)

    @property
    def idle(self) -> int:
        """How many workspaces can be begun now."""
        return self._size - len(self._under_way)

    def submit(self, workspace: str) -> None:
        """Begin a workspace; only while one is idle."""
        self._under_way.add(workspace)
        self._pool.submit(self._work, workspace)

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended, once something has or the time is over."""
        try:
            workspace, outcome = self._ended.get(timeout=seconds)
        except queue.Empty:
            return []
        self._under_way.discard(workspace)
        return [(workspace, outcome)]

    def end(self) -> list[tuple[str, Outcome]]:
        """End what is under way, and say how it ended."""
        self._stop.set()
        ended, deadline = [], time.monotonic() + _GRACE
        while self._under_way:
            if time.monotonic() >= deadline:
                self._scoring.stop()
            ended += self.wait(0.2)
        return ended

    def _work(self, workspace: str) -> None:
        try:
            if self._action == "score":
                result = self._scoring.score(workspace, **self._options)
            else:
                result = run_pipeline(
                    workspace,
                    settings=self._settings,
                    backend=self._backend,
                    cancelled=self._stop.is_set,
                    scoring=self._scoring,
                    **self._options,
                )
            outcome = outcome_of(workspace, result)
        except AutoScorerError as error:
            outcome = failed_outcome(workspace, error)
        except Exception as error:
            outcome = failed_outcome(workspace, fault_of(error, home=self._settings.home, workspace=Path(workspace)))
        self._ended.put((os.path.abspath(workspace), outcome))
