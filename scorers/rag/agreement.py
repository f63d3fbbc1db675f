"""How far a judge agrees with people, and with itself when it is asked again.

A verdict is a score held against a threshold: from there on it is a yes. Where a number has no value, such as kappa
of verdicts that are all the same, it is None, and never 1 or 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...schemas.calibration import Agreement, Pair, Rate, Stability
from ..metrics.intervals import wilson
from ..tables.arrays import Floats

__all__ = ["agreement_of", "cohen_kappa", "krippendorff_alpha", "pearson", "rate", "spearman", "stability_of"]


def agreement_of(pairs: Sequence[Pair], threshold: float, level: float = 0.95) -> Agreement:
    """Everything that pairs of a judge's score and a person's label say of the judge.

    Args:
        pairs: Of one metric, at least one. All labels are true or false, or all are numbers.
        threshold: Scores from here on count as a yes; so do labels that are numbers.
        level: Nominal coverage of the intervals.
    """
    scores = np.array([pair.score for pair in pairs], np.float64)
    labels = np.array([pair.label for pair in pairs], np.float64)
    is_yes_no = isinstance(pairs[0].label, bool)
    said = [bool(each) for each in scores >= threshold]
    wanted = [bool(each) for each in (labels == 1 if is_yes_no else labels >= threshold)]
    verdicts = list(zip(said, wanted, strict=True))
    counted = Counter(verdicts)
    percent = (counted[True, True] + counted[False, False]) / len(pairs)
    kappa = cohen_kappa(verdicts)
    if is_yes_no:
        return Agreement(
            kind="yes_no",
            n=len(pairs),
            percent=percent,
            cohen_kappa=kappa,
            krippendorff_alpha=krippendorff_alpha(verdicts, "nominal"),
            sensitivity=rate(counted[True, True], counted[True, True] + counted[False, True], level),
            specificity=rate(counted[False, False], counted[False, False] + counted[True, False], level),
        )
    return Agreement(
        kind="number",
        n=len(pairs),
        percent=percent,
        cohen_kappa=kappa,
        krippendorff_alpha=krippendorff_alpha(np.column_stack([scores, labels]).tolist(), "interval"),
        pearson=pearson(scores, labels),
        spearman=spearman(scores, labels),
        mean_absolute_error=math.fsum(np.abs(scores - labels).tolist()) / len(pairs),
    )


def stability_of(
    repeats: Sequence[Sequence[float | None]], threshold: float, kind: Literal["yes_no", "number"]
) -> Stability:
    """Whether a judge says the same again.

    Args:
        repeats: Of each repeat the scores of all answers, in the same order; None where there was none. Two or more.
        threshold: Scores from here on count as a yes.
        kind: Of verdicts alpha is nominal, of numbers interval.
    """
    whole = [scores for scores in zip(*repeats, strict=True) if None not in scores]
    numbers = [[score for score in scores if score is not None] for scores in whole]
    verdicts = [[score >= threshold for score in scores] for scores in numbers]
    unchanged = sum(len(set(each)) == 1 for each in verdicts) / len(verdicts) if verdicts else None
    alpha = krippendorff_alpha(verdicts, "nominal") if kind == "yes_no" else krippendorff_alpha(numbers, "interval")
    return Stability(repeats=len(repeats), n=len(whole), unchanged=unchanged, krippendorff_alpha=alpha)


def rate(hits: int, of: int, level: float) -> Rate:
    """A share with its Wilson interval; of nothing it has no value."""
    if not of:
        return Rate(value=None, hits=hits, of=of)
    return Rate(value=hits / of, hits=hits, of=of, interval=wilson(hits, of, level))


def cohen_kappa(verdicts: Sequence[tuple[object, object]]) -> float | None:
    """Cohen's kappa of two raters.

    kappa = (p_o - p_e) / (1 - p_e), with p_o the share of units about which they agree and p_e the sum over the
    categories of the product of both raters' shares of it (Cohen, Educational and Psychological Measurement 20, 1960).

    Args:
        verdicts: What both say of each unit.

    Returns:
        1 for agreement, 0 for as much as chance would give; None where both have one category alone, the same.
    """
    n = len(verdicts)
    if not n:
        return None
    first, second = Counter(one for one, _ in verdicts), Counter(other for _, other in verdicts)
    # In whole numbers, so that what is 0/0 is seen to be.
    by_chance = sum(count * second[category] for category, count in first.items())
    if by_chance == n * n:
        return None
    agreed = sum(one == other for one, other in verdicts)
    return (n * agreed - by_chance) / (n * n - by_chance)


def krippendorff_alpha(units: Sequence[Sequence[object]], level: Literal["nominal", "interval"]) -> float | None:
    """Krippendorff's alpha.

    alpha = 1 - D_o / D_e, where with d(V) the sum of the squared differences of all ordered pairs among values V,
    m_u the number of values of unit u and n that of all units with two or more

        D_o = (1 / n) sum over u of d(values of u) / (m_u - 1),   D_e = d(all values) / (n (n - 1)).

    The squared difference of two values is 1 where they differ (nominal), or (a - b)^2 (interval) (Krippendorff,
    Computing Krippendorff's Alpha-Reliability, 2011).

    Args:
        units: The values of each unit, in any order of the coders; a value that is missing is left out.
        level: Of measurement; values of the level ``interval`` are numbers.

    Returns:
        1 for agreement, 0 for as much as chance would give; None where no two values differ, or none can be paired.
    """
    difference = _nominal if level == "nominal" else _interval
    paired = [values for values in units if len(values) > 1]
    everything = [value for values in paired for value in values]
    expected = difference(everything) if everything else 0.0
    if not expected:
        return None
    observed = math.fsum(difference(values) / (len(values) - 1) for values in paired)
    return 1 - (len(everything) - 1) * observed / expected


def _nominal(values: Sequence[object]) -> float:
    return len(values) ** 2 - sum(count * count for count in Counter(values).values())


def _interval(values: Sequence[object]) -> float:
    numbers = np.array(values, np.float64)
    if numbers.min() == numbers.max():  # of which the mean may be rounded
        return 0.0
    return 2 * len(numbers) * float(np.square(numbers - numbers.mean()).sum())


def pearson(first: Floats, second: Floats) -> float | None:
    """Pearson's correlation; None where one of both does not vary, or of fewer than two.

    r = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2).
    """
    if len(first) < 2 or first.min() == first.max() or second.min() == second.max():
        return None
    x, y = first - first.mean(), second - second.mean()
    return float(np.clip((x @ y) / math.sqrt((x @ x) * (y @ y)), -1, 1))


def spearman(first: Floats, second: Floats) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks, where equal values share the mean of theirs."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: Floats) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks
