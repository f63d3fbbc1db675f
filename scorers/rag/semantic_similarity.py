"""Semantic similarity: how near the embeddings of two texts are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...core.errors import AutoScorerError, ErrorCode
from ..judge.usage import Usage
from .asking import Asking, Measured

__all__ = ["cosine", "semantic_similarity", "similarity"]


async def semantic_similarity(ask: Asking, usage: Usage) -> Measured:
    """The cosine of the embeddings of answer and ground truth.

    semantic_similarity = max(0, u · v / (|u| |v|)); texts that point away from each other are as unlike as such that
    have nothing in common. Needs answer, ground_truth.

    Returns:
        The score; 0 for an empty answer, which is not asked for.

    Raises:
        AutoScorerError: The model could not be asked.
    """
    if not (ask.sample.answer or "").strip():
        return Measured(0.0, reason="The answer is empty.")
    return Measured(await similarity(ask, usage))


async def similarity(ask: Asking, usage: Usage) -> float:
    """The cosine of answer and ground truth, from 0 up; 0 where the answer is empty."""
    assert ask.embedder is not None
    answer, truth = ask.sample.answer or "", ask.sample.ground_truth or ""
    if not answer.strip():
        return 0.0
    first, second = await ask.embedder.embed([answer, truth], usage=usage)
    return max(0.0, cosine(first, second))


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """u · v / (|u| |v|), within -1 and 1.

    Args:
        first: Finite, shape (d,).
        second: The same.

    Raises:
        AutoScorerError: ``JUDGE_ERROR`` where a vector has no direction.
    """
    sizes = math.hypot(*first) * math.hypot(*second)
    if not sizes:
        raise AutoScorerError(
            ErrorCode.JUDGE_ERROR,
            "The embedding model answered a vector of zeros, which has no direction.",
            details={"reason": "bad_answer", "retryable": False},
        )
    return max(-1.0, min(1.0, math.fsum(one * other for one, other in zip(first, second, strict=True)) / sizes))
