"""What people would have said of many answers, estimated from a judge and from labels of some.

A judge that errs to one side moves a mean by as much as it errs, and more answers make that no smaller. Labels say how
it errs. Both ways to count that in are estimates of the same: the mean label of all answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...schemas.calibration import Rate
from ...schemas.result import Interval
from ..metrics.intervals import normal, z_value
from ..tables.arrays import Floats

__all__ = ["Corrected", "are_alike", "prediction_powered", "rogan_gladen"]

# Standard errors between two means that are taken for different.
_APART = 3.0


@dataclass(frozen=True, slots=True)
class Corrected:
    """An estimate that counts in how the judge errs.

    Args:
        value: 0 to 1; None where it is undefined.
        interval: Around it.
        why_not: Why it is undefined, in a sentence for people.
    """

    value: float | None
    interval: Interval | None = None
    why_not: str | None = None


def rogan_gladen(positive: int, n: int, sensitivity: Rate, specificity: Rate, level: float) -> Corrected:
    """The share of answers that people would accept, of those that a judge accepts.

    value = (p + spec - 1) / (sens + spec - 1), kept within 0 and 1, with p = positive / n (Rogan and Gladen, American
    Journal of Epidemiology 107, 1978). The interval counts the uncertainty of p, sens and spec (Lang and Reiczigel,
    Preventive Veterinary Medicine 113, 2014): with z the normal quantile, and z^2 answers added to the n, half of them
    positive (n', p'), and two to the ones of sens and spec each, half of them hits (n_se', sens', n_sp', spec'),

        v = (p' + spec' - 1) / (sens' + spec' - 1),
        d = 2 z^2 (v sens' (1 - sens') / n_se' - (1 - v) spec' (1 - spec') / n_sp'),
        s^2 = p' (1 - p') / n' + v^2 sens' (1 - sens') / n_se' + (1 - v)^2 spec' (1 - spec') / n_sp',

    it is v + d ± z s / (sens' + spec' - 1). It holds as long as the judge errs about good and about bad answers as
    often as it did where it was labelled, whatever the share of good ones is.

    Args:
        positive: Answers that the judge accepts.
        n: Answers that it judged, 1 or more.
        sensitivity: From the labels.
        specificity: From the labels.
        level: Nominal coverage of the interval.
    """
    sens, spec = sensitivity.value, specificity.value
    if sens is None or spec is None:
        which = "yes" if sens is None else "no"
        return Corrected(None, why_not=f"no label says {which}, so nobody knows how the judge errs there")
    gap = sens + spec - 1
    # Of two shares of whole numbers: what is 0 may come out as a hair more.
    if gap <= 1e-12:
        return Corrected(
            None,
            why_not=f"sensitivity {sens:.3g} and specificity {spec:.3g} come to no more than 1 together: the judge "
            "accepts what people refuse as often as what they accept, and tells nothing of them",
        )
    value = _within((positive / n + spec - 1) / gap)
    z = z_value(level)
    n_p, n_se, n_sp = n + z * z, sensitivity.of + 2, specificity.of + 2
    p = (positive + z * z / 2) / n_p
    se, sp = (sensitivity.hits + 1) / n_se, (specificity.hits + 1) / n_sp
    low, high = 0.0, 1.0  # of labels too few to tell the judge from chance
    if se + sp - 1 > 1e-12:
        middle = (p + sp - 1) / (se + sp - 1)
        of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
        shift = 2 * z * z * (middle * of_se - (1 - middle) * of_sp)
        spread = math.sqrt(p * (1 - p) / n_p + middle**2 * of_se + (1 - middle) ** 2 * of_sp) / (se + sp - 1)
        low, high = _within(middle + shift - z * spread), _within(middle + shift + z * spread)
    interval = Interval(low=min(low, value), high=max(high, value), level=level, method="lang-reiczigel")
    return Corrected(value, interval)


def prediction_powered(
    scores: Sequence[float], judged: Sequence[float], labels: Sequence[float], level: float
) -> Corrected:
    """The mean label of all answers, from the judge's scores of them and from labels of some.

    value = mean of the scores + mean of (label - judge's score) over the labelled, kept within 0 and 1; the interval is
    value ± z sqrt(var(scores) / N + var(label - judge's score) / n) (prediction-powered inference: Angelopoulos et al.,
    Science 382, 2023). Where the differences are all the same, one of +1 and one of -1 is added to their variance, as
    Agresti and Coull add successes and failures (The American Statistician 52, 1998): a judge that was right about ten
    answers is not known to be right about all. It holds where the labelled answers are drawn as the others are.

    Args:
        scores: The judge's, of all answers, 1 or more.
        judged: The judge's, of the labelled answers.
        labels: Of the same, in the same order; false is 0 and true is 1.
        level: Nominal coverage of the interval.
    """
    everything = np.array(scores, np.float64)
    differences = np.array(labels, np.float64) - np.array(judged, np.float64)
    if len(everything) < 2 or len(differences) < 2:
        return Corrected(None, why_not="one answer or one label says nothing of how far they vary")
    value = math.fsum(everything.tolist()) / len(everything) + math.fsum(differences.tolist()) / len(differences)
    if differences.min() == differences.max():
        differences = np.append(differences, [1.0, -1.0])
    error = math.sqrt(_variance(everything) / len(everything) + _variance(differences) / len(differences))
    around = normal(value, error, level, method="prediction-powered", low=0.0, high=1.0)
    assert around is not None
    low, high = min(around.low, 1.0), max(around.high, 0.0)
    return Corrected(_within(value), around.model_copy(update={"low": low, "high": high}))


def are_alike(scores: Sequence[float], judged: Sequence[float]) -> bool:
    """Whether a judge scores answers as it scored the labelled ones: means within three standard errors (Welch).

    Args:
        scores: Of the answers.
        judged: Of the labelled ones. Where one of both is alone, nobody can say, and they count as alike.
    """
    first, second = np.array(scores, np.float64), np.array(judged, np.float64)
    if len(first) < 2 or len(second) < 2:
        return True
    error = math.sqrt(_variance(first) / len(first) + _variance(second) / len(second))
    return abs(float(first.mean() - second.mean())) <= _APART * error + 1e-12


def _variance(values: Floats) -> float:
    return float(np.square(values - values.mean()).sum()) / (len(values) - 1)


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
