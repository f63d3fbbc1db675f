"""What became of the flow runs: Prefect is asked again and again, and how each task ends goes into the ledger.

There may be thousands of tasks in the queue and only a few that move. So the few are asked for each time, of the queued
ones only which have left the queue, and one page of it now and then as it is, to notice what has disappeared.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...core.backoff import periodic
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.flowruns import wake
from ...schemas.task import TaskState
from ..flow_runs import FlowRuns
from ..ledger.ledger import Ledger
from ..ledger.records import Observed, TaskEnd, TaskRow
from ..prefect.client import PAGE, PrefectApi, PrefectAway, PrefectRefused
from ..prefect.model import PLAIN_NAMES, QUEUES, SETTLED_TYPES, FlowRun, Json, seconds_of
from ..workspaces.roots import WorkspaceRoots
from .members import MemberRecorder
from .outcomes import task_end_of, task_end_without_run

__all__ = ["Follower"]

logger = logging.getLogger(__name__)

# Seconds between two looks: while tasks are moving or somebody waits, while nothing has changed for long, and while
# there is nothing to follow.
_FAST, _CALM, _IDLE = 0.3, 1.0, 3.0
_CALM_AFTER = 30.0
_LONGEST_PAUSE = 5.0
# Seconds for which an answer about one task will do: many people may look at many tasks.
_FRESH = 0.25
# Seconds between two looks into the home for how cancelled runs ended, and seconds without a word of Prefect's after
# which that is done.
_HOME, _SILENCE = 0.5, 2.0
# Seconds between two looks at a page of the queue as it is.
_SWEEP = 5.0


@dataclass(slots=True)
class _Followed:
    """A task and its flow run as it was last seen."""

    row: TaskRow
    flow_run_id: str
    run: FlowRun | None = None
    cancel: bool = False
    noted: Observed | None = None
    asked_at: float = float("-inf")

    @property
    def is_moving(self) -> bool:
        return self.cancel or (self.run is not None and self.run["state"]["type"] != "SCHEDULED")


@dataclass(eq=False)
class Follower:
    """Follows flow runs to their end.

    ``lost`` is called when a task must be handed to Prefect anew, ``ended`` with the ids of tasks that have ended, once
    the ledger has it.
    """

    settings: Settings
    roots: WorkspaceRoots
    ledger: Ledger
    prefect: PrefectApi
    flow_runs: FlowRuns
    lost: Callable[[], None]
    ended: Callable[[Sequence[str]], Awaitable[None]]
    _members: MemberRecorder = field(init=False)
    _tasks: dict[str, _Followed] = field(default_factory=dict)
    _watchers: dict[str, list[asyncio.Event]] = field(default_factory=dict)
    _refreshing: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _changed_at: float = field(default_factory=time.monotonic)
    _heard_at: float = field(default_factory=time.monotonic)
    _is_running: bool = False
    _turn: int = 0
    _swept_at: float = 0.0
    _sweeps: int = 0

    def __post_init__(self) -> None:
        self._members = MemberRecorder(self.ledger, self.flow_runs, self.roots)

    # --- what is followed -----------------------------------------------------------------------------------

    async def follow(self, task_ids: Iterable[str]) -> None:
        """Follow tasks that have a flow run, as the ledger has them now."""
        for task_id in task_ids:
            self._begin(await self.ledger.row(task_id))
        self._changed_at = time.monotonic()
        self._woken.set()

    def _begin(self, row: TaskRow) -> None:
        # Whoever cancelled it while the ledger was asked has put it down already.
        if row.flow_run_id is not None and not row.is_final and row.id not in self._tasks:
            self._tasks[row.id] = _Followed(row, row.flow_run_id, cancel=bool(row.cancel_requested))
            if row.cancel_requested:
                self._leave_word(self._tasks[row.id])

    def runs(self) -> Mapping[str, FlowRun]:
        """The flow runs under way, by id, as they were last seen."""
        return {task.flow_run_id: task.run for task in self._tasks.values() if task.run is not None}

    @contextlib.contextmanager
    def watching(self, task_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the task has ended; while somebody watches, Prefect is asked more often."""
        event = asyncio.Event()
        self._watchers.setdefault(task_id, []).append(event)
        self._woken.set()
        try:
            yield event
        finally:
            self._watchers[task_id].remove(event)
            if not self._watchers[task_id]:
                del self._watchers[task_id]

    async def finish(self, ends: Sequence[TaskEnd]) -> None:
        """Put down how tasks ended, and tell whoever waits."""
        if not ends:
            return
        ended = await self.ledger.finish([replace(each, error=self.roots.redact(each.error)) for each in ends])
        for end in ends:
            self._tasks.pop(end.task_id, None)
        await self.tell(ended)

    async def tell(self, ended: Sequence[str]) -> None:
        """The ledger has it that these tasks ended."""
        self._changed_at = time.monotonic()
        for task_id in ended:
            for event in self._watchers.get(task_id, ()):
                event.set()
        if ended:
            await self.ended(ended)

    # --- asking ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow every active task, until cancelled."""
        self._tasks.clear()
        self._is_running = True
        try:
            for row in await self.ledger.active():
                self._begin(row)
            await self._run()
        finally:
            self._is_running = False

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(
                periodic(
                    "follow",
                    self._follow,
                    _IDLE,
                    woken=self._woken,
                    away=PrefectAway,
                    when_away="Tasks can't be followed until Prefect is back",
                    pauses=(2 * _FAST, _LONGEST_PAUSE),
                )
            )
            loops.create_task(periodic("settle", self._settle_in_silence, _HOME))
            loops.create_task(periodic("members", self._record_members, 1.0, away=AutoScorerError))

    async def _record_members(self) -> float:
        moving = [task.row for task in self._tasks.values() if task.row.action == "batch" and task.is_moving]
        return await self._members.look(moving)

    async def _follow(self) -> float:
        began = time.monotonic()
        await self.look()
        if not self._tasks:
            return _IDLE
        calm = not self._watchers and time.monotonic() - self._changed_at > _CALM_AFTER
        # Prefect has other work than to answer us, whoever wakes us.
        await asyncio.sleep(max(_CALM if calm else _FAST, time.monotonic() - began))
        return 0

    async def look(self) -> None:
        """Ask once for what has changed.

        Raises:
            PrefectAway: The server does not answer.
        """
        if self.ledger.is_shared:
            for task_id in await self.ledger.to_cancel():
                if (known := self._tasks.get(task_id)) is not None and not known.cancel:
                    known.cancel = True
                    self._leave_word(known)
        moving = [task for task in self._tasks.values() if task.is_moving]
        queued = [task for task in self._tasks.values() if not task.is_moving]
        for some in _pages(moving):
            await self._ask(some)
        queued.sort(key=lambda task: (QUEUES[task.row.priority].rank, task.row.id))
        # Those that are next in turn, and a page of the others: with the order of a pool's queues, and with people who
        # do as they like, any of them may be taken up.
        pages = _pages(queued)
        first, *others = pages or [[]]
        await self._ask(first, left_queue=True)
        if others:
            self._turn += 1
            await self._ask(others[self._turn % len(others)], left_queue=True)
        if queued and time.monotonic() - self._swept_at > _SWEEP:
            self._swept_at = time.monotonic()
            self._sweeps += 1
            await self._ask([task for task in pages[self._sweeps % len(pages)] if self._is_followed(task)])

    async def refresh(self, task_id: str, *, older_than: float = _FRESH) -> None:
        """Ask for one task now, unless that was done less than ``older_than`` seconds ago; many share an answer.

        Raises:
            PrefectAway: The server does not answer.
        """
        task = self._tasks.get(task_id)
        if task is None or time.monotonic() - task.asked_at < older_than:
            return
        under_way = self._refreshing.get(task_id)
        if under_way is None:
            under_way = asyncio.create_task(self._ask([task]))
            self._refreshing[task_id] = under_way
            under_way.add_done_callback(lambda _: self._refreshing.pop(task_id, None))
        await asyncio.shield(under_way)

    async def cancel(self, row: TaskRow) -> None:
        """Have Prefect cancel a task's flow run; where Prefect is away it is done later.

        Raises:
            PrefectAway: The server does not answer.
        """
        assert row.flow_run_id is not None
        task = self._tasks.get(row.id) or _Followed(row, row.flow_run_id)
        if self._is_running:  # else another process follows it
            self._tasks[row.id] = task
        task.cancel = True
        self._leave_word(task)
        await self._cancel(task)
        await self.refresh(row.id, older_than=0)

    async def _settle_in_silence(self) -> None:
        """While Prefect is away, take from the home how those ended that were to be cancelled.

        Their worker tells Prefect when it is back, and needs their files until then.
        """
        if time.monotonic() - self._heard_at < _SILENCE:
            return
        for task in [task for task in self._tasks.values() if task.cancel]:
            saved = await self.flow_runs.outcome(task.flow_run_id)
            end = await asyncio.to_thread(task_end_without_run, saved, self.roots, task.row)
            if end is not None and self._is_followed(task):
                await self.finish([end])

    def _leave_word(self, task: _Followed) -> None:
        """Say in the home that a task's flow run is to be cancelled: its worker learns it there, Prefect away or not.

        Only of those that are followed: with the end of a task its files go.
        """
        try:
            self.flow_runs.files(task.flow_run_id).request_cancel()
        except OSError as error:  # Prefect is told as well
            logger.warning("task %s: no word of its cancelling was left in the home: %s", task.row.id, error.strerror)
        wake(self.settings.home)

    async def _ask(self, tasks: Sequence[_Followed], *, left_queue: bool = False) -> None:
        """Ask for flow runs, and settle what has changed; with ``left_queue`` only for those that are not scheduled."""
        if not tasks:
            return
        wanted: Json = {"id": {"any_": [task.flow_run_id for task in tasks]}}
        if left_queue:
            wanted["state"] = {"type": {"not_any_": ["SCHEDULED"]}}
        found = {run["id"]: run for run in await self.prefect.find_flow_runs(wanted)}
        self._heard_at = time.monotonic()
        for task in tasks:
            task.asked_at = time.monotonic()
        changes: list[Observed] = []
        final: list[tuple[_Followed, FlowRun]] = []
        for task in tasks:
            if not self._is_followed(task):
                continue
            run = found.get(task.flow_run_id)
            if run is None:
                if not left_queue:
                    await self._settle_missing(task)
                continue
            task.run = run
            if run["state"]["type"] in SETTLED_TYPES:
                final.append((task, run))
            else:
                if task.cancel and run["state"]["type"] not in ("CANCELLING", "CRASHED"):
                    await self._cancel(task)
                observed = _observed(task.row.id, run)
                if observed != task.noted:
                    task.noted = observed
                    changes.append(observed)
        if changes:
            self._changed_at = time.monotonic()
            await self.ledger.observe(changes)
        if final:
            await self._settle_final(final)

    def _is_followed(self, task: _Followed) -> bool:
        return self._tasks.get(task.row.id) is task

    async def _cancel(self, task: _Followed) -> None:
        # Where nobody works on it Prefect makes it Cancelled at once, and in the same transaction as it looks.
        try:
            await self.prefect.set_state(task.flow_run_id, "CANCELLING", message="Cancelled by request.")
        except PrefectRefused as error:  # of one; the others are not to wait for it
            logger.error(
                "task %s could not be cancelled yet: %s", task.row.id, error.message, extra=_fields(task.row.id)
            )
        wake(self.settings.home)

    async def _settle_final(self, final: Sequence[tuple[_Followed, FlowRun]]) -> None:
        ends = []
        for task, run in final:
            if task.row.action == "batch":  # most of them before the transaction that ends it
                await self._members.record(task.row)
            saved = await self.flow_runs.outcome(task.flow_run_id)
            ends.append(await asyncio.to_thread(task_end_of, saved, self.roots, task.row, run))
        await self.finish(ends)
        # Only now: until the ledger had it, the files did.
        for task, _ in final:
            await asyncio.to_thread(self.flow_runs.files(task.flow_run_id).remove)

    async def _settle_missing(self, task: _Followed) -> None:
        """Prefect does not know a flow run any more: somebody deleted it, or its database was lost."""
        if await self.prefect.flow_run(task.flow_run_id) is not None:
            return
        files = self.flow_runs.files(task.flow_run_id)
        row = await self.ledger.row(task.row.id)
        saved = await self.flow_runs.outcome(task.flow_run_id)
        end = await asyncio.to_thread(task_end_without_run, saved, self.roots, row)
        if end is None:
            if await self.flow_runs.is_held(task.flow_run_id):
                return  # its worker is still at it, and will leave an outcome or go
            error = self._why_not_anew(row, task.cancel)
            end = TaskEnd.by(row.id, error, error.message) if error else None
        if end is not None:
            await self.finish([end])
            await asyncio.to_thread(files.remove)
            return
        why = f"Prefect no longer knew the flow run {task.flow_run_id}; the task was handed over anew."
        logger.warning("task %s: %s", row.id, why, extra=_fields(row.id))
        await self.ledger.dispatch_anew(row.id, task.flow_run_id, why)
        del self._tasks[row.id]
        await asyncio.to_thread(files.remove)
        self.lost()

    def _why_not_anew(self, row: TaskRow, cancel: bool) -> AutoScorerError | None:
        """How a task ends whose flow run is gone and left nothing; None where it is to be handed over once more."""
        if cancel:
            return AutoScorerError(ErrorCode.CANCELLED, "The task was cancelled.")
        if row.origin != "api":
            return AutoScorerError(ErrorCode.CANCELLED, "Its flow run was deleted in Prefect.")
        if row.dispatch < self.settings.service.max_attempts:
            return None
        why = f"Prefect lost its flow run {row.dispatch} times; submit it again when Prefect keeps its records."
        return AutoScorerError(ErrorCode.INTERNAL_ERROR, why)


def _fields(task_id: str) -> Json:
    return {"fields": {"task_id": task_id}}


def _observed(task_id: str, run: FlowRun) -> Observed:
    state = run["state"]
    match state["type"]:
        case "RUNNING" | "CRASHED":  # a crashed run is put back, or ended, in a moment
            shown = TaskState.RUNNING
        case "CANCELLING":
            shown = TaskState.CANCELLING
        case _:
            shown = TaskState.QUEUED
    # The message of a plain schedule or start is about nothing; that of AwaitingRetry says why.
    told = state["type"] in ("CRASHED", "CANCELLING") or state["name"] not in PLAIN_NAMES
    return Observed(
        task_id,
        shown,
        state["type"],
        run["run_count"],
        seconds_of(run["start_time"]),
        (state.get("message") or None) if told else None,
    )


def _pages(tasks: Sequence[_Followed]) -> list[Sequence[_Followed]]:
    return [tasks[start : start + PAGE] for start in range(0, len(tasks), PAGE)]
