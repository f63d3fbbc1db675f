"""A cascade of boosted local binary patterns, evaluated with NumPy: finds faces seen from the front.

The method is of Liao et al. (Learning Multi-scale Block Local Binary Patterns for Face Recognition, 2007) in the
form OpenCV trains and stores it: a window passes stage after stage, and almost every window fails in the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hog import overlap, pyramid

# The eight blocks around the middle one, (row, column), from the top left clockwise: the most significant bit first.
AROUND = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
SAME_FACE = 0.4  # IoU from which on two windows are taken for the same face
FINEST = 1.2  # scale of the first level of the pyramid: faces of 20 pixels and more
LEAST_SCORE = 0.7  # below it, too few windows agree


@dataclass(frozen=True)
class Cascade:
    """A trained cascade.

    Attributes:
        category_id: The category of what it finds.
        side: Of the window, in pixels.
        stages: Least sum of each stage, shape (stages,).
        sizes: Number of weak classifiers of each stage, shape (stages,).
        rectangles: Of each weak classifier, its top left block: left, top, width, height; shape (weak, 4).
        subsets: Which of the 256 patterns each weak classifier takes for a face, shape (weak, 256).
        leaves: What it adds to the sum for a pattern of the subset and for another, shape (weak, 2).
    """

    category_id: int
    side: int
    stages: np.ndarray
    sizes: np.ndarray
    rectangles: np.ndarray
    subsets: np.ndarray
    leaves: np.ndarray

    def windows(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows, the columns and the strength of the windows of one picture that pass every stage."""
        # Sums of rectangles by four look-ups; whole grey levels, so that the comparisons are exact.
        sums = np.zeros((level.shape[0] + 1, level.shape[1] + 1), np.int64)
        sums[1:, 1:] = np.round(level * 255).astype(np.int64).cumsum(0).cumsum(1)
        rows, columns = (
            a.ravel() for a in np.mgrid[: level.shape[0] - self.side + 1, : level.shape[1] - self.side + 1]
        )
        strength = np.zeros(len(rows))
        first = 0
        for threshold, size in zip(self.stages, self.sizes, strict=True):
            total = np.zeros(len(rows))
            for weak in range(first, first + size):
                total += np.where(self.matches(sums, rows, columns, weak), *self.leaves[weak])
            first += size
            passed = total >= threshold
            rows, columns = rows[passed], columns[passed]
            strength = strength[passed] + (total[passed] - threshold)
        return rows, columns, strength / len(self.stages)

    def matches(self, sums: np.ndarray, rows: np.ndarray, columns: np.ndarray, weak: int) -> np.ndarray:
        """Say for which windows the pattern of a weak classifier's nine blocks is in its subset."""
        left, top, width, height = self.rectangles[weak].tolist()
        corners = [[sums[rows + top + i * height, columns + left + j * width] for j in range(4)] for i in range(4)]

        def block(i: int, j: int) -> np.ndarray:
            return corners[i + 1][j + 1] - corners[i][j + 1] - corners[i + 1][j] + corners[i][j]

        middle, pattern = block(1, 1), np.zeros(len(rows), np.int64)
        for i, j in AROUND:
            pattern = pattern * 2 + (block(i, j) >= middle)
        return self.subsets[weak][pattern]


def detect(image: np.ndarray, cascade: Cascade) -> tuple[np.ndarray, np.ndarray]:
    """Find faces.

    Args:
        image: Grey values 0..1, shape (height, width).
        cascade: What was learned.

    Returns:
        The boxes, shape (n, 4), and their scores (0..1), best first. A face sets off many windows: its box is
        their mean, and its score grows with their number and strength.
    """
    found, strengths = [np.zeros((0, 4))], [np.zeros(0)]
    for level in pyramid(image, cascade.side, FINEST):
        rows, columns, strength = cascade.windows(level)
        corner = np.stack([columns, rows], axis=1).astype(float)
        found.append(np.hstack([corner, corner + cascade.side]) * (image.shape[0] / level.shape[0]))
        strengths.append(strength)
    left, weights = np.concatenate(found), np.concatenate(strengths)
    boxes, scores = [], []
    while len(left):
        same = overlap(left[np.argmax(weights)], left) >= SAME_FACE
        boxes.append(np.average(left[same], axis=0, weights=weights[same]))
        scores.append(1 - 1 / (1 + weights[same].sum()))
        left, weights = left[~same], weights[~same]
    boxes_found, scores_found = np.array(boxes).reshape(-1, 4), np.array(scores, dtype=float)
    order = np.argsort(-scores_found, kind="stable")
    order = order[scores_found[order] >= LEAST_SCORE]
    return boxes_found[order], scores_found[order]
