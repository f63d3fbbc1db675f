"""Regression by value: RMSE and the other errors, each the same whatever the order of the rows.

Definitions are scikit-learn's. Two differences are meant: R² and the explained variance of a constant ground truth
(or of one row) are undefined here, where scikit-learn answers 0 or 1 by convention; and sums of squares are taken at
a scale at which they neither overflow nor vanish. MAPE follows scikit-learn in dividing by 2.2e-16 where the truth
is zero, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..schemas.result import Disclosed, Interval, Result
from .base_csv import BaseCSVScorer, main_result
from .metrics.intervals import normal
from .registry.registry import register
from .tables.aligned import AlignedTable
from .tables.arrays import Floats

__all__ = ["METRICS", "RegressionRMSE", "regression_metrics"]

_STRETCH = 1 << 14  # rows
# Every metric, and whether submitters may see it. They may not where one row decides it, or two: the largest and the
# middle error, and a mean that a truth near 0 dominates.
METRICS = {
    "rmse": True,
    "mse": True,
    "mae": True,
    "r2": True,
    "mape": False,
    "median_absolute_error": False,
    "max_error": False,
    "explained_variance": True,
}
_EPSILON = float(np.finfo(np.float64).eps)


@register("regression_rmse")
class RegressionRMSE(BaseCSVScorer):
    """Root mean squared error, and the usual company."""

    name: ClassVar[str] = "regression_rmse"
    version: ClassVar[str] = "1.0.0"
    description: ClassVar[str] = "RMSE, MSE, MAE, R² and other errors of predicted values; lower is better."
    task_type: ClassVar[str] = "regression"
    metric: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False
    values = "number"
    truth_columns = ("label", "value")
    prediction_columns = ("label", "value", "prediction")

    def compute(self, table: AlignedTable, params: Any) -> Result:
        """The metrics, with delta-method intervals of RMSE, MSE and MAE."""
        metrics, intervals, notes = regression_metrics(
            table.truth_numbers, table.prediction_numbers, params.confidence_level
        )
        hidden = [name for name, may_be_seen in METRICS.items() if not may_be_seen]
        disclosed = Disclosed(
            metrics={name: value for name, value in metrics.items() if METRICS[name]},
            notes=[note for note in notes if not any(name in note for name in (*hidden, "true values"))],
        )
        more: dict[str, Any] = {"intervals": intervals, "notes": notes, "disclosed": disclosed}
        return main_result(self.metric, metrics, higher_is_better=False, **more)


def regression_metrics(
    truth: Floats, predicted: Floats, level: float = 0.95
) -> tuple[dict[str, float | None], dict[str, Interval], list[str]]:
    """Metrics, intervals and notes of two columns.

    Args:
        truth: Finite, shape (n,), n >= 1.
        predicted: The same.
        level: Nominal coverage of the intervals.

    Returns:
        Metrics (None where undefined), intervals of rmse, mse and mae, and what a reader must know.
    """
    n = len(truth)
    notes: list[str] = []
    with np.errstate(over="ignore"):
        sizes = predicted - truth
        np.abs(sizes, out=sizes)
    largest = float(sizes.max())
    if not math.isfinite(largest):
        notes.append("An error is beyond what float64 holds (1.8e308), so no metric is defined.")
        return dict.fromkeys(METRICS), {}, notes
    scale = _scale(largest)
    sizes /= scale
    mean = _mean(lambda part: sizes[part], n)
    mean_square = _mean(lambda part: sizes[part] ** 2, n)
    root = math.sqrt(mean_square)
    r2, explained = _explained(truth, predicted, largest, notes)
    metrics: dict[str, float | None] = {
        "rmse": root * scale,
        "mse": mean_square * scale * scale,
        "mae": mean * scale,
        "r2": r2,
        "mape": _mape(truth, predicted, notes),
        "median_absolute_error": None,
        "max_error": largest,
        "explained_variance": explained,
    }
    intervals: dict[str, Interval | None] = {}
    if n > 1:
        share = 1 / (n - 1)  # of the variance of a mean: sum of squares / (n - 1) / n
        square_error = math.sqrt(_mean(lambda part: (sizes[part] ** 2 - mean_square) ** 2, n) * share)
        error = math.sqrt(_mean(lambda part: (sizes[part] - mean) ** 2, n) * share)
        for name, spread in (
            ("rmse", (square_error / (2 * root) if root else 0.0) * scale),
            ("mse", square_error * scale * scale),
            ("mae", error * scale),
        ):
            value = metrics[name]
            if spread and value is not None and math.isfinite(value):
                intervals[name] = normal(value, spread, level, method="delta", low=0.0)
        if not square_error:
            notes.append("All errors are of the same size: the sample says nothing of their spread, so no intervals.")
    else:
        notes.append("One row has no intervals.")
    metrics["median_absolute_error"] = _median(sizes) * scale  # puts the sizes in another order
    for name, value in metrics.items():
        if value is not None and not math.isfinite(value):
            metrics[name] = None
            notes.append(f"{name} is beyond what float64 holds (1.8e308).")
    return metrics, {name: interval for name, interval in intervals.items() if interval is not None}, notes


def _mean(values: Callable[[slice], Floats], n: int) -> float:
    """The mean of n values that are made a stretch at a time: whole columns of them would have to leave the cache.

    Stretches are the same whatever the machine, their sums are added exactly, and the rows come in the order of their
    ids: the same rows give the same bits.
    """
    return math.fsum(float(values(slice(at, at + _STRETCH)).sum()) for at in range(0, n, _STRETCH)) / n


def _mape(truth: Floats, predicted: Floats, notes: list[str]) -> float:
    zeros = len(truth) - int(np.count_nonzero(truth))
    if zeros:
        notes.append(
            f"{zeros:,} of {len(truth):,} true values are 0: mape divides by 2.2e-16 there, as scikit-learn does, "
            "and says little."
        )
    with np.errstate(over="ignore"):
        try:
            return _mean(
                lambda part: np.abs(predicted[part] - truth[part]) / np.maximum(np.abs(truth[part]), _EPSILON),
                len(truth),
            )
        except OverflowError:  # what fsum says of sums that leave float64
            return math.inf


def _median(values: Floats) -> float:
    """The median, in place; np.median answers the same, and imports numpy.ma for it."""
    half = len(values) // 2
    places = [half] if len(values) % 2 else [half - 1, half]
    values.partition(places)
    return float(values[places].mean())


def _explained(truth: Floats, predicted: Floats, largest: float, notes: list[str]) -> tuple[float | None, float | None]:
    """R² and the explained variance, where the truth varies."""
    n = len(truth)
    low, high = float(truth.min()), float(truth.max())
    if low == high:
        why = "there is only one row" if n == 1 else "the ground truth is constant"
        notes.append(f"r2 and explained_variance are undefined: {why}.")
        return None, None
    scale = _scale(max(abs(low), abs(high), largest))
    centre = _mean(lambda part: truth[part] / scale, n)
    total = _mean(lambda part: (truth[part] / scale - centre) ** 2, n)
    if total == 0:
        notes.append("r2 and explained_variance are undefined: the ground truth varies too little beside the errors.")
        return None, None
    bias = _mean(lambda part: (predicted[part] - truth[part]) / scale, n)
    wrong = _mean(lambda part: ((predicted[part] - truth[part]) / scale) ** 2, n)
    unexplained = _mean(lambda part: ((predicted[part] - truth[part]) / scale - bias) ** 2, n)
    return 1 - wrong / total, 1 - unexplained / total


def _scale(largest: float) -> float:
    """A power of two near ``largest``: dividing by it is exact, and squares stay in range."""
    if largest == 0:
        return 1.0
    return math.ldexp(1.0, min(max(math.frexp(largest)[1], -1000), 1000))
