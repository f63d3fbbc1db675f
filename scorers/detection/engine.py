"""The engine: COCO's precision and recall arrays, and the numbers of its summary, for checked boxes.

Equal to pycocotools in every number (the tests compare all of them, match by match) at a hundredth of its time;
docs/decisions/0002-detection-engine.md says why it is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..tables.arrays import Floats
from .coco import Detections, Truth
from .curves import Curves, points_needed, trace
from .matching import Matches, Pairs, Ranking, find_pairs, match, rank

__all__ = [
    "AREA_RANGES",
    "MAX_DETS",
    "Evaluation",
    "EvaluationSettings",
    "Overall",
    "category_ap",
    "evaluate",
    "reference_iou_thresholds",
    "reference_recall_thresholds",
    "summarize",
]


# pycocotools' Params.setDetParams.
AREA_RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
MAX_DETS = (1, 10, 100)


def reference_iou_thresholds() -> Floats:
    """(10,) thresholds .50 to .95, bit for bit those of the reference."""
    return np.linspace(0.5, 0.95, 10)


def reference_recall_thresholds() -> Floats:
    """(101,) recalls 0 to 1, bit for bit those of the reference (some differ from i / 100 in the last bit)."""
    return np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class EvaluationSettings:
    """What is averaged over. ``area_ranges`` holds ``all``, and ``max_dets`` ascends."""

    iou_thresholds: Floats  # (T,) ascending
    recall_thresholds: Floats  # (R,) ascending
    area_ranges: Mapping[str, tuple[float, float]]  # A names to pixels²
    max_dets: tuple[int, ...]  # M caps for an image and category


@dataclass(frozen=True, eq=False)
class Evaluation:
    """COCO's arrays; -1 where a category has no box in an area range."""

    precision: Floats  # (T, R, K, A) at the largest cap
    recall: Floats  # (T, K, A) at the largest cap
    recall_by_cap: Floats  # (T, K, M) over all areas
    overall: Overall


@dataclass(frozen=True, eq=False)
class Overall:
    """How the arrays of the area range ``all`` came about."""

    ranking: Ranking
    pairs: Pairs
    matches: Matches
    curves: list[Curves]  # T of them


def evaluate(truth: Truth, detections: Detections, settings: EvaluationSettings) -> Evaluation:
    """Evaluate detections as COCO does.

    Args:
        truth: N boxes of K categories.
        detections: Joined to ``truth``, in the order of their file.
        settings: Thresholds, area ranges and caps.

    Returns:
        The arrays that every number of COCO's summary is a mean of, and what an interval needs.
    """
    k, t, r = len(truth.category_ids), len(settings.iou_thresholds), len(settings.recall_thresholds)
    precision = np.full((t, r, k, len(settings.area_ranges)), -1.0)
    recall = np.full((t, k, len(settings.area_ranges)), -1.0)
    by_cap = np.full((t, k, len(settings.max_dets)), -1.0)
    ranking = rank(truth, detections, settings.max_dets[-1])
    category = detections.category[ranking.order]
    ends = np.bincount(category, minlength=k).cumsum()
    pairs = find_pairs(truth, detections, ranking, float(settings.iou_thresholds.min()))
    # 'all' first: the other ranges differ from it in a few cells only.
    names = sorted(settings.area_ranges, key=lambda name: name != "all")
    ranges = [settings.area_ranges[name] for name in names]
    overall: Overall | None = None
    for name, matches in zip(
        names, match(truth, detections, ranking, pairs, settings.iou_thresholds, ranges), strict=True
    ):
        a = list(settings.area_ranges).index(name)
        boxes = np.bincount(truth.category[matches.counted], minlength=k)
        present = boxes > 0
        needed = points_needed(boxes, settings.recall_thresholds)
        traced = []
        for i in range(t):
            curves = trace(matches, i, category, ends)
            precision[i, :, present, a] = curves.sample(needed)[present]
            recall[i, present, a] = np.diff(curves.first)[present] / boxes[present]
            if name == "all":
                traced.append(curves)
                for m, cap in enumerate(settings.max_dets):
                    found = np.bincount(curves.category[ranking.place[curves.hits] < cap], minlength=k)
                    by_cap[i, present, m] = found[present] / boxes[present]
        if name == "all":
            overall = Overall(ranking, pairs, matches, traced)
    assert overall is not None
    return Evaluation(precision, recall, by_cap, overall)


def summarize(evaluation: Evaluation, settings: EvaluationSettings) -> dict[str, float | None]:
    """The summary's numbers by name; None where COCO says -1 or the settings do not define one.

    ``map``, ``map_50``, ``map_75``, ``map_<area>`` at the largest cap; ``mar_<cap>`` over all areas, and
    ``mar_<area>`` at the largest cap. COCO's twelve are always there, whatever the settings.
    """
    areas = list(settings.area_ranges)
    everything = areas.index("all")
    precision, recall = evaluation.precision, evaluation.recall
    numbers: dict[str, float | None] = {"map": _mean(precision[..., everything])}
    for name, threshold in (("map_50", 0.5), ("map_75", 0.75)):
        at = np.flatnonzero(np.abs(settings.iou_thresholds - threshold) < 1e-9)
        numbers[name] = _mean(precision[at][..., everything])
    own_areas = [name for name in areas if name not in AREA_RANGES]
    for name in (*AREA_RANGES, *own_areas):
        if name != "all":
            numbers[f"map_{name}"] = _mean(precision[..., areas.index(name)]) if name in areas else None
    for cap in sorted({*MAX_DETS, *settings.max_dets}):
        at_cap = [m for m, own in enumerate(settings.max_dets) if own == cap]
        numbers[f"mar_{cap}"] = _mean(evaluation.recall_by_cap[..., at_cap])
    for name in (*AREA_RANGES, *own_areas):
        if name != "all":
            numbers[f"mar_{name}"] = _mean(recall[..., areas.index(name)]) if name in areas else None
    return numbers


def _mean(values: Floats) -> float | None:
    defined = values[values > -1]
    if not defined.size:
        return None
    mean = float(defined.mean())
    # The reference adds 2.2e-16 to a denominator, so a single right detection is 0.9999999999999998 there, and a
    # pass_threshold of 1 out of reach.
    return 1.0 if mean > 1 - 1e-12 else mean


def category_ap(evaluation: Evaluation, settings: EvaluationSettings, at: int | None = None) -> list[float | None]:
    """AP of each of K categories over all areas at the largest cap, or at the one threshold of index ``at``."""
    overall = evaluation.precision[..., list(settings.area_ranges).index("all")]
    part = overall if at is None else overall[at : at + 1]
    return [_mean(part[:, :, k]) for k in range(part.shape[2])]
