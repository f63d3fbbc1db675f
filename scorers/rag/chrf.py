"""chrF: n-grams of characters, which need no words and so suit any script."""

from __future__ import annotations

from collections import Counter

from .inputs import answer_of, ground_truth_by
from .sample import Sample

__all__ = ["chrf"]

_ORDERS = range(1, 7)
# Recall counts twice as much as precision.
_BETA = 2


def chrf(sample: Sample) -> float:
    """How many n-grams of characters answer and ground truth share, for n from 1 to 6.

    With m(n) common n-grams, each as often as both have it, among a(n) of the answer and t(n) of the ground truth, and
    with the means over those n for which both have any:

        P = mean of m(n) / a(n),   R = mean of m(n) / t(n),   chrF = (1 + 4) P R / (4 P + R).

    Popović, "chrF: character n-gram F-score for automatic MT evaluation" (WMT 2015); a hundredth of what the package
    sacrebleu's ``CHRF()`` gives for one sentence. As there, white space is left out; case, signs and full-width forms
    count.

    Args:
        sample: Needs answer and ground_truth.

    Returns:
        From 0, also for an empty answer, to 1.

    Raises:
        Undefined: The ground truth has no character but white space.
    """
    truth = ground_truth_by(sample, _characters)
    answer = _characters(answer_of(sample))
    # Both have n-grams as long as the shorter text.
    orders = _ORDERS[: min(len(answer), len(truth))]
    if not orders:
        return 0.0
    precision = recall = 0.0
    for n in orders:
        common = (_grams(answer, n) & _grams(truth, n)).total()
        precision += common / (len(answer) - n + 1)
        recall += common / (len(truth) - n + 1)
    if not precision:
        return 0.0
    precision /= len(orders)
    recall /= len(orders)
    return (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)


def _characters(text: str) -> str:
    return "".join(text.split())


def _grams(characters: str, n: int) -> Counter[str]:
    return Counter(characters[start : start + n] for start in range(len(characters) - n + 1))
