"""Notes on a task, and the labels that they come to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Body, Path, Query
from pydantic import AfterValidator
from starlette.requests import Request
from starlette.responses import Response

from ...schemas.json_values import plain_text
from ...schemas.note import NoteBody, NotePage, NoteView
from ...service.labels import labels_of
from ...service.notes import delete_note, list_notes, write_note
from ...service.policy import Act
from ...service.task_samples import check_sees_samples
from ..context import tasks_of
from ..envelope import encode, envelope
from ..openapi_records import NOTE_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from ..seeing import seen_task
from .tasks import Anybody, TaskId

__all__ = ["router"]

router = ApiRouter("samples and notes")

NoteId = Annotated[str, Path(min_length=1, max_length=64, examples=[NOTE_EXAMPLE["id"]])]
_NDJSON = "application/x-ndjson"
_BODIES: dict[str, Any] = {
    "task": {"summary": "On the task", "value": {"text": "The model was trained on half of the data."}},
    "sample": {
        "summary": "On a sample",
        "value": {"text": "The ground truth is wrong.", "sample": "r017", "verdict": "disagree"},
    },
    "answer": {
        "summary": "On what a judge said of an answer",
        "value": {"sample": "q17", "metric": "faithfulness", "verdict": "agree"},
    },
}
_LABEL = {
    "sample": {"question": "Capital of France?", "answer": "Paris.", "contexts": ["Paris is the capital."]},
    "metric": "faithfulness",
    "label": True,
}


@router.post(
    "/tasks/{task_id}/notes",
    status_code=201,
    summary="Write a note on a task",
    responses={**served(201, NoteView, "It is kept; or it was there already.", NOTE_EXAMPLE), **answers(404, 409)},
)
async def add_note(
    request: Request, caller: Anybody, task_id: TaskId, body: Annotated[NoteBody, Body(openapi_examples=_BODIES)]
) -> Response:
    """Keep what somebody says of a task or of one of its samples. Notes by those who see the ground truth are shown to
    those alone; others to whoever may see the task. They leave with the task. A token may write 100 on each."""
    await seen_task(request, caller, task_id, Act.ANNOTATE)
    sees_truth = outgoing(request).sees_truth
    note = await write_note(tasks_of(request).ledger, task_id, body, caller, sees_truth=sees_truth)
    return envelope(request, note, status=201)


@router.get(
    "/tasks/{task_id}/notes",
    summary="The notes on a task",
    responses={
        **served(200, NotePage, "One page.", {"notes": [NOTE_EXAMPLE], "total": 1, "next_cursor": None}),
        **answers(404),
    },
)
async def get_notes(
    request: Request,
    caller: Anybody,
    task_id: TaskId,
    sample: Annotated[
        str | None,
        Query(min_length=1, max_length=1000, description="Only those about this one."),
        AfterValidator(plain_text),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Those that the token may see, the oldest first."""
    await seen_task(request, caller, task_id)
    page = await list_notes(
        tasks_of(request).ledger,
        task_id,
        caller,
        sees_truth=outgoing(request).sees_truth,
        sample=sample,
        limit=limit,
        cursor=cursor,
    )
    return envelope(request, page)


@router.delete(
    "/tasks/{task_id}/notes/{note}",
    summary="Delete a note",
    responses={**served(200, NoteView, "It is gone; this was it.", NOTE_EXAMPLE), **answers(404)},
)
async def remove_note(request: Request, caller: Anybody, task_id: TaskId, note: NoteId) -> Response:
    """Delete a note that this token wrote; an admin's deletes any."""
    await seen_task(request, caller, task_id, Act.ANNOTATE)
    sees_truth = outgoing(request).sees_truth
    return envelope(request, await delete_note(tasks_of(request).ledger, task_id, note, caller, sees_truth=sees_truth))


@router.get(
    "/tasks/{task_id}/labels",
    summary="Notes as labels for a judge's calibration",
    response_class=Response,
    responses={
        200: {
            "description": "JSON lines, as `autoscorer judge calibrate` reads them; none where no note comes to one.",
            "content": {_NDJSON: {"schema": {"type": "string"}, "example": encode(_LABEL).decode() + "\n"}},
        },
        **answers(404),
    },
)
async def get_labels(
    request: Request,
    caller: Anybody,
    task_id: TaskId,
    threshold: Annotated[float, Query(ge=0, le=1, description="Scores of a judge from here on are a yes.")] = 0.5,
) -> Response:
    """Who agrees with a judge's verdict on an answer says the same, and who disagrees the opposite. Of a task of the
    scorer `rag`, for tokens that may see the ground truth; notes of others count for nothing."""
    await seen_task(request, caller, task_id, Act.READ_ARTIFACTS)
    check_sees_samples(outgoing(request).sees_truth)
    tasks = tasks_of(request)
    task = await tasks.get(task_id)
    notes = await tasks.ledger.verdicts(task_id)
    labels = await asyncio.to_thread(labels_of, tasks.roots, task, notes, threshold=threshold)
    return Response(b"".join(encode(each) + b"\n" for each in labels), media_type=_NDJSON)
