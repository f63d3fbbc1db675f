"""Score one answer of a retrieval-augmented system: what a flow run of ``rag-score`` does, wherever it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.rag import JudgedBy, MetricScore, SampleScores, ScoreRequest, scores_of
from ..scorers.judge.runtime import JudgeRuntime
from ..scorers.rag.calibrated import judged_by
from ..scorers.rag.catalogue import check_metrics
from ..scorers.rag.evaluate import evaluate, requested
from ..scorers.rag.run import models_of
from ..scorers.rag.sample import Sample

__all__ = ["RagJob", "known_scores", "outcome_of_scores", "result_of_scores", "sample_of", "score_answer"]

Json = dict[str, Any]


class RagJob(BaseModel):
    """The parameters of a flow run of ``rag-score``; they come from anybody who may talk to Prefect."""

    model_config = ConfigDict(extra="forbid")

    request: ScoreRequest
    known: dict[str, MetricScore] = Field(
        default_factory=dict, description="Metrics that need not be scored again: what a job had that this one repeats."
    )
    caller: str = Field("", max_length=200, description="Whose budget it is.")


def sample_of(request: ScoreRequest) -> Sample:
    """The answer that a request is about."""
    contexts = None if request.contexts is None else tuple(request.contexts)
    return Sample(request.question, request.answer, contexts, request.ground_truth)


@dataclass(frozen=True)
class Scored:
    """What an answer came to.

    Attributes:
        scores: All of its metrics.
        seconds: That it took.
        judged_by: Who was asked; None where nobody has noted it.
    """

    scores: SampleScores
    seconds: float
    judged_by: JudgedBy | None = None


async def score_answer(
    job: RagJob,
    runtime: JudgeRuntime,
    *,
    journal: Iterable[Json] = (),
    on_total: Callable[[int], None] = lambda total: None,
    on_metric: Callable[[Json], None] = lambda entry: None,
) -> Scored:
    """Score one answer.

    Args:
        job: What is asked for.
        runtime: Whom to ask; shared by many jobs.
        journal: What an earlier attempt has noted by ``on_metric``: those metrics are not scored again, unless they
            failed.
        on_total: Told how many metrics there are.
        on_metric: Told of each metric that is done, as an entry of the journal.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for a metric, a judge or embeddings that there are not.
    """
    begun = time.monotonic()
    request = job.request
    sample = sample_of(request)
    check_metrics(request.metrics or ())
    check_metrics(request.weights or (), "weights")
    before = {**job.known, **known_scores(journal)}
    models = models_of(runtime, request.judge_model, request.embedding_model, None, None, job.caller)
    metrics = requested(sample, request.metrics, judge=bool(models.judges), embeddings=models.embedder is not None)
    on_total(len(metrics))
    scores = await evaluate(
        sample,
        metrics,
        models,
        weights=request.weights,
        known=before,
        on_metric=lambda name, score: on_metric({"metric": name, "score": score.model_dump(mode="json")}),
    )
    # In a thread: calibrations are files.
    noted = await asyncio.to_thread(judged_by, metrics, models, runtime.home)
    return Scored(scores, time.monotonic() - begun, noted)


def known_scores(journal: Iterable[Mapping[str, Any]]) -> dict[str, MetricScore]:
    """The metrics that a journal holds; the last entry of each counts."""
    found = {}
    for entry in journal:
        if isinstance(entry.get("metric"), str) and isinstance(entry.get("score"), dict):
            found[entry["metric"]] = MetricScore.model_validate(entry["score"])
    return found


def result_of_scores(scores: SampleScores, latency_ms: float | None, judged_by: JudgedBy | None = None) -> Json:
    """What a job leaves.

    Args:
        scores: What its answer came to.
        latency_ms: Milliseconds that it took; None where nobody knows.
        judged_by: Who was asked, where somebody has noted it.
    """
    return {
        # As a Result has it, for lists.
        "summary": {
            "score": scores.weighted_score,
            "weighted_score": scores.weighted_score,
            "higher_is_better": True,
        },
        "scores": scores_of(scores.metrics),
        **scores.model_dump(mode="json"),
        "latency_ms": latency_ms,
        **({} if judged_by is None else {"judged_by": judged_by.model_dump(mode="json")}),
    }


def outcome_of_scores(scored: Scored) -> Json:
    """How the flow run ends, as ``FlowRunFiles.save_outcome`` takes it.

    Args:
        scored: What the answer came to; the run fails where every metric failed that was tried.
    """
    scores = scored.scores
    tried = [each for each in scores.metrics.values() if each.status != "skipped"]
    failed = [each for each in tried if each.status == "failed"]
    data = result_of_scores(scores, round(1000 * scored.seconds, 3), scored.judged_by)
    if tried and len(failed) == len(tried):
        first = failed[0]
        error = AutoScorerError(
            ErrorCode(first.error_code or ErrorCode.JUDGE_ERROR),
            f"Every metric failed. The first one says: {first.reason}",
            details={"failed": len(failed)},
        )
        return {"state": "FAILED", "message": str(error), "data": data, "error": error.to_dict()}
    parts = ["no metric has a score" if scores.weighted_score is None else f"score {scores.weighted_score:g}"]
    if failed:
        parts.append(f"{len(failed)} of {len(tried)} metrics failed")
    if scores.coverage < 1 and scores.weighted_score is not None:
        parts.append(f"coverage {scores.coverage:g}")
    return {"state": "COMPLETED", "message": ", ".join(parts), "data": data, "error": None}
