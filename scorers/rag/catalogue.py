"""The metrics of RAG answers: their names, what each needs, and which are taken where nobody names any."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode, suggest
from .sample import Input, Sample

__all__ = ["METRICS", "MetricInfo", "check_metrics", "default_metrics", "default_weights", "weighted"]

# Names are those of RAGAS, where it has such a metric.
_WITH_GROUND_TRUTH: Mapping[str, float] = MappingProxyType(
    {
        "context_precision": 0.15,
        "context_recall": 0.15,
        "faithfulness": 0.25,
        "answer_relevancy": 0.20,
        "answer_correctness": 0.25,
    }
)
_WITHOUT: Mapping[str, float] = MappingProxyType(
    {"context_utilization": 0.25, "context_precision": 0.25, "faithfulness": 0.40, "answer_relevancy": 0.35}
)


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a metric needs.

    Args:
        name: As it is asked for.
        module: Below ``scorers.rag``; its function has the metric's name.
        needs: Inputs without which it is skipped.
        judge: Whether it asks a judge.
        embeddings: Whether it can't do without embeddings.
        prompts: The questions that it asks a judge, by their names in ``prompts/``.
        is_embedded: Whether embeddings change its score, where there are any.
        summary: In a line, for lists.
    """

    name: str
    module: str
    needs: tuple[Input, ...]
    summary: str
    judge: bool = False
    embeddings: bool = False
    prompts: tuple[str, ...] = ()
    is_embedded: bool = False

    @property
    def is_free(self) -> bool:
        """Whether no model is asked."""
        return not (self.judge or self.embeddings)

    def function(self) -> Callable[..., Any]:
        """What measures it: of a free one a function of the sample, else a coroutine of ``Asking`` and ``Usage``."""
        found: Callable[..., Any] = getattr(importlib.import_module(f".{self.module}", __package__), self.name)
        return found


METRICS: Mapping[str, MetricInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            MetricInfo(
                "faithfulness",
                "faithfulness",
                ("question", "answer", "contexts"),
                "share of the answer's claims that the contexts support",
                judge=True,
                prompts=("claims", "faithfulness"),
            ),
            MetricInfo(
                "answer_relevancy",
                "answer_relevancy",
                ("question", "answer"),
                "how near the questions that the answer answers are to the one that was asked",
                judge=True,
                embeddings=True,
                prompts=("answer_relevancy",),
                is_embedded=True,
            ),
            MetricInfo(
                "context_precision",
                "context_precision",
                ("question", "contexts", "ground_truth"),
                "whether the contexts that help towards the ground truth come first (average precision)",
                judge=True,
                prompts=("context_precision",),
            ),
            MetricInfo(
                "context_utilization",
                "context_precision",
                ("question", "contexts", "answer"),
                "whether the contexts that the answer used come first (average precision)",
                judge=True,
                prompts=("context_precision",),
            ),
            MetricInfo(
                "context_recall",
                "context_recall",
                ("question", "contexts", "ground_truth"),
                "share of the ground truth's claims that the contexts support",
                judge=True,
                prompts=("claims", "context_recall"),
            ),
            MetricInfo(
                "answer_correctness",
                "answer_correctness",
                ("question", "answer", "ground_truth"),
                "F1 of the answer's claims against the ground truth's, and their similarity where embeddings are",
                judge=True,
                prompts=("claims", "answer_correctness"),
                is_embedded=True,
            ),
            MetricInfo(
                "semantic_similarity",
                "semantic_similarity",
                ("answer", "ground_truth"),
                "cosine of the embeddings of answer and ground truth",
                embeddings=True,
            ),
            MetricInfo("exact_match", "overlap", ("answer", "ground_truth"), "1 where both say the same"),
            MetricInfo("token_f1", "overlap", ("answer", "ground_truth"), "F1 of their tokens"),
            MetricInfo("rouge_l", "rouge", ("answer", "ground_truth"), "F1 of their longest common subsequence"),
            MetricInfo("chrf", "chrf", ("answer", "ground_truth"), "F2 of their character n-grams"),
            MetricInfo(
                "string_presence", "overlap", ("answer", "ground_truth"), "1 where the answer holds the ground truth"
            ),
            MetricInfo(
                "grounded_token_ratio",
                "overlap",
                ("answer", "contexts"),
                "share of the answer's tokens that the contexts hold",
            ),
            MetricInfo(
                "nonllm_context_precision",
                "context_overlap",
                ("contexts", "ground_truth"),
                "whether the contexts that share words with the ground truth come first (average precision)",
            ),
            MetricInfo(
                "nonllm_context_recall",
                "context_overlap",
                ("contexts", "ground_truth"),
                "share of the ground truth's sentences whose words some context holds",
            ),
        )
    }
)


def check_metrics(names: Iterable[str], what: str = "metrics") -> tuple[str, ...]:
    """The names, each once.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for one that there is not, with the nearest that there is.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        hints = "; ".join(f"{name!r} is not a metric{suggest(name, METRICS)}" for name in unknown[:5])
        raise AutoScorerError(
            ErrorCode.BAD_PARAMS,
            f"{what}: {hints}. There are: {', '.join(METRICS)}.",
            details={"params": [what], "known": list(METRICS)},
        )
    return tuple(dict.fromkeys(names))


def default_metrics(sample: Sample, *, judge: bool, embeddings: bool) -> tuple[str, ...]:
    """What is scored where nobody says what: the metrics with weights of their own, or without a judge the free ones.

    Args:
        sample: Whose inputs decide; a metric that lacks one is left out.
        judge: Whether there is a judge.
        embeddings: Whether there are embeddings.
    """
    wanted = [
        name
        for name, info in METRICS.items()
        if not sample.missing(info.needs)
        and (judge or not info.judge)
        and (embeddings or not info.embeddings)
        and (name in default_weights(sample) if judge else info.is_free)
    ]
    if "context_precision" in wanted and "context_utilization" in wanted:
        wanted.remove("context_utilization")
    return tuple(wanted)


def default_weights(sample: Sample) -> Mapping[str, float]:
    """The weights that count where none are given."""
    return _WITHOUT if sample.missing(("ground_truth",)) else _WITH_GROUND_TRUTH


def weighted(
    scores: Mapping[str, float | None], weights: Mapping[str, float] | None, defaults: Mapping[str, float]
) -> tuple[float | None, float]:
    """One number of several metrics.

    Args:
        scores: Metric to score; None where it has none.
        weights: What was asked for: metrics that are not named do not count. None takes ``defaults``, or equal
            weights where none of the metrics is among them.
        defaults: Metric to weight.

    Returns:
        The mean of the scores that there are, by weight, and the share of all weight that these have. None and 0 where
        no metric that counts has a score.
    """
    given = defaults if weights is None else weights
    counted = {name: given[name] for name in scores if given.get(name)}
    if not counted and weights is None:
        counted = dict.fromkeys(scores, 1.0)
    there = {name: value for name, value in scores.items() if name in counted and value is not None}
    total, weight = sum(counted.values()), sum(counted[name] for name in there)
    if not weight:
        return None, 0.0
    return sum(counted[name] * value for name, value in there.items()) / weight, weight / total
