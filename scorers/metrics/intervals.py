"""Confidence intervals of classification metrics that hold near the ends of the scale, and the bootstrap.

A share of rows has Wilson's interval (Wilson, JASA 22, 1927), which does not shrink to a point at 0 or 1. An average
over classes is put together from the Wilson limits of its classes by the method of variance estimates recovery (MOVER:
Zou and Donner, Statistics in Medicine 27, 2008): with weights w, values r and limits l and u,

    low = sum(w r) - k sqrt(sum((w (r - l))^2)),   high = sum(w r) + k sqrt(sum((w (u - r))^2)).

F1 of a class is 2 J / (1 + J) with J = hits / (truth + predicted - hits), a share of the rows that are of the class or
predicted as it: its limits are those of J, transformed. Where the accuracy's Wilson limits, stretched to the metric,
are wider, they count; kappa and Matthews' coefficient have these alone. The factor k is the metric's standard error by
the delta method, divided by that of the average as if its classes were independent; the stretch is the same, divided by
the accuracy's. So in large samples the interval is the delta method's.

The ratios are taken at a matrix with z^2 rows added, half of them right, as Agresti and Coull add them (The American
Statistician 52, 1998): a sample without an error has no standard error of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas.result import Interval
from ..tables.arrays import Floats
from .confusion import ConfusionMatrix, metrics_of
from .delta_method import Cells, gradient, standard_error

__all__ = ["bootstrap", "classification_interval", "mean_interval", "normal", "wilson", "z_value"]


# These are the accuracy by another name.
ACCURACIES = ("accuracy", "f1_micro", "precision_micro", "recall_micro", "recall_weighted")


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


def wilson(successes: float, n: int, level: float) -> Interval:
    """The Wilson score interval of a proportion.

    Args:
        successes: Of n. Not whole where it is a sum of values from 0 to 1, which vary no more than a proportion does.
        n: At least 1.
        level: Nominal coverage.
    """
    low, high = _wilson_limits(np.array([successes]), np.array([n]), z_value(level))
    return Interval(low=float(low[0]), high=float(high[0]), level=level, method="wilson")


def _wilson_limits(successes: NDArray[Any], n: NDArray[np.integer], z: float) -> tuple[Floats, Floats]:
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and at n the bound is the proportion itself; rounding must not leave it out.
    low = np.where(successes == 0, 0.0, np.maximum(middle - half, 0.0))
    high = np.where(successes == n, 1.0, np.minimum(middle + half, 1.0))
    return low, high


def mean_interval(values: Floats, level: float) -> Interval | None:
    """The interval of a mean over rows: Wilson's where each is 0 or 1, else the normal one.

    Args:
        values: Finite, shape (n,).
        level: Nominal coverage.

    Returns:
        The interval; None where the sample says nothing of its own spread: one row, or all the same.
    """
    n = len(values)
    if n and bool(np.all((values == 0) | (values == 1))):
        return wilson(int(values.sum()), n, level)
    if n < 2 or values.min() == values.max():
        return None
    mean = math.fsum(values.tolist()) / n
    error = math.sqrt(float(np.square(values - mean).sum()) / (n - 1) / n)
    return normal(mean, error, level, method="normal")


def classification_interval(matrix: ConfusionMatrix, name: str, value: float, level: float) -> Interval | None:
    """The interval of a metric of ``metrics_of``; it has width even where every row is right.

    Args:
        matrix: The confusion matrix.
        name: The metric.
        value: Its value.
        level: Nominal coverage.

    Returns:
        The interval; None for Matthews' coefficient where it is 0/0 and taken as 0.
    """
    if name in ACCURACIES:
        return wilson(int(matrix.hits.sum()), matrix.n, level)
    z = z_value(level)
    smoothed = Cells.smoothed(matrix, z * z)
    error = standard_error(smoothed, gradient(smoothed, name))
    share = int(matrix.hits.sum()) / matrix.n
    accuracy = wilson(int(matrix.hits.sum()), matrix.n, level)
    stretch = error / standard_error(smoothed, gradient(smoothed, "accuracy")) if error else 1.0
    below, above = stretch * (share - accuracy.low), stretch * (accuracy.high - share)
    if name in ("cohen_kappa", "matthews_corrcoef"):
        if name == "matthews_corrcoef" and not gradient(Cells.of(matrix), name).diagonal.any():
            return None
        return Interval(low=max(value - below, -1.0), high=min(value + above, 1.0), level=level, method="wilson-scaled")
    classes = _classes(matrix, smoothed, name, z)
    apart = math.sqrt(float((np.square(classes.weight) * classes.variance).sum()))
    factor = error / apart if apart else 1.0
    # Few rows in some class make the average uncertain, and so do few rows in all: the wider one counts.
    below = max(below, factor * math.sqrt(float(np.square(classes.weight * (classes.value - classes.low)).sum())))
    above = max(above, factor * math.sqrt(float(np.square(classes.weight * (classes.high - classes.value)).sum())))
    return Interval(low=max(value - below, 0.0), high=min(value + above, 1.0), level=level, method="wilson-mover")


@dataclass(frozen=True, slots=True)
class _Classes:
    """The classes of an average: weights, values, Wilson limits, and smoothed variances; each (C,)."""

    weight: Floats
    value: Floats
    low: Floats
    high: Floats
    variance: Floats


def _classes(matrix: ConfusionMatrix, smoothed: Cells, name: str, z: float) -> _Classes:
    kind, _, average = name.rpartition("_")
    hits, truth, predicted = matrix.hits, matrix.truth, matrix.predicted
    size = len(matrix.labels)
    if kind == "f1":
        rows, smoothed_rows = truth + predicted - hits, smoothed.truth + smoothed.predicted
    elif kind == "precision":
        rows, smoothed_rows = predicted, smoothed.predicted
    else:  # recall_macro, balanced_accuracy
        rows, smoothed_rows = truth, smoothed.truth
    there = rows > 0
    if average == "weighted":
        weight = truth / matrix.n
    else:
        weight = np.full(size, 1 / (np.count_nonzero(truth) if name == "balanced_accuracy" else size))
    low, high = _wilson_limits(hits[there], rows[there], z)
    value = hits[there] / rows[there]
    smoothed_hits, smoothed_rows = smoothed.hits[there], smoothed_rows[there]
    if kind == "f1":
        value, low, high = (2 * share / (1 + share) for share in (value, low, high))
        f1 = 2 * smoothed_hits / smoothed_rows
        variance = f1 * (1 - f1) * (2 - f1) / (smoothed_rows * smoothed.n)
    else:
        share = smoothed_hits / smoothed_rows
        variance = share * (1 - share) / (smoothed_rows * smoothed.n)
    return _Classes(weight[there], value, low, high, variance)


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
