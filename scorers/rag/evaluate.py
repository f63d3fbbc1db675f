"""One answer through all of its metrics: whatever becomes of one of them, the others have their scores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import AutoScorerError, internal_error
from ...schemas.rag import MetricScore, SampleScores
from ..judge.client import Judge
from ..judge.embedder import Embedder
from ..judge.usage import Usage
from .asking import Asking, Measured
from .catalogue import METRICS, MetricInfo, default_metrics, default_weights, weighted
from .sample import Sample, Undefined

__all__ = ["Models", "evaluate", "in_all", "requested"]


@dataclass(frozen=True)
class Models:
    """Whom the metrics may ask.

    Args:
        judges: The judges; more than one are a jury.
        votes: How often each of them is asked for every verdict; as its profile says when None.
        embedder: Turns texts into vectors.
        repeat: How often all of it was asked before; what was answered then is not taken again.
    """

    judges: Sequence[Judge] = ()
    votes: int | None = None
    embedder: Embedder | None = None
    repeat: int = 0

    @property
    def names(self) -> dict[str, str]:
        """What each of them is asked for, and its name."""
        found = {"judge": ", ".join(f"{each.name}: {each.model}" for each in self.judges)} if self.judges else {}
        if self.embedder is not None:
            found["embeddings"] = f"{self.embedder.name}: {self.embedder.model}"
        return found


def requested(sample: Sample, metrics: Sequence[str] | None, *, judge: bool, embeddings: bool) -> tuple[str, ...]:
    """The metrics that a request asks for: those that it names, or those that fit.

    Args:
        sample: The answer.
        metrics: What was named; None takes the defaults.
        judge: Whether there is a judge.
        embeddings: Whether there are embeddings.
    """
    if metrics is not None:
        return tuple(dict.fromkeys(metrics))
    return default_metrics(sample, judge=judge, embeddings=embeddings)


async def evaluate(
    sample: Sample,
    metrics: Sequence[str],
    models: Models,
    *,
    weights: Mapping[str, float] | None = None,
    known: Mapping[str, MetricScore] | None = None,
    on_metric: Callable[[str, MetricScore], None] = lambda name, score: None,
) -> SampleScores:
    """Score one answer by several metrics at a time.

    Args:
        sample: The answer.
        metrics: Names of the catalogue.
        models: Whom to ask.
        weights: Metric to weight; the defaults when None.
        known: Scores from before, which are taken as they are; what failed then is tried again.
        on_metric: Told of each metric as it is done.

    Returns:
        All metrics, in the order in which they were asked for. A metric that could not be had says why, and fails no
        other.
    """
    asking = Asking(sample, models.judges, models.votes, models.embedder, models.repeat)

    async def one(name: str) -> MetricScore:
        before = (known or {}).get(name)
        if before is not None and before.status != "failed":
            return before
        score = await _metric(METRICS[name], asking)
        on_metric(name, score)
        return score

    try:
        found = await asyncio.gather(*(one(name) for name in metrics))
    finally:
        await asking.close()
    return in_all(sample, dict(zip(metrics, found, strict=True)), weights)


def in_all(sample: Sample, metrics: dict[str, MetricScore], weights: Mapping[str, float] | None) -> SampleScores:
    """What the metrics of one answer come to together."""
    score, coverage = weighted(
        {name: metric.score for name, metric in metrics.items()}, weights, default_weights(sample)
    )
    return SampleScores(
        metrics=metrics,
        weighted_score=None if score is None else round(score, 4),
        coverage=round(coverage, 4),
    )


async def _metric(info: MetricInfo, asking: Asking) -> MetricScore:
    reason = _why_not(info, asking)
    if reason is not None:
        return MetricScore(status="skipped", reason=reason)
    usage = Usage()
    begun = time.perf_counter()
    try:
        measured = await _measure(info, asking, usage)
    except Undefined as why:
        score = MetricScore(status="undefined", reason=str(why))
    except AutoScorerError as error:
        score = MetricScore(status="failed", reason=error.message, error_code=error.code.value)
    except Exception as error:  # a fault of ours in one metric takes none of the others along
        fault = internal_error(error)
        score = MetricScore(status="failed", reason=fault.message, error_code=fault.code.value)
    else:
        score = MetricScore(
            # Sums of floats may be a hair above 1.
            score=min(1.0, max(0.0, measured.score)),
            reason=measured.reason,
            claims=list(measured.claims),
            spread=measured.spread,
        )
    facts: dict[str, Any] = {
        "calls": usage.calls,
        "cached": usage.cached,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": usage.cost,
        "ms": round(1000 * (time.perf_counter() - begun), 3),
    }
    return score.model_copy(update=facts)


async def _measure(info: MetricInfo, asking: Asking, usage: Usage) -> Measured:
    function = info.function()
    if info.is_free:
        # Long texts take seconds, in which the answers of judges would wait.
        return Measured(await asyncio.to_thread(function, asking.sample))
    measured: Measured = await function(asking, usage)
    return measured


def _why_not(info: MetricInfo, asking: Asking) -> str | None:
    """Why a metric can't be had of this sample."""
    missing = asking.sample.missing(info.needs)
    if missing:
        return f"It needs {' and '.join(missing)}, which the request does not have."
    if info.judge and not asking.judges:
        return "It needs a judge, and none is configured (judge.profiles, judge.default)."
    if info.embeddings and asking.embedder is None:
        return "It needs embeddings, and none are configured (embeddings.profiles, embeddings.default)."
    return None
