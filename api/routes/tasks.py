"""Submit tasks, follow, cancel and repeat them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Body, Depends, Header, Path, Query
from pydantic import StringConstraints, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import Action, SubmitRequest, TaskList, TaskSort, TaskState, TaskView
from ...service.policy import Act, scope_of
from ...service.prefect.client import PAGE
from ...service.task_logs import LogPage, follow, read_page
from ...service.tasks import TaskQuery
from ..auth import check_backend, require
from ..caller import Caller
from ..context import context_of, tasks_of
from ..envelope import encode, envelope
from ..long_polling import accepted
from ..models import SUBMIT_EXAMPLES, TASK_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from ..seeing import seen_task

__all__ = ["MOST_FOLLOWERS", "Anybody", "IdempotencyKey", "Moment", "TaskId", "aware", "router"]

router = ApiRouter("tasks")

# Whoever has a token: each thing that is asked for is held against the policy.
Anybody = Annotated[Caller, Depends(require())]
TaskId = Annotated[str, Path(min_length=1, max_length=64, examples=[TASK_EXAMPLE["id"]])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A word of your choice. The same word again within a day answers with the first's task.",
    ),
]

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?", re.ASCII)


def _moment(value: Any, parse: ValidatorFunctionWrapHandler) -> datetime:
    # pydantic would also take a number, for seconds or milliseconds since 1970, by its size.
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            moment: datetime = parse(value)
            return moment
    except ValidationError:
        pass
    raise ValueError(
        "expected a date or time of ISO 8601, such as 2026-11-28 or 2026-11-28T17:00:00Z; in a URL a + is written %2B"
    )


Moment = Annotated[datetime, WrapValidator(_moment)]

# Followers at once: each asks Prefect every second.
MOST_FOLLOWERS = 64
_NDJSON = "application/x-ndjson"
_RECORD = {"time": "2026-11-22T21:00:01Z", "level": "info", "source": "flow", "message": "stage run"}
_LOG = served(
    200,
    LogPage,
    "Records; with `follow`, a stream of JSON objects, one a line.",
    {"records": [_RECORD], "next_offset": None},
)


@router.post(
    "/submit",
    status_code=202,
    summary="Submit a task",
    responses={
        **served(
            202, TaskView, "Accepted, and on disk; or the task that was there already.", TASK_EXAMPLE, of_task=True
        ),
        **answers(404, 409),
    },
)
async def submit(
    request: Request,
    body: Annotated[SubmitRequest, Body(openapi_examples=SUBMIT_EXAMPLES)],
    caller: Anybody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept a task. A workspace has one active task for each action: a second submit answers with that one, and
    the header `X-Task-Created` is `false`."""
    check_backend(tasks_of(request).settings, caller, body.backend)
    submitted = await tasks_of(request).submit(body, caller=caller, idempotency_key=idempotency_key)
    return accepted(request, submitted)


@router.get(
    "/tasks",
    summary="List tasks",
    responses=served(
        200, TaskList, "One page.", {"tasks": [TASK_EXAMPLE], "next_cursor": None, "total": 1, "before": 0}
    ),
)
async def list_tasks(
    request: Request,
    caller: Anybody,
    state: Annotated[list[TaskState] | None, Query(description="Any of these; may be given several times.")] = None,
    workspace: Annotated[str | None, Query(min_length=1, max_length=4096)] = None,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Part of a name, whatever its case: of the workspace or the job; of a batch what it was asked "
            "to work on, and its members once it has ended. Members themselves are found where they are listed.",
        ),
    ] = None,
    scorer: Annotated[list[Name] | None, Query(description="Any of these; may be given several times.")] = None,
    action: Annotated[list[Action] | None, Query(description="Any of these; may be given several times.")] = None,
    passed: Annotated[
        bool | None, Query(alias="pass", description="The Result's verdict, `outcome.pass`; without one neither.")
    ] = None,
    benchmark: Annotated[str | None, Query(min_length=1, max_length=4096, description="Of its submissions.")] = None,
    team: Annotated[str | None, Query(min_length=1, max_length=64, description="Of its submissions.")] = None,
    flow_run: Annotated[
        str | None, Query(min_length=1, max_length=64, description="The task of this flow run of Prefect's.")
    ] = None,
    parent: Annotated[
        str | None,
        Query(min_length=1, max_length=64, description="A batch's id: its members alone, one for each outcome."),
    ] = None,
    members: Annotated[
        bool, Query(description="Members of batches as well, among the rest; without it they are left out.")
    ] = False,
    since: Annotated[
        Moment | None,
        Query(description="Created then or later: a date or time of ISO 8601; UTC where no zone is given."),
    ] = None,
    until: Annotated[Moment | None, Query(description="Created before then; as `since`.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    sort: Annotated[
        TaskSort,
        Query(
            description="From the least up, and with a leading `-` from the greatest down: `-created` is the newest "
            "first. `name` is the workspace's, or what is shown in its place; `seconds` is `run_seconds`; `score` is "
            "compared as it is shown, whatever its metric. What has no such value comes last either way, equal ones "
            "are in the order of `created`."
        ),
    ] = "-created",
    cursor: Annotated[
        str | None,
        Query(
            max_length=2000,
            description="`next_cursor` of the page before: of the same `sort`, the same filters and the same token.",
        ),
    ] = None,
) -> Response:
    """Tasks without their results, the newest first unless `sort` says otherwise: those that the token may see. What
    became of a batch's workspaces is listed with `parent` or `members`."""
    query = TaskQuery(
        states=tuple(state or ()),
        workspace=workspace,
        name=q,
        scorers=tuple(scorer or ()),
        actions=tuple(action or ()),
        passed=passed,
        benchmark=benchmark,
        team=team,
        flow_run=flow_run,
        parent=parent,
        members=members,
        since=aware(since),
        until=aware(until),
        limit=limit,
        cursor=cursor,
        sort=sort,
    )
    digits = outgoing(request).digits
    return envelope(request, await tasks_of(request).list(query, scope=scope_of(caller), digits=digits))


