"""Standard errors of classification metrics by the delta method.

It takes the confusion matrix as one multinomial draw of n cells with probabilities p: a metric with gradient g over p
has the variance (sum p g^2 - (sum p g)^2) / n. All the gradients needed here have the form
row[a] + column[b] + (diagonal[a] if a == b), so the variance needs one pass over the cells that are not empty.
Source: Agresti, Categorical Data Analysis, 3rd ed., section 16.1; for F1, Takahashi et al., Applied Intelligence 52
(2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..tables.arrays import Floats
from .confusion import ConfusionMatrix, ratio

__all__ = ["Cells", "Gradient", "gradient", "standard_error"]


@dataclass(frozen=True, slots=True)
class Gradient:
    """Of a metric over the cell probabilities p[a, b]: row[a] + column[b] + (a == b) diagonal[a]; L values each."""

    row: Floats
    column: Floats
    diagonal: Floats


@dataclass(frozen=True, slots=True)
class Cells:
    """Cell probabilities p[a, b] of a confusion matrix of L labels, by what the delta method needs of them.

    Attributes:
        truth: Sums over b, shape (L,).
        predicted: Sums over a, shape (L,).
        hits: p[a, a], shape (L,).
        cross: From two vectors r, c of shape (L,) to sum p[a, b] r[a] c[b].
        n: The rows that they were estimated from.
    """

    truth: Floats
    predicted: Floats
    hits: Floats
    cross: Callable[[Floats, Floats], float]
    n: float

    @classmethod
    def of(cls, matrix: ConfusionMatrix) -> Cells:
        """The shares of a matrix."""
        n = matrix.n

        def cross(row: Floats, column: Floats) -> float:
            return _dot(row[matrix.rows] * column[matrix.columns], matrix.counts) / n

        return cls(matrix.truth / n, matrix.predicted / n, matrix.hits / n, cross, n)

    @classmethod
    def smoothed(cls, matrix: ConfusionMatrix, rows: float) -> Cells:
        """The shares of a matrix with rows added: half of them right, half wrong, by the labels' own frequencies.

        Args:
            matrix: The matrix.
            rows: How many are added, a positive number.
        """
        seen = cls.of(matrix)
        if len(matrix.labels) == 1:
            return seen  # there is no other label to be wrong with
        part = rows / (matrix.n + rows)
        common = (seen.truth + seen.predicted) / 2
        # A wrong row of a label goes to each other label by how common that one is.
        wrong = seen.truth / 2 / (1 - common)
        predicted = seen.truth / 2 + common * (wrong.sum() - wrong)

        def cross(row: Floats, column: Floats) -> float:
            added = _dot(row * column, seen.truth) / 2
            added += _dot(row * (_dot(column, common) - column * common), wrong)
            return (1 - part) * seen.cross(row, column) + part * added

        return cls(
            truth=seen.truth,
            predicted=(1 - part) * seen.predicted + part * predicted,
            hits=(1 - part) * seen.hits + part * seen.truth / 2,
            cross=cross,
            n=matrix.n + rows,
        )


def standard_error(cells: Cells, g: Gradient) -> float:
    """Standard error of a metric with gradient g, by the delta method."""
    mean = _dot(cells.truth, g.row) + _dot(cells.predicted, g.column) + _dot(cells.hits, g.diagonal)
    second = _dot(cells.truth, g.row**2) + _dot(cells.predicted, g.column**2)
    second += _dot(cells.hits, g.diagonal * (g.diagonal + 2 * (g.row + g.column)))
    if g.row.any() and g.column.any():
        second += 2 * cells.cross(g.row, g.column)
    return math.sqrt(max(second - mean * mean, 0.0) / cells.n)


def _dot(a: Floats, b: NDArray[np.generic]) -> float:
    """The scalar product without BLAS, whose sums, and whose idle threads' CPU time, depend on how many it runs."""
    return float(np.multiply(a, b).sum())


def gradient(cells: Cells, name: str) -> Gradient:
    """The gradient of a classification metric over the cell probabilities.

    Args:
        cells: Of L labels.
        name: A metric of ``metrics_of``.

    Raises:
        KeyError: There is no gradient for it.
    """
    size = len(cells.truth)
    return _GRADIENTS[name](_Parts(cells.truth, cells.predicted, cells.hits, np.zeros(size), np.ones(size)))


@dataclass(frozen=True, slots=True)
class _Parts:
    truth: Floats
    predicted: Floats
    hits: Floats
    zero: Floats
    one: Floats


def _f1_macro(x: _Parts) -> Gradient:
    both = x.truth + x.predicted
    pull = -ratio(2 * x.hits, both * both) / len(both)
    return Gradient(pull, pull, ratio(2 * x.one, both) / len(both))


def _f1_weighted(x: _Parts) -> Gradient:
    both = x.truth + x.predicted
    f1 = ratio(2 * x.hits, both)
    pull = -x.truth * ratio(f1, both)
    return Gradient(f1 + pull, pull, x.truth * ratio(2 * x.one, both))


def _precision_macro(x: _Parts) -> Gradient:
    precision = ratio(x.hits, x.predicted)
    size = len(precision)
    return Gradient(x.zero, -ratio(precision, x.predicted) / size, ratio(x.one, x.predicted) / size)


def _precision_weighted(x: _Parts) -> Gradient:
    precision = ratio(x.hits, x.predicted)
    return Gradient(precision, -x.truth * ratio(precision, x.predicted), ratio(x.truth, x.predicted))


def _recall_over(x: _Parts, size: int) -> Gradient:
    recall = ratio(x.hits, x.truth)
    return Gradient(-ratio(recall, x.truth) / size, x.zero, ratio(x.one, x.truth) / size)


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
