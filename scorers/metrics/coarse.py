"""Counts that tell nothing of few rows: what of a scoring may go to those who may not see the ground truth.

Whoever submits chooses the predictions, and so which rows are counted together: the rows of one predicted label are a
group whose members are known. ``protected`` lets no cell of such a group tell the truth of its rows: fewer than
``min_count`` rows are not shown, other counts in steps of it, and never so many that all rows of the group could be
known to have one truth. docs/decisions/0009-disclosure.md says why in steps, and what remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tables.arrays import Floats
from .confusion import ConfusionMatrix, Counts

__all__ = ["CoarseMatrix", "coarse_matrix", "enough", "in_steps", "protected"]


# A quotient of counts is shown from so many steps on: below, the steps would say more than the rows.
_STEPS = 10
# The matrix of more labels would say little, and the plot nothing; those with the most rows are shown.
_MAX_LABELS = 200
_MAX_LABELS_IN_METRICS = 20


def protected(counts: Any, group: Any, min_count: int) -> Counts:
    """Counts of the parts of groups, as they may be shown.

    Args:
        counts: Rows of each part of each group, (parts, groups).
        group: Rows of each group, (groups,): its parts, and what lies in none of them.
        min_count: Steps, at least 1; with 1 the counts stay as they are.

    Returns:
        Each count rounded down to a multiple of ``min_count``. Where less than ``min_count`` rows of a group would be
        left open, the smallest count that is shown loses a step: so no group is known to have one truth, and no count
        follows from the others.
    """
    whole: Counts = np.asarray(counts, np.int64)
    if min_count <= 1:
        return whole
    shown = in_steps(whole, min_count)
    crowded = np.flatnonzero((shown.sum(axis=0) > np.asarray(group) - min_count) & shown.any(axis=0))
    if len(crowded):
        largest = np.iinfo(np.int64).max
        smallest = np.where(shown[:, crowded] > 0, shown[:, crowded], largest).argmin(axis=0)
        shown[smallest, crowded] -= min_count
    return shown


def in_steps(counts: Any, min_count: int) -> Counts:
    """Counts rounded down to multiples of ``min_count``."""
    rounded: Counts = np.asarray(counts, np.int64) // min_count * min_count
    return rounded


def enough(counts: Any, min_count: int) -> NDArray[np.bool_]:
    """Whether a quotient over so many rows, or a metric of so many, may be shown."""
    found: NDArray[np.bool_] = np.asarray(counts) >= (1 if min_count <= 1 else _STEPS * min_count)
    return found


@dataclass(frozen=True)
class CoarseMatrix:
    """A confusion matrix as it may be shown.

    Attributes:
        labels: The labels that enough rows of the ground truth have, in text order; S of them.
        counts: Truth by prediction, (S + 1, S + 1), protected; the last row and column are all other labels together.
        support: Rows of each label in steps, (S,).
        precision: (S,), from counts in steps; NaN where too few rows are predicted so.
        recall: (S,); NaN where too few rows have the label.
        f1: The same.
        min_count: The step.
    """

    labels: list[str]
    counts: Counts
    support: Counts
    precision: Floats
    recall: Floats
    f1: Floats
    min_count: int

    def metrics(self) -> dict[str, float | None]:
        """``precision/<label>`` and the like, of labels with enough rows; nothing of many labels."""
        if len(self.labels) > _MAX_LABELS_IN_METRICS:
            return {}
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        found: dict[str, float | None] = {}
        for name, column in columns.items():
            values = zip(self.labels, column.tolist(), strict=True)
            found |= {f"{name}/{label}": value for label, value in values if value == value}
        shown = enough(self.support, self.min_count).tolist()
        supports = zip(self.labels, self.support.tolist(), shown, strict=True)
        return found | {f"support/{label}": float(count) for label, count, there in supports if there}

    def note(self) -> str:
        """What a reader of these numbers must know."""
        if self.min_count <= 1:
            return "Labels that the ground truth does not have stand together."
        return (
            f"Counts are shown in steps of {self.min_count} and from {self.min_count} rows on, metrics of a label from "
            f"about {_STEPS * self.min_count} rows on; all other labels stand together."
        )


def coarse_matrix(matrix: ConfusionMatrix, min_count: int) -> CoarseMatrix:
    """What of a confusion matrix may be shown.

    Args:
        matrix: All counts.
        min_count: ``security.disclosure.min_count``.
    """
    k = max(min_count, 1)
    named = np.flatnonzero(matrix.truth >= k)
    if len(named) > _MAX_LABELS:  # which ones depends on the ground truth alone
        named = np.sort(named[np.argsort(-matrix.truth[named], kind="stable")[:_MAX_LABELS]])
    size = len(named)
    place = np.full(len(matrix.labels), size)
    place[named] = np.arange(size)
    cells = place[matrix.rows] * (size + 1) + place[matrix.columns]
    # Sums of counts below 2^53: exact as float64.
    counts = np.bincount(cells, matrix.counts, (size + 1) ** 2).astype(np.int64).reshape(size + 1, size + 1)
    predicted, truth = counts.sum(axis=0), matrix.truth[named]
    shown = protected(counts, predicted, k)
    hits = np.diagonal(shown)[:size]
    # As many rows are left out below the line as above it, so that all right is 1.
    below_p, below_t = (in_steps(np.maximum(n - (k if k > 1 else 0), 0), k) for n in (predicted[:size], truth))
    hits_of_truth = np.minimum(hits, below_t)
    return CoarseMatrix(
        labels=[matrix.labels[index] for index in named.tolist()],
        counts=shown,
        support=in_steps(truth, k),
        precision=_quotient(hits, below_p, enough(below_p, k) & enough(truth, k)),
        recall=_quotient(hits_of_truth, below_t, enough(truth, k)),
        f1=_quotient(2 * np.minimum(hits_of_truth, below_p), below_t + below_p, enough(truth, k)),
        min_count=k,
    )


def _quotient(above: Counts, below: Counts, shown: NDArray[np.bool_]) -> Floats:
    quotient: Floats = np.full(len(below), np.nan)
    np.divide(above, below, out=quotient, where=shown & (below > 0))
    return quotient
