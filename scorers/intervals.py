"""Confidence intervals: closed forms, and the bootstrap of a confusion matrix.

The delta method takes the confusion matrix as one multinomial draw of n cells with probabilities p: a metric with
gradient g over p has the variance (sum p g^2 - (sum p g)^2) / n. All the gradients needed here have the form
row[a] + column[b] + (diagonal[a] if a == b), so the variance needs one pass over the cells that are not empty.
Source: Agresti, Categorical Data Analysis, 3rd ed., section 16.1; for F1, Takahashi et al., Applied Intelligence 52
(2022). Wilson: Wilson, JASA 22 (1927).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..schemas.result import Interval
from .confusion import ConfusionMatrix, metrics_of
from .numbers import Floats

__all__ = ["Gradient", "bootstrap", "delta", "gradient", "normal", "wilson", "z_value"]


@dataclass(frozen=True, slots=True)
class Gradient:
    """Of a metric over the cell probabilities p[a, b]: row[a] + column[b] + (a == b) diagonal[a]; L values each."""

    row: Floats
    column: Floats
    diagonal: Floats


def z_value(level: float) -> float:
    """The standard normal quantile of a two-sided level (1.96 for 0.95)."""
    tail = (1 - level) / 2
    z = 0.0
    # Newton's method: the tail is convex, so from 0 every step falls short and none too far. (statistics.NormalDist
    # answers the same; importing it costs more than scoring a small file.)
    for _ in range(200):
        step = (0.5 * math.erfc(z / math.sqrt(2)) - tail) * math.sqrt(2 * math.pi) * math.exp(z * z / 2)
        z += step
        if abs(step) < 1e-15 * z:
            break
    return z


def normal(
    value: float, error: float, level: float, *, method: str, low: float = -math.inf, high: float = math.inf
) -> Interval | None:
    """value ± z · error, kept within the metric's bounds; None where it is not finite."""
    half = z_value(level) * error
    below, above = max(value - half, low), min(value + half, high)
    if not (math.isfinite(below) and math.isfinite(above)):
        return None
    return Interval(low=below, high=above, level=level, method=method)


def wilson(successes: int, n: int, level: float) -> Interval:
    """The Wilson score interval of a proportion.

    Args:
        successes: Of n.
        n: At least 1.
        level: Nominal coverage.
    """
    z = z_value(level)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and at n the bound is the proportion itself; rounding must not leave it out.
    low = 0.0 if successes == 0 else max(middle - half, 0.0)
    high = 1.0 if successes == n else min(middle + half, 1.0)
    return Interval(low=low, high=high, level=level, method="wilson")


def delta(matrix: ConfusionMatrix, name: str, value: float, level: float) -> Interval | None:
    """The delta-method interval of one of the metrics of ``gradient``."""
    error = standard_error(matrix, gradient(matrix, name))
    low = -1.0 if name in ("matthews_corrcoef", "cohen_kappa") else 0.0
    return normal(value, error, level, method="delta", low=low, high=1.0)


def standard_error(matrix: ConfusionMatrix, g: Gradient) -> float:
    """Standard error of a metric with gradient g, by the delta method."""
    n = matrix.n
    row_p, column_p, both_p = matrix.truth / n, matrix.predicted / n, matrix.hits / n
    mean = _dot(row_p, g.row) + _dot(column_p, g.column) + _dot(both_p, g.diagonal)
    second = _dot(row_p, g.row**2) + _dot(column_p, g.column**2)
    second += _dot(both_p, g.diagonal * (g.diagonal + 2 * (g.row + g.column)))
    if g.row.any() and g.column.any():
        second += 2 * _dot(g.row[matrix.rows] * g.column[matrix.columns], matrix.counts) / n
    return math.sqrt(max(second - mean * mean, 0.0) / n)


def _dot(a: Floats, b: NDArray[np.generic]) -> float:
    """The scalar product without BLAS, whose sums, and whose idle threads' CPU time, depend on how many it runs."""
    return float(np.multiply(a, b).sum())


def gradient(matrix: ConfusionMatrix, name: str) -> Gradient:
    """The gradient of a classification metric over the cell probabilities.

    Args:
        matrix: Of L labels.
        name: A metric of ``metrics_of``.

    Raises:
        KeyError: There is no gradient for it.
    """
    n, size = matrix.n, len(matrix.labels)
    parts = _Parts(
        truth=matrix.truth / n,
        predicted=matrix.predicted / n,
        hits=matrix.hits / n,
        zero=np.zeros(size),
        one=np.ones(size),
    )
    return _GRADIENTS[name](parts)


@dataclass(frozen=True, slots=True)
class _Parts:
    truth: Floats
    predicted: Floats
    hits: Floats
    zero: Floats
    one: Floats


