"""What of a detection scoring may go to those who may not see the ground truth.

The curves of precision over recall do not: each of their steps tells which detection found a box.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...schemas.result import Disclosed
from ..metrics.coarse import enough
from .coco import Truth
from .engine import EvaluationSettings

__all__ = ["disclosed_metrics"]

_MAX_CATEGORIES = 200


def disclosed_metrics(
    truth: Truth,
    numbers: Mapping[str, float | None],
    per_category: list[float | None],
    settings: EvaluationSettings,
    min_count: int,
) -> Disclosed:
    """The numbers over all boxes, those of an area range with enough boxes, and AP by category in steps.

    Args:
        truth: The ground truth that was scored against.
        numbers: COCO's summary.
        per_category: AP of each category.
        settings: With the area ranges.
        min_count: ``security.disclosure.min_count``, here in boxes.
    """
    k = max(min_count, 1)
    area, category = truth.area[~truth.crowd], truth.category[~truth.crowd]
    metrics = {}
    for name, value in numbers.items():
        low, high = settings.area_ranges.get(name.partition("_")[2], (-np.inf, np.inf))
        if value is None or int(((area >= low) & (area <= high)).sum()) >= k:
            metrics[name] = value
    notes = []
    boxes = np.bincount(category, minlength=len(truth.category_ids))
    if len(boxes) <= _MAX_CATEGORIES:
        # One box more or less moves AP by about one over their number; in steps of k boxes that does not show.
        for name, value, count in zip(truth.category_names, per_category, boxes.tolist(), strict=True):
            if value is not None and enough(count, k):
                metrics[f"ap/{name}"] = value if k == 1 else float(np.floor(value * count / k) * k / count)
    if k > 1:
        notes.append(
            f"Numbers of an area range need {k} boxes; AP of a category needs {10 * k}, and is shown in steps of {k}."
        )
    return Disclosed(metrics=metrics, notes=notes)
