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
from numpy.typing import NDArray

from ..schemas.result import Interval
from .coco import Detections, Truth
from .detection_match import Matches, Ranking

__all__ = ["METHOD", "MIN_IMAGES", "image_influence", "map_interval"]

METHOD = "delta over images (infinitesimal jackknife)"
# Below it the normal approximation is a guess; docs/decisions/0002-detection-engine.md has the coverage.
MIN_IMAGES = 20

Floats = NDArray[np.float64]


def map_interval(
    score: float, truth: Truth, detections: Detections, ranking: Ranking, matches: Matches, level: float
) -> Interval | str:
    """A confidence interval for ``map``.

    Args:
        score: ``map``, 0 to 1.
        truth: N boxes on I images.
        detections: The detections.
        ranking: Of the detections.
        matches: At the thresholds that ``map`` averages over.
        level: Nominal coverage.

    Returns:
        The interval, or a sentence that says why there is none.
    """
    n = len(truth.image_ids)
    if n < MIN_IMAGES:
        return f"No interval for map: {n} images, at least {MIN_IMAGES} are needed."
    variance = n / (n - 1) * float(np.square(image_influence(truth, detections, ranking, matches)).sum())
    if not variance > 1e-18:
        return "No interval for map: it does not vary between the images."
    half = NormalDist().inv_cdf((1 + level) / 2) * variance**0.5
    return Interval(
        low=max(0.0, score - half), high=min(1.0, score + half), level=level, method=METHOD, n_resamples=None
    )


def image_influence(truth: Truth, detections: Detections, ranking: Ranking, matches: Matches) -> Floats:
    """Derivative of mAP by each image's weight.

    With P the precision at a true positive, E the precision there after COCO's envelope (the best precision at
    this or a greater recall, attained at the true positive m), and N boxes of a category, AP = sum(E) / N. An
    image's weight moves N, the number of true positives at each E, and through its detections ranked at or
    above m (n of them, hits y): dP_m = sum(y - P_m) / n_m.

    Returns:
        (I,) derivatives; their sum is 0, since scaling all weights changes nothing.
    """
    k, order = len(truth.category_ids), ranking.order
    category = detections.category[order]
    boxes = np.bincount(truth.category[matches.counted], minlength=k).astype(np.float64)
    share = np.divide(1.0, boxes * np.count_nonzero(boxes), out=np.zeros(k), where=boxes > 0)
    ends = np.bincount(category, minlength=k).cumsum()  # of each category's run in the ranking
    ap_sum, per_detection = np.zeros(k), np.zeros(len(order))
    for box, ignored in zip(matches.box, matches.ignored, strict=True):
        _add_one_threshold(box >= 0, ignored, category, ends, ap_sum, per_detection)
    t = max(1, len(matches.box))
    influence = np.bincount(
        detections.image[order], weights=per_detection * share[category], minlength=len(truth.image_ids)
    )
    per_box = (ap_sum / np.maximum(boxes, 1) * share)[truth.category[matches.counted]]
    influence -= np.bincount(truth.image[matches.counted], weights=per_box, minlength=len(truth.image_ids))
    return influence / t


def _add_one_threshold(
    matched: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    category: NDArray[np.int64],
    ends: NDArray[np.int64],
    ap_sum: Floats,
    per_detection: Floats,
) -> None:
    """Add one threshold's sum(E) to ``ap_sum`` (K,) and its derivatives to ``per_detection`` (E,), times N."""
    shown = ~ignored
    hit = matched & shown
    at = np.flatnonzero(hit)
    if not len(at):
        return
    own = category[at]
    hits_at_end = np.r_[0, hit.cumsum()][ends]  # hits up to the end of each category
    shown_before = np.r_[0, shown.cumsum()]
    starts = np.r_[0, ends[:-1]]
    hits_at_start = np.r_[0, hits_at_end[:-1]]
    n = (shown_before[at + 1] - shown_before[starts[own]]).astype(np.float64)
    precision = (np.arange(1, len(at) + 1) - hits_at_start[own]) / n
    # The envelope is a running maximum from each category's end; precision is at most 1, so 2 a category keeps
    # the categories apart. The hit m that attains it is the nearest at or behind.
    lifted = precision + 2.0 * (len(ends) - own)
    highest = np.maximum.accumulate(lifted[::-1])[::-1]
    attained = np.where(lifted == highest, np.arange(len(at)), len(at))
    attained = np.minimum.accumulate(attained[::-1])[::-1]
    envelope = precision[attained]
    ap_sum += np.bincount(own, weights=envelope, minlength=len(ends))
    # Sums over the hits m from each hit to the end of everything; a category's own end is subtracted below.
    weight = np.bincount(attained, minlength=len(at)) / n
    up = np.r_[weight[::-1].cumsum()[::-1], 0.0]
    down = np.r_[(weight * precision)[::-1].cumsum()[::-1], 0.0]
    before = hit.cumsum() - hit  # hits ranked above each detection
    per_detection -= np.where(shown, down[before] - down[hits_at_end][category], 0.0)
    per_detection[at] += envelope + up[:-1] - up[hits_at_end[own]]
