"""Regression by value: RMSE and the other errors, each the same whatever the order of the rows.

Definitions are scikit-learn's. Two differences are meant: R² and the explained variance of a constant ground truth
(or of one row) are undefined here, where scikit-learn answers 0 or 1 by convention; and sums of squares are taken at
a scale at which they neither overflow nor vanish. MAPE follows scikit-learn in dividing by 2.2e-16 where the truth
is zero, with a note.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..schemas.result import Interval, Result
from .base_csv import BaseCSVScorer, main_result
from .intervals import normal
from .numbers import Floats
from .registry import register
from .tables import AlignedTable

__all__ = ["RegressionRMSE", "regression_metrics"]

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
        return main_result(self.metric, metrics, higher_is_better=False, intervals=intervals, notes=notes)


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
    with np.errstate(over="ignore", invalid="ignore"):
        error = predicted - truth
        size = np.abs(error)
        largest = float(size.max())
        metrics: dict[str, float | None]
        if not math.isfinite(largest):
            names = ("rmse", "mse", "mae", "r2", "mape", "median_absolute_error", "max_error", "explained_variance")
            notes.append("An error is beyond what float64 holds (1.8e308), so no metric is defined.")
            return dict.fromkeys(names), {}, notes
        scale = _scale(largest)
        scaled = size / scale
        squares = scaled * scaled
        mean_square = float(squares.mean())
        root = math.sqrt(mean_square)
        metrics = {
            "rmse": root * scale,
            "mse": mean_square * scale * scale,
            "mae": float(scaled.mean()) * scale,
            "r2": None,
            "mape": float((size / np.maximum(np.abs(truth), _EPSILON)).mean()),
            "median_absolute_error": _median(scaled) * scale,
            "max_error": largest,
            "explained_variance": None,
        }
        _explained(metrics, truth, error, notes)
    zeros = int(np.count_nonzero(truth == 0))
    if zeros:
        notes.append(
            f"{zeros:,} of {n:,} true values are 0: mape divides by 2.2e-16 there, as scikit-learn does, "
            "and says little."
        )
    for name, value in metrics.items():
        if value is not None and not math.isfinite(value):
            metrics[name] = None
            notes.append(f"{name} is beyond what float64 holds (1.8e308).")
    intervals: dict[str, Interval | None] = {}
    if n > 1:
        square_error = float(squares.std(ddof=1)) / math.sqrt(n)
        root_error = square_error / (2 * root) if root else 0.0
        absolute_error = float(scaled.std(ddof=1)) / math.sqrt(n)
        for name, spread in (
            ("rmse", root_error * scale),
            ("mse", square_error * scale * scale),
            ("mae", absolute_error * scale),
        ):
            value = metrics[name]
            if value is not None:
                intervals[name] = normal(value, spread, level, method="delta", low=0.0)
    else:
        notes.append("One row has no intervals.")
    return metrics, {name: interval for name, interval in intervals.items() if interval is not None}, notes


def _median(values: Floats) -> float:
    """The median; np.median answers the same, and imports numpy.ma for it."""
    half = len(values) // 2
    places = [half] if len(values) % 2 else [half - 1, half]
    return float(np.partition(values, places)[places].mean())


def _explained(metrics: dict[str, float | None], truth: Floats, error: Floats, notes: list[str]) -> None:
    """R² and the explained variance, where the truth varies."""
    low, high = float(truth.min()), float(truth.max())
    if low == high:
        why = "there is only one row" if len(truth) == 1 else "the ground truth is constant"
        notes.append(f"r2 and explained_variance are undefined: {why}.")
        return
    scale = _scale(max(abs(low), abs(high), float(np.abs(error).max())))
    truth, error = truth / scale, error / scale
    spread = truth - truth.mean()
    total = float((spread * spread).sum())
    if total == 0:
        notes.append("r2 and explained_variance are undefined: the ground truth varies too little beside the errors.")
        return
    centred = error - error.mean()
    metrics["r2"] = 1 - float((error * error).sum()) / total
    metrics["explained_variance"] = 1 - float((centred * centred).sum()) / total


def _scale(largest: float) -> float:
    """A power of two near ``largest``: dividing by it is exact, and squares stay in range."""
    if largest == 0:
        return 1.0
    return math.ldexp(1.0, min(max(math.frexp(largest)[1], -1000), 1000))