@router.get(
    "/tasks/{task_id}",
    summary="One task",
    responses={**served(200, TaskView, "The task as it is now.", TASK_EXAMPLE), **answers(404)},
)
async def get_task(request: Request, caller: Anybody, task_id: TaskId) -> Response:
    """State, stage and progress; the Result or the error once it has ended."""
    await seen_task(request, caller, task_id)
    task = await tasks_of(request).get(task_id)
    return envelope(request, outgoing(request).with_page(task))


@router.post(
    "/tasks/{task_id}/cancel",
    summary="Cancel a task",
    responses={
        **served(200, TaskView, "It is being cancelled, or has been.", {**TASK_EXAMPLE, "state": "cancelling"}),
        **answers(404, 409),
    },
)
async def cancel_task(request: Request, caller: Anybody, task_id: TaskId) -> Response:
    """End a task; its container is gone within ten seconds. Cancelling twice is not an error, cancelling what has
    ended otherwise is a conflict."""
    await seen_task(request, caller, task_id, Act.CANCEL)
    return envelope(request, await tasks_of(request).cancel(task_id))


@router.post(
    "/tasks/{task_id}/retry",
    status_code=202,
    summary="Repeat a task",
    responses={
        **served(
            202,
            TaskView,
            "A new task that does the same.",
            {**TASK_EXAMPLE, "retry_of": "0190f2d49c0e7d118a6b5c4d3e2f1a0b"},
            of_task=True,
        ),
        **answers(404, 409),
    },
)
async def retry_task(
    request: Request, caller: Anybody, task_id: TaskId, idempotency_key: IdempotencyKey = None
) -> Response:
    """Do once more, as a new task, what a task that has ended was asked for."""
    await seen_task(request, caller, task_id, Act.RETRY)
    tasks = tasks_of(request)
    again = await tasks.get(task_id)
    check_backend(tasks.settings, caller, again.backend)
    submitted = await tasks.retry(task_id, caller=caller, idempotency_key=idempotency_key)
    return accepted(request, submitted)


@router.get(
    "/tasks/{task_id}/logs",
    summary="A task's log",
    responses={
        200: {
            **_LOG[200],
            "content": {
                **_LOG[200]["content"],
                _NDJSON: {
                    "schema": {"type": "string"},
                    "example": "".join(
                        encode(event).decode() + "\n"
                        for event in (
                            {"type": "log", **_RECORD},
                            {"type": "heartbeat", "state": "running", "stage": "run"},
                            {"type": "end", "state": "completed", "reason": None},
                        )
                    ),
                },
            },
        },
        **answers(404),
    },
)
async def task_logs(
    request: Request,
    caller: Anybody,
    task_id: TaskId,
    follow_: Annotated[
        bool,
        Query(
            alias="follow",
            description="Stream the log until the task has ended: lines of the types log, heartbeat and end.",
        ),
    ] = False,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="Records to leave out; not with follow.")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE, description="Most records; not with follow.")] = PAGE,
) -> Response:
    """What the task's flow run recorded, and what its model wrote."""
    await seen_task(request, caller, task_id, Act.READ_LOGS)
    if follow_:
        return await _stream(request, task_id)
    return envelope(request, await read_page(tasks_of(request), task_id, offset, limit))


async def _stream(request: Request, task_id: str) -> Response:
    state = request.app.state
    if state.streams >= MOST_FOLLOWERS:
        raise AutoScorerError(
            ErrorCode.RATE_LIMITED,
            f"{MOST_FOLLOWERS} readers follow logs already. Try again later, or ask without follow.",
            details={"retry_after": 10},
        )
    tasks = tasks_of(request)
    await tasks.get(task_id)  # a task that is not there is an error, not a stream
    context_of(request).allow(None)
    leaving = outgoing(request)
    events = follow(tasks, task_id, state.stopping)

    async def lines() -> AsyncIterator[bytes]:
        state.streams += 1
        try:
            async for event in events:
                told = leaving.event(event)
                if told is not None:
                    yield encode(told) + b"\n"
        except AutoScorerError as error:
            yield encode(leaving.event({"type": "end", "state": None, "reason": str(error)})) + b"\n"
        finally:
            state.streams -= 1

    # Proxies that gather answers would hold lines back.
    return StreamingResponse(lines(), media_type=_NDJSON, headers={"X-Accel-Buffering": "no"})


def aware(moment: datetime | None) -> Any:
    """A time with its zone: UTC where none was given."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
