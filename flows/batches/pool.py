"""How a batch works through its workspaces, whoever does the work: a few at a time, each once, none given up early."""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.storage import fault_of
from ...core.text import visible
from ...core.workspace import Workspace
from ...schemas.result import Result
from ...tasks.scoring.guarded import NOT_STARTED, Scoring
from .outcome import Outcome, failed_outcome, outcome_of

__all__ = ["WorkerPool", "member_names", "run_all"]

# Seconds that a workspace which another run holds is waited for, once everything else is done.
PATIENCE = 30.0
_PAUSE = 0.5
# A name stands in brackets before each line of the log.
_NO_BRACKETS = str.maketrans("[]\n", "() ")
_NAME = 200
# Seconds between two looks whether the batch was cancelled.
_TICK = 0.2
# Seconds that a scoring has left when the batch is cancelled; most are done by then, and their Results stand.
_GRACE = 1.0


class WorkerPool:
    """Works on workspaces, each in a thread; models and scorers are processes of their own. Use it with ``with``.

    Leaving it by an exception ends what is under way.

    Args:
        size: Workspaces at a time.
        work: Called in a thread, in the context that the pool was made in, with a workspace and what says whether its
            work is to end; gives the Result. What it raises is an outcome as well.
        settings: The configuration.
        scoring: Who scores for ``work``; stopped where a scoring does not end in time.
    """

    def __init__(
        self, size: int, work: Callable[[str, Callable[[], bool]], Result], settings: Settings, scoring: Scoring
    ) -> None:
        self._size, self._work, self._settings, self._scoring = size, work, settings, scoring
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="autoscorer-batch")
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
        self._threads.shutdown(cancel_futures=True)

    @property
    def idle(self) -> int:
        """How many workspaces can be begun now."""
        return self._size - len(self._under_way)

    def submit(self, workspace: str) -> None:
        """Begin a workspace; only while a thread is idle."""
        self._under_way.add(workspace)
        self._threads.submit(contextvars.copy_context().run, self._run, workspace)

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended, once something has or the time is over.

        Raises:
            AutoScorerError: ``INTERNAL_ERROR`` when the processes that score can't be started.
        """
        try:
            workspace, outcome = self._ended.get(timeout=seconds)
        except queue.Empty:
            return []
        self._under_way.discard(workspace)
        if outcome["error"] is not None and outcome["error"]["details"].get("why") == NOT_STARTED:
            raise AutoScorerError.from_dict(outcome["error"])
        return [(workspace, outcome)]

    def end(self) -> list[tuple[str, Outcome]]:
        """The batch was cancelled: end what is under way, within about a second, and say how it ended."""
        self._stop.set()
        ended, deadline = [], time.monotonic() + _GRACE
        while self._under_way:
            if time.monotonic() >= deadline:
                self._scoring.stop()
            ended += self.wait(_TICK)
        return ended

    def _run(self, workspace: str) -> None:
        try:
            outcome = outcome_of(workspace, self._work(workspace, self._stop.is_set))
        except AutoScorerError as error:
            outcome = failed_outcome(workspace, error)
        except Exception as error:
            outcome = failed_outcome(workspace, fault_of(error, home=self._settings.home, workspace=Path(workspace)))
        self._ended.put((workspace, outcome))


def run_all(
    pool: WorkerPool,
    workspaces: Iterable[str],
    *,
    cancelled: Callable[[], bool],
    done: Callable[[str, Outcome], None],
) -> bool:
    """Have every workspace worked on.

    One that another run holds is tried again at the end, for a bounded time, before it is given up.

    Args:
        pool: Who works.
        workspaces: Their paths, each once.
        cancelled: Asked all the time; True ends what is under way and begins nothing more.
        done: Told of each outcome as it comes, in this thread.

    Returns:
        Whether it was cancelled; workspaces that it had not come to have no outcome then.
    """
    try:
        return _run_all(pool, deque(workspaces), cancelled, done)
    except AutoScorerError as error:
        if error.code is ErrorCode.CANCELLED:  # a signal
            for workspace, outcome in pool.end():
                done(workspace, outcome)
        raise


def _run_all(
    pool: WorkerPool, waiting: deque[str], cancelled: Callable[[], bool], done: Callable[[str, Outcome], None]
) -> bool:
    held, under_way = _Held(), 0
    while waiting or under_way or held:
        if cancelled():
            for workspace, outcome in pool.end():
                done(workspace, outcome)
            return True
        while waiting and pool.idle:
            pool.submit(waiting.popleft())
            under_way += 1
        if held and not waiting:
            if not under_way and held.is_too_late():
                for workspace, outcome in held.give_up():
                    done(workspace, outcome)
                continue
            if pool.idle and (freed := held.released()) is not None:
                pool.submit(freed)
                under_way += 1
        for workspace, outcome in pool.wait(_TICK):
            under_way -= 1
            if (outcome["error"] or {}).get("code") == ErrorCode.CONFLICT:
                held.add(workspace, outcome)
            else:
                done(workspace, outcome)
    return False


class _Held:
    """Workspaces that another run holds."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}
        self._deadline: float | None = None
        self._next_look = 0.0

    def __bool__(self) -> bool:
        return bool(self._outcomes)

    def add(self, workspace: str, outcome: Outcome) -> None:
        self._outcomes[workspace] = outcome

    def released(self) -> str | None:
        """One that nobody holds any more; asked of the locks twice a second."""
        if time.monotonic() < self._next_look:
            return None
        for workspace in self._outcomes:
            held = False
            with contextlib.suppress(AutoScorerError):  # it has gone: whoever begins it says so
                held = Workspace(workspace).is_held()
            if not held:
                del self._outcomes[workspace]
                return workspace
        self._next_look = time.monotonic() + _PAUSE
        return None

    def is_too_late(self) -> bool:
        """Whether they were waited for long enough; counted from the first time that is asked."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + PATIENCE
        return now >= self._deadline

    def give_up(self) -> list[tuple[str, Outcome]]:
        outcomes, self._outcomes = self._outcomes, {}
        return list(outcomes.items())


def member_names(workspaces: Sequence[str]) -> dict[str, str]:
    """What the workspaces of a batch are called in its log, by path: short, and no two the same.

    Args:
        workspaces: Their paths, absolute.
    """
    parents = [os.path.dirname(path) for path in workspaces]
    common = os.path.commonpath(parents) if parents else ""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in workspaces:
        name = visible(os.path.relpath(path, common)).translate(_NO_BRACKETS)
        name = name if len(name) <= _NAME else "…" + name[-_NAME + 1 :]
        names[path] = name if name not in taken else f"{name} {len(names) + 1}"
        taken.add(names[path])
    return names