def _over(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def _f1_macro(x: _Parts) -> Gradient:
    both = x.truth + x.predicted
    pull = -_over(2 * x.hits, both * both) / len(both)
    return Gradient(pull, pull, _over(2 * x.one, both) / len(both))


def _f1_weighted(x: _Parts) -> Gradient:
    both = x.truth + x.predicted
    f1 = _over(2 * x.hits, both)
    pull = -x.truth * _over(f1, both)
    return Gradient(f1 + pull, pull, x.truth * _over(2 * x.one, both))


def _precision_macro(x: _Parts) -> Gradient:
    precision = _over(x.hits, x.predicted)
    size = len(precision)
    return Gradient(x.zero, -_over(precision, x.predicted) / size, _over(x.one, x.predicted) / size)


def _precision_weighted(x: _Parts) -> Gradient:
    precision = _over(x.hits, x.predicted)
    return Gradient(precision, -x.truth * _over(precision, x.predicted), _over(x.truth, x.predicted))


def _recall_over(x: _Parts, size: int) -> Gradient:
    recall = _over(x.hits, x.truth)
    return Gradient(-_over(recall, x.truth) / size, x.zero, _over(x.one, x.truth) / size)


def _accuracy(x: _Parts) -> Gradient:
    return Gradient(x.zero, x.zero, x.one)


def _kappa(x: _Parts) -> Gradient:
    observed, expected = x.hits.sum(), _dot(x.truth, x.predicted)
    pull = -(1 - observed) / (1 - expected) ** 2
    return Gradient(pull * x.predicted, pull * x.truth, x.one / (1 - expected))


def _matthews(x: _Parts) -> Gradient:
    covariance = float(x.hits.sum()) - _dot(x.truth, x.predicted)
    spread_truth, spread = 1 - _dot(x.truth, x.truth), 1 - _dot(x.predicted, x.predicted)
    product = spread_truth * spread
    if product <= 0:
        return Gradient(x.zero, x.zero, x.zero)
    root = math.sqrt(product)
    share = covariance / (root * product)
    row = -x.predicted / root + share * spread * x.truth
    column = -x.truth / root + share * spread_truth * x.predicted
    return Gradient(row, column, x.one / root)


_GRADIENTS: Mapping[str, Callable[[_Parts], Gradient]] = {
    "f1_macro": _f1_macro,
    "f1_micro": _accuracy,
    "f1_weighted": _f1_weighted,
    "precision_macro": _precision_macro,
    "precision_micro": _accuracy,
    "precision_weighted": _precision_weighted,
    "recall_macro": lambda x: _recall_over(x, len(x.truth)),
    "recall_micro": _accuracy,
    "recall_weighted": _accuracy,
    "accuracy": _accuracy,
    "balanced_accuracy": lambda x: _recall_over(x, int(np.count_nonzero(x.truth))),
    "cohen_kappa": _kappa,
    "matthews_corrcoef": _matthews,
}


def bootstrap(
    matrix: ConfusionMatrix, names: list[str], level: float, *, n_resamples: int, seed: int
) -> dict[str, Interval]:
    """Percentile intervals from multinomial resamples of the confusion matrix.

    Drawing n rows anew and counting them is one multinomial draw of the cells, so no row is touched.

    Args:
        matrix: Of few labels: the cost grows with the cells.
        names: Metrics of ``metrics_of``.
        level: Nominal coverage.
        n_resamples: Draws.
        seed: The same seed gives the same intervals.
    """
    rng = np.random.default_rng(seed)
    size = len(matrix.labels)
    draws = rng.multinomial(matrix.n, matrix.counts / matrix.n, size=n_resamples)
    on_diagonal = matrix.rows == matrix.columns
    hits = _fold(draws[:, on_diagonal], matrix.rows[on_diagonal], size)
    truth = _fold(draws, matrix.rows, size)
    predicted = _fold(draws, matrix.columns, size)
    resampled = metrics_of(hits, truth, predicted)
    tail = (1 - level) / 2
    intervals = {}
    for name in names:
        values = resampled[name][np.isfinite(resampled[name])]
        if len(values):
            low, high = np.quantile(values, [tail, 1 - tail])
            intervals[name] = Interval(
                low=float(low), high=float(high), level=level, method="bootstrap-multinomial", n_resamples=n_resamples
            )
    return intervals


def _fold(draws: NDArray[np.int64], groups: NDArray[np.intp], size: int) -> NDArray[np.int64]:
    """Sum the columns of (resamples, cells) by group: shape (resamples, size)."""
    member = np.zeros((len(groups), size), np.int64)
    member[np.arange(len(groups)), groups] = 1
    return draws @ member
