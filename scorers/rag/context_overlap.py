"""Whether the retrieved contexts hold the ground truth, by words in common and without a judge."""

from __future__ import annotations

from .inputs import contexts_of, ground_truth_by
from .sample import Sample
from .words import occurring, terms, units

__all__ = ["HELD", "nonllm_context_precision", "nonllm_context_recall"]

# A context holds a unit when it has at least this share of the unit's terms.
HELD = 0.5


def nonllm_context_precision(sample: Sample) -> float:
    """Whether the contexts that hold something of the ground truth come first: rank-aware average precision.

    The ground truth is taken apart into units, which are its sentences (``words.units``). A context holds a unit when
    it has at least half of the unit's different terms: its words without function words, its pairs of neighbouring
    characters in Chinese (``words.terms``). A context is relevant, v(k) = 1, when it holds any unit. With K contexts:

        precision = sum over k of (P(k) v(k)) / sum over k of v(k),   P(k) = (v(1) + … + v(k)) / k.

    The average precision is that of RAGAS' context precision, and the threshold that of its variant without an LLM.
    That one compares with reference contexts by Levenshtein's distance; no passage more than twice as long as a
    sentence would pass it.

    Args:
        sample: Needs contexts, best first, and ground_truth.

    Returns:
        From 0, also where no context is relevant, to 1.

    Raises:
        Undefined: The ground truth has no token.
    """
    held = _held(sample)
    relevant = [any(of_context) for of_context in zip(*held, strict=True)]
    ranks = [k for k, yes in enumerate(relevant, start=1) if yes]
    if not ranks:
        return 0.0
    return sum(seen / k for seen, k in enumerate(ranks, start=1)) / len(ranks)


def nonllm_context_recall(sample: Sample) -> float:
    """The share of the ground truth's units that some context holds; see ``nonllm_context_precision`` for both words.

        recall = number of units that at least one context holds / number of units.

    Named as in RAGAS, whose variant counts reference contexts where this one counts sentences.

    Args:
        sample: Needs contexts, whose order doesn't matter, and ground_truth.

    Returns:
        From 0 to 1.

    Raises:
        Undefined: The ground truth has no token.
    """
    held = _held(sample)
    return sum(map(any, held)) / len(held)


def _held(sample: Sample) -> list[list[bool]]:
    """Whether each unit (first axis) is held by each context (second axis)."""
    contexts = [occurring(context) for context in contexts_of(sample)]
    return [
        [len(unit & context) >= HELD * len(unit) for context in contexts] for unit in ground_truth_by(sample, _units)
    ]


def _units(text: str) -> list[frozenset[str]]:
    """The different terms of each sentence that has any."""
    return [frozenset(found) for unit in units(text) if (found := terms(unit))]
