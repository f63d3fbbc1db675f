"""A task of ``rag-score`` as the record of a job, which the first system's clients know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..schemas.rag import JobRecord, JobStatus, JudgedBy, MetricScore, RequestSummary, ScoreRequest, scores_of
from ..schemas.task import TaskState
from ..scorers.rag.evaluate import in_all
from ..tasks.rag import sample_of
from .ledger.records import StoredResult, TaskRow, iso

__all__ = ["STATUSES", "job_record"]

Json = dict[str, Any]

STATUSES: Mapping[TaskState, JobStatus] = {
    TaskState.QUEUED: "queued",
    TaskState.RUNNING: "running",
    TaskState.CANCELLING: "running",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "failed",
}


def job_record(
    row: TaskRow, left: StoredResult, *, whole: bool, so_far: Mapping[str, MetricScore] | None = None
) -> JobRecord:
    """A job as its callers see it.

    Args:
        row: Its task.
        left: What it left.
        whole: With all that is known of each metric; lists do without, and have the one number.
        so_far: The metrics that are done, of one that is under way.
    """
    result: Json = json.loads(left.result) if left.result else {}
    outcome: Json = json.loads(left.outcome) if left.outcome else {}
    metrics = {name: MetricScore.model_validate(each) for name, each in (result.get("metrics") or {}).items()}
    weighted, coverage = result.get("weighted_score", outcome.get("score")), result.get("coverage", 0.0)
    told = outcome.get("scores") or {}
    if so_far:
        request = json.loads(row.parameters)["request"]
        scores = in_all(sample_of(ScoreRequest.model_validate(request)), dict(so_far), request.get("weights"))
        metrics, weighted, coverage = scores.metrics, scores.weighted_score, scores.coverage
    skipped = {name: each.reason or "" for name, each in metrics.items() if each.status == "skipped"}
    error = json.loads(left.error) if left.error else None
    return JobRecord(
        job_id=row.id,
        status=STATUSES[TaskState(row.state)],
        created_at=iso(row.created_at),
        finished_at=iso(row.ended_at),
        caller=row.caller,
        request_summary=_summary(json.loads(row.request)),
        scores=scores_of(metrics) if metrics else told,
        weighted_score=weighted,
        coverage=coverage,
        latency_ms=result.get("latency_ms"),
        skipped_metrics=list(skipped),
        skip_reasons=skipped,
        error=None if error is None else f"{error['code']}: {error['message']}",
        metrics=metrics if whole else {},
        judged_by=JudgedBy.model_validate(result["judged_by"]) if whole and result.get("judged_by") else None,
        retry_of=row.retry_of,
    )


def _summary(request: Json) -> RequestSummary:
    return RequestSummary.model_validate(
        {name: request[name] for name in RequestSummary.model_fields if name in request}
    )
