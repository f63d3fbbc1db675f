"""Many workspaces, and who is best."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from ...flows.batches.leaderboard import to_csv
from ...schemas.task import BatchRequest, BatchView, TaskView
from ...service.batches.view import view_batch
from ..auth import check_backend
from ..context import tasks_of
from ..envelope import envelope, enveloped
from ..long_polling import accepted
from ..models import BATCH_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from ..seeing import seen_task
from .tasks import Anybody, IdempotencyKey, TaskId

__all__ = ["router"]

router = ApiRouter("batch")

_ROW = {
    "place": 1,
    "workspace": "round-1/team-a",
    "state": "completed",
    "metric": "f1_macro",
    "score": 0.93,
    "low": 0.9,
    "high": 0.95,
    "pass": True,
    "rank": "A",
    "seconds": 1.4,
    "error": None,
}
_VIEW = {
    "task": {**BATCH_EXAMPLE, "state": "running", "progress": {"done": 1, "total": 2}},
    "summary": {
        "total": 2,
        "done": 1,
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
        "duplicates": 0,
        "seconds": None,
    },
    "workspaces": [
        {
            "workspace": "round-1/team-a",
            "state": "completed",
            "score": 0.93,
            "pass": True,
            "rank": "A",
            "seconds": 1.4,
            "error": None,
        }
    ],
    "leaderboard": [_ROW],
}


_BOARD = served(200, list[dict[str, Any]], "Best first; as CSV with `format=csv` or `Accept: text/csv`.", [_ROW])


@router.post(
    "/batch",
    status_code=202,
    summary="Submit a batch",
    responses={
        **served(202, TaskView, "Accepted, and on disk.", BATCH_EXAMPLE, of_task=True),
        **answers(404, 409),
    },
)
async def submit_batch(
    request: Request,
    body: Annotated[
        BatchRequest, Body(examples=[{"workspaces": ["round-1", "late/team-*"], "action": "score", "concurrency": 4}])
    ],
    caller: Anybody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Work on many workspaces as one task; what fails of one stops none of the others."""
    check_backend(tasks_of(request).settings, caller, body.backend)
    submitted = await tasks_of(request).submit(body, caller=caller, idempotency_key=idempotency_key)
    return accepted(request, submitted)


@router.get(
    "/batch/{task_id}",
    summary="One batch",
    responses={**served(200, BatchView, "The batch as it is now.", _VIEW), **answers(404)},
)
async def get_batch(request: Request, caller: Anybody, task_id: TaskId) -> Response:
    """Summary, what became of each workspace so far, and the leaderboard."""
    await seen_task(request, caller, task_id)
    return envelope(request, await view_batch(tasks_of(request), task_id))


@router.get(
    "/batch/{task_id}/leaderboard",
    summary="A batch's leaderboard",
    responses={
        200: {
            **_BOARD[200],
            "content": {
                **_BOARD[200]["content"],
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "place,workspace,state,metric,score,low,high,pass,rank,seconds,error\r\n"
                    "1,round-1/team-a,completed,f1_macro,0.93,0.9,0.95,true,A,1.4,\r\n",
                },
            },
        },
        **answers(404),
    },
)
async def get_leaderboard(
    request: Request,
    caller: Anybody,
    task_id: TaskId,
    format: Annotated[Literal["json", "csv"] | None, Query()] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Who is best, as JSON, or as CSV with `format=csv` or `Accept: text/csv`.

    Texts that a spreadsheet would take for formulas have an apostrophe before them.
    """
    await seen_task(request, caller, task_id)
    rows = outgoing(request).answer(await view_batch(tasks_of(request), task_id))["leaderboard"]
    if format == "csv" or (format is None and "text/csv" in accept.lower()):
        content = to_csv(rows).encode("utf-8", "backslashreplace")
        headers = {"Content-Disposition": 'attachment; filename="leaderboard.csv"', "Vary": "Accept"}
        return Response(content, headers=headers, media_type="text/csv")
    return enveloped(request, rows, headers={"Vary": "Accept"})
