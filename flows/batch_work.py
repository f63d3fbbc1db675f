"""How a batch works through its workspaces, whoever does the work: a few at a time, each once, none given up early."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import Workspace
from ..schemas.result import Result
from ..scorers.plots.svg import printable
from ..tasks.batch_outcome import Outcome, failed_outcome, outcome_of

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State
    from prefect.futures import PrefectConcurrentFuture
    from prefect.task_runners import ThreadPoolTaskRunner

    from ..tasks.run_context import RunContext

__all__ = ["TaskRunPool", "WorkerPool", "member_names", "run_all"]

# Seconds that a workspace which another run holds is waited for, once everything else is done.
PATIENCE = 30.0
_PAUSE = 0.5
# A name stands in brackets before each line of the log.
_NO_BRACKETS = str.maketrans("[]\n", "() ")
_NAME = 200
# Seconds between two looks whether the batch was cancelled.
_TICK = 0.2


class WorkerPool(Protocol):
    """Those who work on single workspaces."""

    @property
    def idle(self) -> int:
        """How many workspaces can be begun now."""

    def submit(self, workspace: str) -> None:
        """Begin a workspace; only while one is idle."""

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended, once something has or the time is over."""

    def end(self) -> list[tuple[str, Outcome]]:
        """The batch was cancelled: end what is under way, and say how it ended."""


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
        name = printable(os.path.relpath(path, common)).translate(_NO_BRACKETS)
        name = name if len(name) <= _NAME else "…" + name[-_NAME + 1 :]
        names[path] = name if name not in taken else f"{name} {len(names) + 1}"
        taken.add(names[path])
    return names


class TaskRunPool:
    """Runs ``pipeline_task`` for each workspace, in threads: a task run each, which a model's minutes are worth.

    Use it with ``with``; leaving it by an exception ends the models that run.

    Args:
        size: Workspaces at a time.
        options: What each task is called with besides its workspace.
        cancelled: Ends the runs that are under way.
        members: What each workspace is called in the log, by path.
    """

    def __init__(
        self, size: int, options: dict[str, Any], cancelled: Callable[[], bool], members: Mapping[str, str]
    ) -> None:
        # Not with the module: a batch in a command's own process does without Prefect.
        from prefect.task_runners import ThreadPoolTaskRunner

        self._size = size
        self._members = members
        self._options = options
        self._cancelled = cancelled
        self._stop = threading.Event()
        # A runner of our own, because how many at once is a parameter, and the flow's is set before it has any.
        self._runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=size)
        self._under_way: set[str] = set()
        self._ended: queue.SimpleQueue[_Run] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stop.set()
        self._runner.__exit__(kind, error, trace)

    @property
    def idle(self) -> int:
        """How many workspaces can be begun now."""
        return self._size - len(self._under_way)

    def submit(self, workspace: str) -> None:
        """Begin a workspace; only while one is idle."""
        from ..tasks.prefect_tasks import pipeline_task
        from ..tasks.run_context import current, use

        context = replace(
            current(),
            cancelled=lambda: self._stop.is_set() or self._cancelled(),
            states=[],
            member=self._members[workspace],
        )
        parameters = {"workspace": workspace, **self._options}
        with use(context):
            future = self._runner.submit(pipeline_task, parameters)
        self._under_way.add(workspace)
        run = _Run(workspace, future, context, parameters)
        future.wrapped_future.add_done_callback(lambda _: self._ended.put(run))

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended, once something has or the time is over."""
        try:
            run = self._ended.get(timeout=seconds)
        except queue.Empty:
            return []
        self._under_way.discard(run.workspace)
        return [(run.workspace, run.outcome())]

    def end(self) -> list[tuple[str, Outcome]]:
        """The batch was cancelled: end what is under way, and say how it ended."""
        self._stop.set()
        ended = []
        while self._under_way:
            ended += self.wait(_TICK)
        return ended


class _Run:
    """One workspace that was submitted."""

    def __init__(
        self, workspace: str, future: PrefectConcurrentFuture[Any], context: RunContext, parameters: dict[str, Any]
    ) -> None:
        self.workspace = workspace
        self._future, self._context, self._parameters = future, context, parameters

    def outcome(self) -> Outcome:
        from ..tasks.prefect_tasks import failure_of

        state = self._state()
        if state.is_completed():
            return outcome_of(self.workspace, Result.model_validate(state.result()))
        failure = failure_of(state)
        if failure.result is None:
            return failed_outcome(self.workspace, failure)
        return outcome_of(self.workspace, Result.model_validate(failure.result))

    def _state(self) -> State[Any]:
        from ..tasks.prefect_tasks import pipeline_task
        from ..tasks.run_context import AWAY, call_untracked, use

        try:
            self._future.wait()
            return self._future.state
        except AWAY as error:
            with use(self._context):
                return call_untracked(error, pipeline_task, self._context.states or [], **self._parameters)
