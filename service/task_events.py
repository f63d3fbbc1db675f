"""What happens to tasks, told to many as it happens: one watcher a process asks the ledger, however many listen.

Whoever changes a task, here or through another API or in a worker, the ledger says that it has changed. How far a task
under way is, its worker says elsewhere (``FlowRuns``): that is compared with what was told last.

A listener who reads slowly is told of the last state of each task, and of too many tasks at once only that there were
many. So it holds no more memory than a quick one, and knows what it has missed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from ..core.backoff import delays
from ..core.errors import AutoScorerError
from ..schemas.task import TaskView
from .ledger.changes import KEPT, WORD, Position, TaskChange
from .policy import Act, Caller, Subject, may
from .tasks import TaskService

__all__ = ["MOST_MISSED", "MOST_PENDING", "PAUSE", "Listener", "News", "TaskEvents", "Told"]

logger = logging.getLogger(__name__)

# Seconds between two looks: a change is to be told within one.
PAUSE = 0.4
# Seconds before the next look while the ledger does not answer, at first and at most.
_AWAY = (1.0, 5.0)
# Changes that one look takes, and those of them that are told: more of them in so short a time are another list, and no
# news. Where there are more than are taken, a transaction of somebody's has been open for long: they come again and
# again until it ends, and are looked at less often.
_MOST_CHANGES, _MOST_FRESH, _BREATH = 20_000, 2_000, 10.0
# Tasks that a listener may be behind with, and may have missed when it comes back.
MOST_PENDING, MOST_MISSED = 500, 500
_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,11})-([0-9a-f]{8})", re.ASCII)


@dataclass(eq=False)
class Told:
    """A task as it is told, to all who may see it.

    Args:
        task_id: Which.
        subject: Whose it is.
        task: As the list shows it; None where it is gone.
        written: What was made of it for whom: those who may see the same of it share what is sent.
    """

    task_id: str
    subject: Subject
    task: TaskView | None
    written: dict[Hashable, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class News:
    """What a listener is told.

    Args:
        told: The tasks that have changed, each once.
        is_reset: Whether more has changed than is told: the list is to be asked for anew.
        position: The id of the position after it.
        is_over: Whether nothing will follow, because the server is being stopped.
    """

    told: Sequence[Told]
    is_reset: bool
    position: str
    is_over: bool


class Listener:
    """Somebody who is told what happens to the tasks that they may see.

    Args:
        caller: Who.
        task_id: The one task that it is about; None for all.

    Attributes:
        position: The id of the position up to which they were told.
        is_resumed: Whether they were told all that has changed since they listened last.
    """

    def __init__(self, caller: Caller, task_id: str | None = None) -> None:
        self.position, self.is_resumed = "", False
        self._caller, self._task_id = caller, task_id
        self._pending: dict[str, Told] = {}
        self._is_reset = self._is_over = False
        self._woken = asyncio.Event()

    def offer(self, told: Sequence[Told], position: str) -> None:
        """Tell them, as far as they may see it; and that this is all up to that position."""
        self.position = position
        for each in told:
            if self._task_id not in (None, each.task_id) or not may(self._caller, Act.SEE, each.subject):
                continue
            self._woken.set()
            # The last state is enough; and it comes behind what was told before.
            self._pending.pop(each.task_id, None)
            if not self._is_reset:
                self._pending[each.task_id] = each
        if len(self._pending) > MOST_PENDING:
            self.reset(position)

    def resume(self, told: Sequence[Told], position: str) -> None:
        """Tell them what they have missed, which is all that has changed since they listened last."""
        self.offer(told, position)
        self.is_resumed = not self._is_reset

    def reset(self, position: str) -> None:
        """More has changed than they are told."""
        self._pending.clear()
        self._is_reset, self.position = True, position
        self._woken.set()

    def end(self) -> None:
        """Nothing will follow."""
        self._is_over = True
        self._woken.set()

    async def news(self, within: float) -> News:
        """What has happened since the last call; after some seconds also nothing."""
        if not self._woken.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._woken.wait()
        self._woken.clear()
        found = News([*self._pending.values()], self._is_reset, self.position, self._is_over)
        self._pending, self._is_reset = {}, False
        return found


class TaskEvents:
    """Tells listeners what happens to tasks. Made by ``running``.

    Args:
        tasks: The task service.
        stopping: Set when the server is being stopped.
    """

    def __init__(self, tasks: TaskService, stopping: asyncio.Event) -> None:
        self._tasks, self._stopping = tasks, stopping
        self._listeners: set[Listener] = set()
        self._needed = asyncio.Event()
        # What is read one after the other is told in this order.
        self._reading = asyncio.Lock()
        self._epoch = ""
        # Where the watcher is; None while nobody listens.
        self._position: Position | None = None
        # The changes behind the position that were told already, by their tasks.
        self._seen: dict[str, int] = {}
        # Those that somebody works on, as they were told last.
        self._under_way: dict[str, TaskView | None] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, tasks: TaskService, stopping: asyncio.Event) -> AsyncIterator[Self]:
        """Watch until the end of the block, while somebody listens."""
        events = cls(tasks, stopping)
        watching = asyncio.create_task(events._watch())
        try:
            yield events
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    # --- who listens ----------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """How many listen."""
        return len(self._listeners)

    @asynccontextmanager
    async def listening(
        self, caller: Caller, *, task_id: str | None = None, after: str | None = None
    ) -> AsyncIterator[Listener]:
        """Somebody listens, until the end of the block.

        Args:
            caller: Who.
            task_id: The one task that they want to hear of; None for all.
            after: The id of the last position that they know: they are told first what has changed since, of each such
                task what it is now; or that it is too much, or too long ago, to say.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        listener = Listener(caller, task_id)
        # Before anything is read: the watcher keeps its position as long as it has a listener.
        self._listeners.add(listener)
        try:
            async with self._reading:
                if self._position is None:
                    await self._begin()
                assert self._position is not None
                listener.offer((), self._id(self._position))
                if after is not None:
                    await self._missed(listener, after)
            if self._stopping.is_set():
                listener.end()
            self._needed.set()
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._needed.clear()
                self._position = None

    async def _begin(self) -> None:
        ledger = self._tasks.ledger
        if not self._epoch:
            self._epoch = (await ledger.secret(WORD, secrets.token_hex(4)))[:8]
        position = (await ledger.changed_since(None, 0)).now
        self._seen, self._under_way = {}, dict.fromkeys(await ledger.under_way())
        self._position = position

    async def _missed(self, listener: Listener, after: str) -> None:
        known = _ID.fullmatch(after)
        ledger = self._tasks.ledger
        changes = await ledger.changed_since(int(known[1]) if known else None, MOST_MISSED)
        position = self._id(changes.now)
        if known is None or known[3] != self._epoch or changes.now.at - int(known[2]) >= KEPT or changes.found is None:
            listener.reset(position)
            return
        # How far those are that are under way is no change of theirs.
        told, _ = await self._told(changes.found, await ledger.under_way())
        listener.resume(told, position)

    def _id(self, position: Position) -> str:
        return f"{position.number}-{int(position.at)}-{self._epoch}"

    # --- watching -------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        stopped = asyncio.create_task(self._stopping.wait())
        looking = asyncio.create_task(self._look_on())
        try:
            await asyncio.wait((stopped, looking), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for listener in self._listeners:
                listener.end()
            for each in (stopped, looking):
                each.cancel()
            await asyncio.gather(stopped, looking, return_exceptions=True)

    async def _look_on(self) -> None:
        waits: Iterator[float] | None = None
        while True:
            await self._needed.wait()
            try:
                async with self._reading:
                    pause = await self._look()
                waits = None
            except AutoScorerError as error:
                if waits is None:
                    logger.warning("what changes is told when the ledger answers again: %s", error.message)
                    waits = delays(*_AWAY)
                pause = next(waits)
            except Exception:
                logger.exception("the watcher of tasks failed and goes on")
                pause = _AWAY[0]
            await asyncio.sleep(pause)

    async def _look(self) -> float:
        """Ask once for what has changed, and tell it; the seconds until the next time."""
        start = self._position
        if start is None:
            return 0.0  # they have all left
        changes = await self._tasks.ledger.changed_since(start.number, _MOST_CHANGES)
        found = changes.found
        fresh = [each for each in found or () if self._seen.get(each.task_id) != each.number]
        if found is None or len(fresh) > _MOST_FRESH:
            news, under_way = None, dict[str, TaskView | None].fromkeys(await self._tasks.ledger.under_way())
        else:
            told, under_way = await self._told(fresh, self._under_way)
            news = [each for each in told if each.task is None or self._under_way.get(each.task_id) != each.task]
        if self._position is not start:
            return 0.0
        self._position, self._under_way = changes.now, under_way
        self._seen = {each.task_id: each.number for each in found or () if each.number >= changes.now.number}
        for listener in self._listeners:
            if news is None:
                listener.reset(self._id(changes.now))
            else:
                listener.offer(news, self._id(changes.now))
        return _BREATH if found is None else PAUSE

    async def _told(
        self, changed: Sequence[TaskChange], under_way: Iterable[str]
    ) -> tuple[list[Told], dict[str, TaskView | None]]:
        """Tasks that have changed and those under way, as they are now; and of these the ones that still are."""
        wanted: dict[str, TaskChange | None] = {
            **dict.fromkeys(under_way),
            **{each.task_id: each for each in changed},
        }
        found = await self._tasks.ledger.listed(wanted)
        views = {view.id: view for view in await self._tasks.in_list(found)}
        told = [Told(row.id, row.subject_of, views[row.id]) for row, _ in found]
        told += [Told(each.task_id, each.subject, None) for each in changed if each.task_id not in views]
        still = {row.id: views[row.id] for row, _ in found if row.state in ("running", "cancelling")}
        return told, {**still}
