"""Jobs that score one answer, as the worker leaves them in the ledger."""

from __future__ import annotations

from typing import Any

from autoscorer.schemas.rag import ClaimVerdict, JudgedBy, MetricScore, RequestSummary, ScoreRequest
from autoscorer.schemas.task import TaskState
from autoscorer.scorers.rag.evaluate import in_all
from autoscorer.tasks.rag import result_of_scores, sample_of

from .records_page import Done

__all__ = ["FAITHFUL", "JUDGED_BY", "job", "scores"]

FAITHFUL = MetricScore(
    score=0.5,
    claims=[
        ClaimVerdict(text="Paris is the capital of France.", verdict=True, reason="Passage [1] says so."),
        ClaimVerdict(text="It has <b>nine</b> million inhabitants.", verdict=False, reason="No passage tells."),
    ],
    calls=3,
    cached=1,
    prompt_tokens=1200,
    completion_tokens=240,
    cost=0.00042,
    ms=812.4,
)
JUDGED_BY = JudgedBy(
    models={"judge": "main: large"},
    prompts={"claims": "ab" * 32, "faithfulness": "cd" * 32},
    calibrated={"faithfulness": "2026-11-20T10:00:00.000Z"},
)


def scores(**values: float) -> dict[str, MetricScore]:
    """Metrics that have these scores, and nothing else to say."""
    return {name: MetricScore(score=value) for name, value in values.items()}


def job(
    name: str,
    question: str,
    *,
    state: TaskState | None = TaskState.COMPLETED,
    caller: str = "someone",
    judged_by: JudgedBy | None = None,
    error: dict[str, Any] | None = None,
    request: dict[str, Any] | None = None,
    **metrics: MetricScore,
) -> Done:
    """A job as the worker leaves it.

    Args:
        name: It is known by it in the test alone.
        question: What the system was asked.
        state: How it ended; None for one that waits.
        caller: Who asked.
        judged_by: Who was asked.
        error: Of one that failed.
        request: What stands in the request beside the usual.
        metrics: What its metrics came to; none leave no result.
    """
    usual = {"answer": "Paris.", "contexts": ["Paris is it."], "judge_model": "large"}
    asked = ScoreRequest(question=question, **{**usual, **(request or {})})
    if state is TaskState.FAILED and error is None:
        error = {"code": "JUDGE_ERROR", "message": "Every metric failed.", "stage": "scoring", "details": {}}
    result = result_of_scores(in_all(sample_of(asked), dict(metrics), asked.weights), 812.5, judged_by)
    return Done(
        name,
        state,
        "rag-score",
        result if metrics else None,
        error,
        {
            "subject": name,
            "caller": caller,
            "request": RequestSummary.of(asked, [*metrics] or ["faithfulness"]).model_dump(mode="json"),
            "parameters": {"request": asked.model_dump(mode="json", exclude_none=True), "caller": caller},
        },
    )
