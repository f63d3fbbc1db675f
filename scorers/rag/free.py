"""The metrics that cost nothing: no judge, no embeddings, no configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from .chrf import chrf
from .context_overlap import nonllm_context_precision, nonllm_context_recall
from .overlap import exact_match, grounded_token_ratio, string_presence, token_f1
from .rouge import rouge_l
from .sample import Input, Sample

__all__ = ["FREE_METRICS", "FreeMetric"]


class FreeMetric(NamedTuple):
    """A function of one sample, and what the sample must have for it.

    Attributes:
        score: Gives a value from 0 to 1, more is better; raises ``Undefined`` where there is none.
        needs: The inputs without which the metric is skipped.
    """

    score: Callable[[Sample], float]
    needs: tuple[Input, ...]


_BY_TRUTH: tuple[Input, ...] = ("answer", "ground_truth")
_OF_CONTEXTS: tuple[Input, ...] = ("contexts", "ground_truth")

FREE_METRICS: Mapping[str, FreeMetric] = {
    "exact_match": FreeMetric(exact_match, _BY_TRUTH),
    "token_f1": FreeMetric(token_f1, _BY_TRUTH),
    "rouge_l": FreeMetric(rouge_l, _BY_TRUTH),
    "chrf": FreeMetric(chrf, _BY_TRUTH),
    "string_presence": FreeMetric(string_presence, _BY_TRUTH),
    "grounded_token_ratio": FreeMetric(grounded_token_ratio, ("answer", "contexts")),
    "nonllm_context_precision": FreeMetric(nonllm_context_precision, _OF_CONTEXTS),
    "nonllm_context_recall": FreeMetric(nonllm_context_recall, _OF_CONTEXTS),
}
