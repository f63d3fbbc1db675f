"""From the scores of many answers to the numbers of a Result: means, intervals, and what has no score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...schemas.rag import MetricScore, SampleScores
from ...schemas.result import Interval
from ..metrics.intervals import mean_interval, normal, wilson

__all__ = ["MetricTotals", "Totals", "totals"]


@dataclass(frozen=True)
class MetricTotals:
    """One metric over all answers.

    Attributes:
        mean: Over the answers that have a score; None where none has.
        interval: Around the mean.
        ok: Answers that have a score.
        skipped: Answers that lack an input.
        undefined: Answers for which the metric has no value.
        failed: Answers that could not be judged.
        first_failure: Why the first of these could not.
        usage: calls, cached, prompt_tokens, completion_tokens; and cost, None where a price is unknown.
    """

    mean: float | None
    interval: Interval | None
    ok: int
    skipped: int
    undefined: int
    failed: int
    first_failure: MetricScore | None
    usage: Mapping[str, float | None]


@dataclass(frozen=True)
class Totals:
    """All metrics over all answers.

    Attributes:
        metrics: By name.
        score: The weighted mean of the metrics' means; None where none that counts has one.
        interval: Around it.
        coverage: The share of all weight that has a mean.
        failed: The share of the values that were asked for which could not be had.
    """

    metrics: Mapping[str, MetricTotals]
    score: float | None
    interval: Interval | None
    coverage: float
    failed: float


def totals(samples: Sequence[SampleScores], weights: Mapping[str, float], level: float) -> Totals:
    """Put the scores of all answers together.

    Args:
        samples: In the order of their ids; each has the same metrics.
        weights: Metric to weight, of those that count.
        level: Nominal coverage of the intervals.

    Returns:
        The mean of each metric over the answers that have it, and the weighted mean of these means. Its interval is
        normal, with the variance of the answers' influence on it: of the answer i it is
        sum over m of w_m (x_im - mean_m) n / n_m, over the metrics m that it has (Hampel, JASA 69, 1974). Where the
        sample does not vary it is Wilson's, of the fewest answers that a metric has: a score within 0 and 1 varies no
        more than a proportion.
    """
    names = list(samples[0].metrics) if samples else []
    found = {name: _metric([sample.metrics[name] for sample in samples], level) for name in names}
    there = {name: weights[name] for name in names if weights.get(name) and found[name].mean is not None}
    asked = sum(weights.get(name, 0.0) for name in names)
    attempted = sum(each.ok + each.undefined + each.failed for each in found.values())
    failed = sum(each.failed for each in found.values())
    total = math.fsum(there.values())
    score = interval = None
    if total:
        shares = {name: weight / total for name, weight in there.items()}
        means = {name: found[name].mean or 0.0 for name in shares}
        score = min(1.0, max(0.0, math.fsum(shares[name] * means[name] for name in shares)))
        interval = _interval(samples, shares, means, found, score, level)
    return Totals(
        metrics=found,
        score=score,
        interval=interval,
        coverage=total / asked if asked else 0.0,
        failed=failed / attempted if attempted else 0.0,
    )


def _metric(scores: Sequence[MetricScore], level: float) -> MetricTotals:
    counts = Counter(score.status for score in scores)
    values = np.array([score.score for score in scores if score.score is not None], np.float64)
    known = [score.cost for score in scores if score.cost is not None]
    usage: dict[str, float | None] = {
        key: sum(getattr(score, key) for score in scores)
        for key in ("calls", "cached", "prompt_tokens", "completion_tokens")
    }
    usage["cost"] = math.fsum(known) if len(known) == len(scores) else None
    mean = interval = None
    if len(values):
        mean = math.fsum(values.tolist()) / len(values)
        interval = _bounded(mean_interval(values, level)) or wilson(mean * len(values), len(values), level)
    return MetricTotals(
        mean=mean,
        interval=interval,
        ok=counts["ok"],
        skipped=counts["skipped"],
        undefined=counts["undefined"],
        failed=counts["failed"],
        first_failure=next((score for score in scores if score.status == "failed"), None),
        usage=usage,
    )


def _interval(
    samples: Sequence[SampleScores],
    shares: Mapping[str, float],
    means: Mapping[str, float],
    found: Mapping[str, MetricTotals],
    score: float,
    level: float,
) -> Interval:
    n = len(samples)
    influence = np.zeros(n)
    for name, share in shares.items():
        stretch = share * n / found[name].ok
        for place, sample in enumerate(samples):
            value = sample.metrics[name].score
            if value is not None:
                influence[place] += stretch * (value - means[name])
    variance = float(np.square(influence).sum()) / (n - 1) / n if n > 1 else 0.0
    around = normal(score, math.sqrt(variance), level, method="influence", low=0.0, high=1.0) if variance else None
    fewest = min(found[name].ok for name in shares)
    return around or wilson(score * fewest, fewest, level)


def _bounded(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    return interval.model_copy(update={"low": max(0.0, interval.low), "high": min(1.0, interval.high)})
