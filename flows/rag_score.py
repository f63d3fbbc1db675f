"""The flow of one answer: ``rag_score``. Our own worker asks the judges for many of them in one process instead."""

# No ``from __future__ import annotations`` here, as in ``pipeline.py``.
import asyncio
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from ..core.errors import AutoScorerError
from ..core.flowruns import FlowRunFiles
from ..scorers.judge.runtime import open_judges
from ..tasks.parameters import parsed
from ..tasks.prefect.context import current
from ..tasks.prefect.states import failed_state
from ..tasks.rag import RagJob, Scored, outcome_of_scores, score_answer
from .artifacts import creating, publish
from .final_state import persist_outcome
from .rag_artifacts import job_artifacts

__all__ = ["rag_score"]


def _run_name() -> str:
    request = flow_run.parameters.get("request")
    question = request.get("question") if isinstance(request, dict) else None
    return str(question or "rag-score")[:80]


@flow(
    name="rag-score",
    description="Score one answer of a retrieval-augmented system.",
    flow_run_name=_run_name,
    persist_result=False,
)
def rag_score(
    request: Annotated[
        dict[str, Any],
        Field(
            title="Request", description="question, answer, contexts, ground_truth, metrics, judge_model, weights, …"
        ),
    ],
    known: Annotated[
        dict[str, Any] | None, Field(title="Known", description="Metrics that need not be scored again.")
    ] = None,
    caller: Annotated[str, Field(title="Caller", description="Whose budget it is.")] = "",
) -> Any:
    """Score one answer.

    Args:
        request: As ``POST /api/score`` takes it.
        known: Metrics that need not be scored again.
        caller: Whose budget it is.

    Returns:
        All metrics, and the weighted score.
    """
    settings = current().settings
    assert settings is not None
    files = FlowRunFiles(settings.home, str(flow_run.id)) if flow_run.id else None

    async def score() -> Scored:
        job = parsed(RagJob, {"request": request, "known": known or {}, "caller": caller})
        async with open_judges(settings) as runtime:
            if files is None:
                return await score_answer(job, runtime)
            return await score_answer(
                job,
                runtime,
                journal=files.member_outcomes(),
                on_total=files.set_total,
                on_metric=files.add_member_outcome,
            )

    try:
        outcome = outcome_of_scores(asyncio.run(score()))
    except AutoScorerError as error:
        return persist_outcome(failed_state(error))
    if outcome["error"] is not None:
        return persist_outcome(failed_state(AutoScorerError.from_dict(outcome["error"])))
    ended = persist_outcome(Completed(message=outcome["message"], data=outcome["data"]))
    publish(*creating(job_artifacts(settings, str(flow_run.id), request, outcome["data"])))
    return ended
