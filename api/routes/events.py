"""What happens to tasks, as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ...service.policy import Act
from ...service.task_events import TaskEvents
from ...service.task_logs import follow
from ..caller import Caller
from ..context import context_of, tasks_of
from ..event_stream import EVENT_STREAM, EventStream, list_events, task_events, written
from ..models import TASK_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers
from ..seeing import seen_task
from .tasks import MOST_FOLLOWERS, Anybody

__all__ = ["router"]

router = ApiRouter("tasks")

# Streams at once: all of them together ask the ledger once, and each holds a connection.
_MOST_STREAMS = 256
_POSITION = "81245-1795381200-9f3c21ab"
_EXAMPLE = b"".join(
    (
        b"retry: 2000\n",
        written("hello", {"position": _POSITION, "resumed": False}) + b"id: " + _POSITION.encode() + b"\n\n",
        written("task", {**TASK_EXAMPLE, "state": "running", "stage": "run"}) + b"id: 81252-1795381203-9f3c21ab\n\n",
        b": it lives\nid: 81252-1795381213-9f3c21ab\n\n",
        written("gone", {"id": TASK_EXAMPLE["id"]}) + b"id: 81260-1795381216-9f3c21ab\n\n",
    )
).decode()


@router.get(
    "/events",
    summary="What happens to tasks, as it happens",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, without an end; no envelope. Each has one line of JSON.",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **answers(404),
    },
)
async def events(
    request: Request,
    caller: Anybody,
    task: Annotated[
        str | None,
        Query(min_length=1, max_length=64, description="Of this task alone, with its log, until it has ended."),
    ] = None,
    after: Annotated[
        str | None,
        Query(
            max_length=100,
            description="The last id that was received: what has changed since is told first. As `Last-Event-ID`, "
            "which is stronger; not with `task`.",
        ),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The last id, as browsers send it.")
    ] = None,
) -> Response:
    """A stream of server-sent events about the tasks that the token may see: `task` with a task as `GET /tasks` lists
    it, whenever that has changed, and `gone` with the id of one that has left the list. `hello` comes first; `reset`
    says that more has changed than is told, so the list is to be asked for anew; `end`, that the stream ends, and why.
    With `task` it is about one task, as `GET /tasks/{task_id}` shows it, with the lines of its log as `log`, and ends
    when that has ended."""
    context_of(request).allow(None)
    if task is None:
        return EventStream(lambda: _of_all(request, caller, last_event_id or after))
    await seen_task(request, caller, task, Act.READ_LOGS)
    return EventStream(lambda: _of_one(request, caller, task))


@asynccontextmanager
async def _of_all(request: Request, caller: Caller, after: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
    state = request.app.state
    known: TaskEvents = state.events
    if known.number >= _MOST_STREAMS:
        raise _too_many(_MOST_STREAMS, "listen to events")
    async with (
        known.listening(caller, after=after) as listener,
        aclosing(list_events(listener, outgoing(request), context_of(request))) as parts,
    ):
        yield parts


@asynccontextmanager
async def _of_one(request: Request, caller: Caller, task_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    state, tasks = request.app.state, tasks_of(request)
    # They ask Prefect as often as other readers of logs.
    if state.streams >= MOST_FOLLOWERS:
        raise _too_many(MOST_FOLLOWERS, "follow logs")
    known: TaskEvents = state.events
    state.streams += 1
    try:
        async with (
            known.listening(caller, task_id=task_id) as listener,
            aclosing(follow(tasks, task_id, state.stopping)) as log,
            aclosing(task_events(tasks, task_id, listener, log, outgoing(request), context_of(request))) as parts,
        ):
            yield parts
    finally:
        state.streams -= 1


def _too_many(most: int, what: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.RATE_LIMITED,
        f"{most} readers {what} already. Try again later, or ask GET /tasks now and then.",
        details={"retry_after": 10},
    )
