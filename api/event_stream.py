"""Server-sent events: what happens to tasks, and to one task with its log, as they leave for whoever listens.

https://html.spec.whatwg.org/multipage/server-sent-events.html is the form. Each event's data is one line of JSON, which
holds no line break of its own, whatever a name or a log says: nobody can forge an event by a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..core.errors import AutoScorerError
from ..schemas.task import TaskView
from ..service.prefect.model import Json
from ..service.task_events import Listener, Told
from ..service.tasks import TaskService
from .context import RequestContext
from .envelope import encode
from .outgoing import Outgoing

__all__ = ["EVENT_STREAM", "EventStream", "list_events", "task_events", "written"]

EVENT_STREAM = "text/event-stream"
# Seconds without news after which a comment says that the stream lives.
_HEARTBEAT = 10.0
# Milliseconds after which a browser connects again.
_RETRY = 2000
_STOPPED = "the server is being stopped"
_COMMENT = b": it lives\n"


def written(kind: str, data: Any) -> bytes:
    """An event, without the empty line that ends it: an id may follow.

    Args:
        kind: One of our words.
        data: JSON.
    """
    line = encode(data)
    assert b"\n" not in line and b"\r" not in line
    return b"event: %b\ndata: %b\n" % (kind.encode(), line)


def _at(position: str) -> bytes:
    return b"id: %b\n\n" % position.encode()


class EventStream(Response):
    """An answer that goes on for as long as its reader stays.

    Args:
        opened: Gives the parts of the stream for the time of the block. What it raises is the answer.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        super().__init__(media_type=EVENT_STREAM)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # Proxies that gather answers would hold events back.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        async with self._opened() as parts:
            await StreamingResponse(parts, headers=headers, media_type=EVENT_STREAM)(scope, receive, send)


async def list_events(listener: Listener, leaving: Outgoing, context: RequestContext) -> AsyncGenerator[bytes, None]:
    """What happens to the tasks that somebody may see, until they leave.

    Args:
        listener: Who listens.
        leaving: What they may see of each task.
        context: Of the request: whether its token is good still.
    """
    caller = context.caller
    seeing = None if caller is None else (caller.role, caller.team)
    hello = written("hello", {"position": listener.position, "resumed": listener.is_resumed})
    # Whoever came back has its position once they were told what they have missed.
    yield b"retry: %d\n" % _RETRY + hello + (b"\n" if listener.is_resumed else _at(listener.position))
    while True:
        news = await listener.news(_HEARTBEAT)
        if not context.is_still_valid():
            yield written("end", {"reason": "the token is not valid any more"}) + b"\n"
            return
        if news.is_reset:
            yield written("reset", {"position": news.position}) + _at(news.position)
        for number, told in enumerate(news.told, 1):
            event = told.written.get(seeing)
            if event is None:
                event = told.written[seeing] = _written(told, leaving)
            # With the last alone: whoever is cut off before it is told all of them once more.
            yield event + (_at(news.position) if number == len(news.told) else b"\n")
        if news.is_over:
            yield written("end", {"reason": _STOPPED}) + b"\n"
            return
        if not news.told and not news.is_reset:
            yield _COMMENT + _at(news.position)


def _written(told: Told, leaving: Outgoing) -> bytes:
    return written("gone", {"id": told.task_id}) if told.task is None else written("task", leaving.answer(told.task))


async def task_events(
    tasks: TaskService,
    task_id: str,
    listener: Listener,
    log: AsyncIterator[Json],
    leaving: Outgoing,
    context: RequestContext,
) -> AsyncGenerator[bytes, None]:
    """What happens to one task, and its log, until it has ended.

    Args:
        tasks: The task service.
        task_id: Which.
        listener: Is told when it changes.
        log: Its log as it grows (``task_logs.follow``).
        leaving: What whoever listens may see.
        context: Of the request: whether its token is good still.
    """
    view = _OneTask(tasks, task_id, leaving)
    yield b"retry: %d\n" % _RETRY + written("hello", {"position": listener.position, "resumed": False}) + b"\n"
    if (first := await view.now()) is not None:
        yield first
    async with aclosing(_merged(listener, log)) as happened:
        async for line in happened:
            if not context.is_still_valid():
                yield written("end", {"state": None, "reason": "the token is not valid any more"}) + b"\n"
                return
            kind = None if line is None else line.get("type")
            if kind == "log":
                told = leaving.event(line or {})
                if told is not None:
                    yield written("log", {key: value for key, value in told.items() if key != "type"}) + b"\n"
                continue
            changed = await view.now()
            if changed is not None:
                yield changed
            elif kind == "heartbeat":
                yield _COMMENT + b"\n"
            if kind == "end":
                end = leaving.event(line or {}) or {}
                yield written("end", {"state": end.get("state"), "reason": end.get("reason")}) + b"\n"
                return


class _OneTask:
    """A task as it was told last."""

    def __init__(self, tasks: TaskService, task_id: str, leaving: Outgoing) -> None:
        self._tasks, self._task_id, self._leaving = tasks, task_id, leaving
        self._last: TaskView | None = None

    async def now(self) -> bytes | None:
        """What is to be told of it; None where nothing has changed."""
        try:
            found = await self._tasks.view(self._task_id)
        except AutoScorerError:
            return None  # forgotten, or the ledger is away: the end of its log says so
        if found == self._last:
            return None
        self._last = found
        return written("task", self._leaving.answer(self._leaving.with_page(found))) + b"\n"


async def _merged(listener: Listener, log: AsyncIterator[Json]) -> AsyncGenerator[Json | None, None]:
    """The lines of a log, and None where its task has changed, as they come."""
    line: asyncio.Future[Json] | None = None
    change: asyncio.Future[Any] | None = None
    try:
        while True:
            line = line or asyncio.ensure_future(anext(log))
            change = change or asyncio.ensure_future(listener.news(_HEARTBEAT))
            await asyncio.wait((line, change), return_when=asyncio.FIRST_COMPLETED)
            if change.done():
                change = None
                yield None
            if line.done():
                try:
                    found = line.result()
                except StopAsyncIteration:
                    return
                except AutoScorerError as error:
                    found = {"type": "end", "state": None, "reason": str(error)}
                line = None
                yield found
    finally:
        left = [each for each in (line, change) if each is not None]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
