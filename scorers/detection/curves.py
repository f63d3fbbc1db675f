"""From matches to COCO's precision and recall arrays (pycocotools' ``accumulate``), all categories at once.

Only hits matter: precision is highest at hits and recall moves at hits alone, so a curve is an array over the
hits, a twentieth of the detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..tables.arrays import Bools, Floats, Ints
from .matching import Matches

__all__ = ["Curves", "points_needed", "trace"]


@dataclass(frozen=True, eq=False)
class Curves:
    """The precision-recall curves of K categories at one threshold, over H hits by category, then score."""

    hits: Ints  # (H,) positions in the ranking
    shown: Bools  # (E,) detections that are right or wrong
    category: Ints  # (H,)
    first: Ints  # (K + 1,) where each category's hits begin; the last is H
    rank: Ints  # (H,) detections of the category shown up to the hit
    precision: Floats  # (H,) at the hit
    attained: Ints  # (H,) the hit, at or behind, where the best precision at this recall or more is attained

    @property
    def envelope(self) -> Floats:
        """(H,) COCO's interpolated precision."""
        return self.precision[self.attained]

    def sample(self, needed: Ints) -> Floats:
        """(K, R) interpolated precision at the recalls of ``points_needed``, 0 beyond the last hit."""
        if not len(self.hits):
            return np.zeros(needed.shape)
        at = self.first[:-1, None] + needed - 1
        return np.where(at < self.first[1:, None], self.envelope[np.minimum(at, len(self.hits) - 1)], 0.0)


def trace(matches: Matches, t: int, category: Ints, ends: Ints) -> Curves:
    """The curves at threshold ``t``.

    Args:
        matches: Of E ranked detections.
        t: Index of the threshold.
        category: (E,) of the ranked detections, ascending.
        ends: (K,) where each category's run in the ranking ends.
    """
    hits, shown = matches.at(t)
    own = category[hits]
    first = np.r_[0, np.bincount(own, minlength=len(ends)).cumsum()]
    up_to = np.r_[0, shown.cumsum()]
    rank = up_to[hits + 1] - up_to[np.r_[0, ends[:-1]]][own]
    # The reference adds the spacing of 1 to the denominator; it shows at rank 1 alone.
    precision = (np.arange(1, len(hits) + 1) - first[own]) / (rank + np.spacing(1))
    # A running maximum from each category's end. Precision is at most 1, so lifting each category by 2 keeps
    # them apart; it costs 1e-12 of precision at thousands of categories.
    lifted = (precision + 2.0 * (len(ends) - own))[::-1]
    attained = np.where(lifted == np.maximum.accumulate(lifted), np.arange(len(hits))[::-1], len(hits))
    return Curves(hits, shown, own, first, rank, precision, np.minimum.accumulate(attained)[::-1])


def points_needed(boxes: Ints, recalls: Floats) -> Ints:
    """How many hits a category needs for a recall: the least c of at least 1 with c / n >= recall, in floats.

    Args:
        boxes: (K,) boxes n of each category; 0 is taken for 1.
        recalls: (R,) 0 to 1.

    Returns:
        (K, R) hits.
    """
    n = np.maximum(boxes, 1)[:, None]
    needed = np.maximum(np.ceil(recalls * n).astype(np.int64), 1)
    # The product is off by a rounding at most; the reference compares quotients.
    needed += needed / n < recalls
    needed -= (needed > 1) & ((needed - 1) / n >= recalls)
    return needed
