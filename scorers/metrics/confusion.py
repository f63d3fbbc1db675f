"""The confusion matrix, counted once, and every classification metric as a function of it.

Definitions are scikit-learn's, with ``zero_division=0``: averages run over every label of the ground truth or the
predictions; a precision or recall that is 0/0 counts as 0. Matthews' coefficient is 0 where it is 0/0, Cohen's kappa
undefined (NaN). They are checked against scikit-learn in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..tables.arrays import Floats, Ints

__all__ = ["Averages", "ConfusionMatrix", "count_matrix", "metrics_of", "per_class", "ratio"]

Counts = Ints
Averages = ("macro", "micro", "weighted")

# So many cells are always counted one by one.
_FEW_CELLS = 1 << 16


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of (truth, prediction) for L labels, the empty cells left out.

    Attributes:
        labels: In text order, every label of the ground truth or the predictions.
        rows: Truth of each cell that is not empty, index into labels, in order.
        columns: Its prediction.
        counts: Its count.
        hits: Rows of each label predicted as itself, shape (L,).
        truth: Rows of each label, shape (L,).
        predicted: Rows predicted as each label, shape (L,).
        n: All rows.
    """

    labels: Sequence[str]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    counts: Counts
    hits: Counts
    truth: Counts
    predicted: Counts
    n: int

    def dense(self, labels: NDArray[np.intp] | None = None) -> Counts:
        """The matrix, truth by prediction, of all labels or of these."""
        chosen = np.arange(len(self.labels)) if labels is None else labels
        place = np.full(len(self.labels), -1)
        place[chosen] = np.arange(len(chosen))
        rows, columns = place[self.rows], place[self.columns]
        inside = (rows >= 0) & (columns >= 0)
        matrix = np.zeros((len(chosen), len(chosen)), np.int64)
        matrix[rows[inside], columns[inside]] = self.counts[inside]
        return matrix


def count_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], labels: Sequence[str]) -> ConfusionMatrix:
    """Count pairs of codes.

    Args:
        truth: Index into labels, shape (n,), n >= 1.
        predicted: The same.
        labels: L label texts.
    """
    size, n = len(labels), len(truth)
    cells_in_all = size * size
    if cells_in_all <= max(_FEW_CELLS, n // 8):
        matrix = np.zeros(cells_in_all, np.int64)
        step = max(1 << 15, 2 * cells_in_all)
        for at in range(0, n, step):
            pairs = _pairs(truth[at : at + step], predicted[at : at + step], size, np.int64)
            matrix += np.bincount(pairs, minlength=cells_in_all)
        cells = np.flatnonzero(matrix)
        counts = matrix[cells]
    else:
        # Where few rows meet many cells, sorting the pairs is faster, and takes no room for the empty ones.
        pairs = _pairs(truth, predicted, size, np.uint32 if cells_in_all < 1 << 32 else np.int64)
        pairs.sort()
        first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
        cells, counts = pairs[first].astype(np.int64), np.diff(first, append=n)
    rows, columns = np.divmod(cells, size)
    diagonal = rows == columns
    hits = np.zeros(size, np.int64)
    hits[rows[diagonal]] = counts[diagonal]
    return ConfusionMatrix(
        labels=labels,
        rows=rows,
        columns=columns,
        counts=counts,
        hits=hits,
        # Sums of counts below 2^53: exact as float64.
        truth=np.bincount(rows, counts, size).astype(np.int64),
        predicted=np.bincount(columns, counts, size).astype(np.int64),
        n=n,
    )


def _pairs(truth: NDArray[np.integer], predicted: NDArray[np.integer], size: int, kind: type) -> NDArray[np.integer]:
    pairs: NDArray[np.integer] = truth.astype(kind)
    pairs *= size
    pairs += predicted.astype(kind)
    return pairs


def per_class(hits: Counts, truth: Counts, predicted: Counts) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each label, 0 where they are 0/0; shapes as given, (…, L)."""
    return ratio(hits, predicted), ratio(hits, truth), ratio(2 * hits, truth + predicted)


def metrics_of(hits: Counts, truth: Counts, predicted: Counts) -> dict[str, Floats]:
    """Every metric of a confusion matrix, or of many of them at once.

    Args:
        hits: Rows of each label predicted as itself, shape (…, L).
        truth: Rows of each label, shape (…, L).
        predicted: Rows predicted as each label, shape (…, L).

    Returns:
        Metric name to values of shape (…); NaN where undefined.
    """
    n = truth.sum(-1)
    precision, recall, f1 = per_class(hits, truth, predicted)
    accuracy = hits.sum(-1) / n
    metrics: dict[str, Floats] = {}
    for name, values in (("f1", f1), ("precision", precision), ("recall", recall)):
        metrics[f"{name}_macro"] = values.mean(-1)
        # With one label a row, as many false positives as false negatives: all three are the accuracy.
        metrics[f"{name}_micro"] = accuracy
        metrics[f"{name}_weighted"] = (values * truth).sum(-1) / n
    metrics["accuracy"] = accuracy
    metrics["balanced_accuracy"] = recall.sum(-1) / np.count_nonzero(truth, axis=-1)
    by_chance = (truth * predicted).sum(-1)
    covariance = hits.sum(-1) * n - by_chance
    spread_truth, spread = n * n - (truth * truth).sum(-1), n * n - (predicted * predicted).sum(-1)
    metrics["matthews_corrcoef"] = ratio(covariance, np.sqrt(spread_truth.astype(float) * spread.astype(float)))
    unlike = n * n - by_chance
    metrics["cohen_kappa"] = np.where(unlike == 0, np.nan, 1 - ratio(n * n - n * hits.sum(-1), unlike))
    return metrics


def ratio(a: NDArray[np.generic], b: NDArray[np.generic]) -> Floats:
    """a / b, and 0 where b is 0."""
    quotient: Floats = np.zeros(np.shape(a))
    np.divide(a, b, out=quotient, where=np.asarray(b) != 0)
    return quotient
