"""The samples of a task, and two tasks held against each other."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.comparison import Change, Comparison, ComparisonNote
from ...schemas.samples import SamplePage, SampleVerdict
from ...schemas.task import TaskView
from ...service.comparing import compare, has_result
from ...service.comparing_samples import changes_between
from ...service.policy import Act
from ...service.task_samples import KeptSamples, check_sees_samples, page_of, place_of, read_samples
from ..caller import Caller
from ..context import tasks_of
from ..envelope import envelope
from ..openapi_records import COMPARISON_EXAMPLE, SAMPLES_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from ..seeing import seen_task
from .tasks import Anybody, TaskId

__all__ = ["router"]

router = ApiRouter("samples and notes")

Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=20, description="`next_cursor` of the page before.")]
ComparedId = Annotated[str, Query(min_length=1, max_length=64, description="A task's id.")]


@router.get(
    "/tasks/{task_id}/samples",
    summary="The samples of a task",
    responses={**served(200, SamplePage, "One page.", SAMPLES_EXAMPLE), **answers(404)},
)
async def list_samples(
    request: Request,
    caller: Anybody,
    task_id: TaskId,
    verdict: Annotated[SampleVerdict | None, Query(description="Only those; numbers have no verdict.")] = None,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Part of an id, a prediction, a truth or a question, whatever its case.",
        ),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """What was predicted and what was expected, row by row, the wrong ones first. Takes a token that may see the ground
    truth: whether a row is right tells of it. `kept` says how many of the `total` are kept."""
    await seen_task(request, caller, task_id, Act.READ_ARTIFACTS)
    check_sees_samples(outgoing(request).sees_truth)
    place_of(cursor)
    task = await tasks_of(request).get(task_id)

    def read() -> SamplePage:
        kept = read_samples(tasks_of(request).roots, task)
        return page_of(task, kept, verdict=verdict, text=q, limit=limit, cursor=cursor)

    return envelope(request, await asyncio.to_thread(read))


@router.get(
    "/compare",
    summary="Compare two tasks",
    responses={**served(200, Comparison, "The two side by side.", COMPARISON_EXAMPLE), **answers(404)},
)
async def compare_tasks(
    request: Request,
    caller: Anybody,
    a: ComparedId,
    b: ComparedId,
    change: Annotated[
        Change | None,
        Query(description="Of samples only those: wrong then right, right then wrong, or another prediction."),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Scores, metrics with both intervals, params and provenance of two tasks side by side, and the samples of which
    they say something else. `notes` say why scores do not compare. Nothing is said of chance: no test is made."""
    place_of(cursor)
    leaving = outgoing(request)
    tasks = [leaving.task(await _scored(request, caller, each)) for each in (a, b)]
    compared = compare(*tasks)
    if not leaving.sees_truth:
        text = "Single samples tell of the ground truth, which your token may not see."
        return envelope(request, _noting(compared, ComparisonNote(code="samples_hidden", text=text)))

    def read() -> Comparison:
        try:
            kept = [read_samples(tasks_of(request).roots, task) for task in tasks]
        except AutoScorerError as error:
            return _noting(compared, ComparisonNote(code="samples_not_kept", text=error.message))
        changes = changes_between(*kept, change=change, limit=limit, cursor=cursor)
        told = compared.model_copy(update={"samples": changes})
        return told if all(map(_is_whole, kept)) else _noting(told, _partly(*kept))

    return envelope(request, await asyncio.to_thread(read))


async def _scored(request: Request, caller: Caller, task_id: str) -> TaskView:
    await seen_task(request, caller, task_id, Act.READ_ARTIFACTS)
    task = await tasks_of(request).get(task_id)
    if not has_result(task):
        raise AutoScorerError(
            ErrorCode.NOT_FOUND, f"The task {task.id} has no Result; GET /tasks/{task.id} says what it came to."
        )
    return task


def _is_whole(kept: KeptSamples) -> bool:
    return len(kept.samples) == kept.total


def _partly(a: KeptSamples, b: KeptSamples) -> ComparisonNote:
    counts = " and ".join(f"{len(each.samples):,} of {each.total:,}" for each in (a, b))
    text = f"Not all samples are kept, but {counts}; only those that are kept of both are compared."
    return ComparisonNote(code="samples_partly", text=text)


def _noting(compared: Comparison, note: ComparisonNote) -> Comparison:
    return compared.model_copy(update={"notes": [*compared.notes, note]})
