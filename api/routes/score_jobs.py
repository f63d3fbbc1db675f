"""Score one answer of a retrieval-augmented system: the first system's addresses and shapes, without an envelope."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Depends, Path, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from ...schemas.rag import JobPage, JobRecord, JobRequest, ScoreRequest
from ...service.policy import Act
from ...service.score_jobs import JobQuery, ScoreJobs
from ..auth import require
from ..caller import Caller
from ..context import context_of, tasks_of
from ..envelope import JSON, encode
from ..long_polling import seconds_to_wait, until_final
from ..routing import ApiRouter, answers, bare
from .tasks import IdempotencyKey, Moment, aware

__all__ = ["router"]

router = ApiRouter("score jobs")

Asker = Annotated[Caller, Depends(require(Act.SCORE_ANSWERS))]
JobId = Annotated[str, Path(min_length=1, max_length=64, examples=["0190f2d49c0e7d118a6b5c4d3e2f1a0b"])]
_REQUEST = {
    "question": "What is the capital of France?",
    "answer": "Paris is the capital of France.",
    "contexts": ["Paris is the capital and largest city of France."],
    "ground_truth": "Paris.",
    "metrics": ["token_f1", "grounded_token_ratio"],
}
_ACCEPTED = {"job_id": "0190f2d49c0e7d118a6b5c4d3e2f1a0b", "status": "queued"}
_RECORD: dict[str, Any] = {
    **_ACCEPTED,
    "status": "completed",
    "created_at": "2026-11-22T21:00:00.000Z",
    "finished_at": "2026-11-22T21:00:01.000Z",
    "caller": "submit-1f2e3d4c",
    "request_summary": {
        "question": "What is the capital of France?",
        "answer": "Paris is the capital of France.",
        "metrics": ["token_f1", "grounded_token_ratio"],
        "has_contexts": True,
        "has_ground_truth": True,
    },
    "scores": {"token_f1": 0.3333, "grounded_token_ratio": 1.0},
    "weighted_score": 0.6667,
    "coverage": 1.0,
    "latency_ms": 3.2,
    "skipped_metrics": [],
    "skip_reasons": {},
    "error": None,
}
Asked = Annotated[ScoreRequest, Body(examples=[_REQUEST])]


class Accepted(BaseModel):
    """That a job was accepted."""

    model_config = ConfigDict(extra="forbid")

    job_id: str
    status: Literal["queued", "running", "completed", "failed"] = "queued"


@router.post(
    "/api/score",
    summary="Score one answer, and wait",
    responses={
        **bare(200, JobRecord, "It has ended; `status` says how.", _RECORD),
        **bare(202, JobRecord, "It has not ended yet; ask `GET /api/score/jobs/{job_id}`.", _RECORD),
        **answers(409),
    },
)
async def score(
    request: Request,
    body: Asked,
    caller: Asker,
    wait: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Seconds to wait; as long as may be when absent."),
    ] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Score one answer. A metric that lacks an input is skipped, and one that fails fails no other."""
    most: float = request.app.state.settings.api.max_wait
    seconds = most if wait is None else seconds_to_wait(request, wait)
    jobs = _jobs(request)
    record, _ = await jobs.submit(body, caller=caller, idempotency_key=idempotency_key)
    context_of(request).task_id = record.job_id
    if record.finished_at is None and seconds:
        await until_final(request, record.job_id, seconds)
    record = await jobs.get(record.job_id, caller=caller)
    return _answer(request, record, status=202 if record.finished_at is None else 200)


@router.post(
    "/api/score/async",
    status_code=202,
    summary="Score one answer later",
    responses={**bare(202, Accepted, "It is on disk, and will be scored.", _ACCEPTED), **answers(409)},
)
async def score_later(request: Request, body: Asked, caller: Asker, idempotency_key: IdempotencyKey = None) -> Response:
    """Accept a job at once. The same request sent again within `api.dedup_seconds`, or with the same `Idempotency-Key`,
    is answered with the same job."""
    record, _ = await _jobs(request).submit(body, caller=caller, idempotency_key=idempotency_key)
    context_of(request).task_id = record.job_id
    return _accepted(request, record)


@router.get(
    "/api/score/jobs",
    summary="List jobs",
    responses=bare(200, JobPage, "One page.", {"jobs": [_RECORD], "total": 1, "next_cursor": None}),
)
async def list_jobs(
    request: Request,
    caller: Asker,
    status: Annotated[Literal["queued", "running", "completed", "failed"] | None, Query()] = None,
    metric: Annotated[str | None, Query(max_length=100, description="Jobs that were asked for this metric.")] = None,
    q: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Part of a question or an answer.")
    ] = None,
    since: Annotated[Moment | None, Query(description="Created then or later; UTC where no zone is given.")] = None,
    until: Annotated[Moment | None, Query(description="Created before then.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Jobs, newest first, in short. A token of the role submit is shown its own."""
    query = JobQuery(status, metric, q, aware(since), aware(until), limit, cursor)
    return _answer(request, await _jobs(request).list(query, caller=caller))


@router.get(
    "/api/score/jobs/{job_id}",
    summary="One job",
    responses={**bare(200, JobRecord, "The job as it is now.", _RECORD), **answers(404)},
)
async def get_job(request: Request, caller: Asker, job_id: JobId) -> Response:
    """Scores as they come, and why; with claims, tokens and cost of each metric."""
    context_of(request).task_id = job_id
    return _answer(request, await _jobs(request).get(job_id, caller=caller))


@router.get(
    "/api/score/jobs/{job_id}/request",
    summary="What a job was asked for",
    responses={**bare(200, JobRequest, "In full.", _REQUEST), **answers(404)},
)
async def get_request(request: Request, caller: Asker, job_id: JobId) -> Response:
    """Question, answer, contexts and ground truth in full, and what was chosen. 404 also where nobody has kept them."""
    context_of(request).task_id = job_id
    return _answer(request, await _jobs(request).request(job_id, caller=caller))


@router.delete(
    "/api/score/jobs/{job_id}",
    summary="Cancel or remove a job",
    responses={**bare(200, JobRecord, "The job as it was, or is.", _RECORD), **answers(404, 409)},
)
async def remove_job(request: Request, caller: Asker, job_id: JobId) -> Response:
    """Cancel a job that has not ended; forget one that has."""
    context_of(request).task_id = job_id
    return _answer(request, await _jobs(request).remove(job_id, caller=caller))


@router.post(
    "/api/score/jobs/{job_id}/retry",
    status_code=202,
    summary="Score again what failed",
    responses={**bare(202, Accepted, "A new job.", _ACCEPTED), **answers(404, 409)},
)
async def retry_job(request: Request, caller: Asker, job_id: JobId, idempotency_key: IdempotencyKey = None) -> Response:
    """A new job that scores what failed in one that has ended, and takes the rest over from it."""
    record, _ = await _jobs(request).retry(job_id, caller=caller, idempotency_key=idempotency_key)
    context_of(request).task_id = record.job_id
    return _accepted(request, record)


def _jobs(request: Request) -> ScoreJobs:
    tasks_of(request)
    jobs: ScoreJobs = request.app.state.score_jobs
    return jobs


def _accepted(request: Request, record: JobRecord) -> Response:
    headers = {"Location": f"/api/score/jobs/{record.job_id}"}
    return _answer(request, Accepted(job_id=record.job_id, status=record.status), status=202, headers=headers)


def _answer(request: Request, data: BaseModel, *, status: int = 200, headers: Any = None) -> Response:
    told = request.app.state.roots.redact(data.model_dump(mode="json"))
    return Response(encode(told), status, headers, media_type=JSON)
