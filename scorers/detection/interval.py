"""An interval around mean average precision, by the delta method over images.

Images are taken as independent draws. With weights w on the images (1 each), mAP is a smooth enough function of
w, and its variance is the sum over images of the squared derivative: the infinitesimal jackknife (B. Efron, The
Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6). One pass over the matches gives all
derivatives, where a bootstrap evaluates a thousand times.

It covers the score expected over draws of as many images. That is not mAP over endless images: COCO's envelope
picks the best of noisy precisions, so mAP of few images is too high on average, for every model alike.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from ...schemas.result import Interval
from ..tables.arrays import Floats, Ints
from .coco import Detections, Truth
from .curves import Curves
from .engine import Overall

__all__ = ["METHOD", "MIN_IMAGES", "image_influence", "map_interval"]

METHOD = "delta over images (infinitesimal jackknife)"
# Below it the normal approximation is a guess; docs/decisions/0002-detection-engine.md has the coverage.
MIN_IMAGES = 20


def map_interval(score: float, images: int, influence: Floats, level: float) -> Interval | str:
    """A confidence interval for ``map``.

    Args:
        score: ``map``, 0 to 1.
        images: How many there are.
        influence: Of ``image_influence``.
        level: Nominal coverage.

    Returns:
        The interval, or a sentence that says why there is none.
    """
    if images < MIN_IMAGES:
        return f"No interval for map: {images} images, at least {MIN_IMAGES} are needed."
    variance = images / (images - 1) * float(np.square(influence).sum())
    if not variance > 1e-18:
        return "No interval for map: it does not vary between the images."
    half = NormalDist().inv_cdf((1 + level) / 2) * variance**0.5
    return Interval(
        low=max(0.0, score - half), high=min(1.0, score + half), level=level, method=METHOD, n_resamples=None
    )


def image_influence(truth: Truth, detections: Detections, overall: Overall) -> Floats:
    """Derivative of mAP by each image's weight.

    With P the precision at a hit, E the envelope there (the best precision at this or a greater recall, attained
    at the hit m), and N boxes of a category, AP = sum(E) / N. An image's weight moves N, the number of hits at
    each E, and through its detections ranked at or above m (n of them in all, y whether a hit):
    dP_m = sum(y - P_m) / n.

    Returns:
        (I,) derivatives; they sum to 0, since scaling all weights changes nothing.
    """
    k, order, counted = len(truth.category_ids), overall.ranking.order, overall.matches.counted
    category = detections.category[order]
    boxes = np.bincount(truth.category[counted], minlength=k).astype(np.float64)
    share = np.divide(1.0, boxes * np.count_nonzero(boxes), out=np.zeros(k), where=boxes > 0)
    ap_sum, per_detection = np.zeros(k), np.zeros(len(order))
    for curves in overall.curves:
        if len(curves.hits):
            _add_one_threshold(curves, category, ap_sum, per_detection)
    images = len(truth.image_ids)
    influence = np.bincount(detections.image[order], weights=per_detection * share[category], minlength=images)
    per_box = (ap_sum / np.maximum(boxes, 1) * share)[truth.category[counted]]
    influence = influence - np.bincount(truth.image[counted], weights=per_box, minlength=images)
    return influence / max(1, len(overall.curves))


def _add_one_threshold(curves: Curves, category: Ints, ap_sum: Floats, per_detection: Floats) -> None:
    """Add one threshold's sum(E) to ``ap_sum`` (K,) and its derivatives to ``per_detection`` (E,), times N."""
    envelope = curves.envelope
    ap_sum += np.bincount(curves.category, weights=envelope, minlength=len(ap_sum))
    # Sums over the hits m from each hit to the end of everything; those behind the own category are taken off.
    weight = np.bincount(curves.attained, minlength=len(curves.hits)) / curves.rank
    up = np.r_[weight[::-1].cumsum()[::-1], 0.0]
    down = np.r_[(weight * curves.precision)[::-1].cumsum()[::-1], 0.0]
    behind = curves.first[1:]
    above = np.zeros(len(category), np.int64)  # hits ranked above each detection
    above[curves.hits] = 1
    above = above.cumsum() - above
    per_detection -= np.where(curves.shown, down[above] - down[behind][category], 0.0)
    per_detection[curves.hits] += envelope + up[:-1] - up[behind[curves.category]]
