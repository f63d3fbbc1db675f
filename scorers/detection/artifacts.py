"""What ``detection_map`` writes beside its Result: a table of categories, of errors, and the curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.workspace import ArtifactWriter
from ..artifacts import csv_text
from .coco import Detections, Truth
from .engine import Evaluation, EvaluationSettings, category_ap
from .matching import Matches, Pairs, Ranking, find_pairs, match

__all__ = ["write_artifacts"]

ERROR_IOU = 0.5
# Below it a detection is not a box put badly, but background.
_BACKGROUND_IOU = 0.1
_MAX_ERRORS = 5_000  # of each kind


def write_artifacts(
    writer: ArtifactWriter, truth: Truth, detections: Detections, evaluation: Evaluation, settings: EvaluationSettings
) -> list[str]:
    """Write per_class.csv, errors.csv, pr_curves.json and pr_curves.svg.

    Returns:
        Notes for the Result.
    """
    ranking = evaluation.overall.ranking
    pairs = find_pairs(truth, detections, ranking, ERROR_IOU)
    (matches,) = match(truth, detections, ranking, pairs, [ERROR_IOU], [settings.area_ranges["all"]])
    writer.write("per_class", "per_class.csv", _per_class(truth, detections, matches, evaluation, settings))
    header, errors, total, notes = _errors(truth, detections, ranking, matches, pairs)
    writer.write("errors", "errors.csv", csv_text(header, errors), rows=len(errors), rows_total=total)
    _write_curves(writer, truth, matches, evaluation, settings)
    return notes


def _per_class(
    truth: Truth, detections: Detections, matches: Matches, evaluation: Evaluation, settings: EvaluationSettings
) -> str:
    k = len(truth.category_ids)
    boxes = np.bincount(truth.category[matches.counted], minlength=k).tolist()
    predicted = np.bincount(detections.category, minlength=k).tolist()
    columns: dict[str, list[float | None]] = {"ap": category_ap(evaluation, settings)}
    for t, threshold in enumerate(settings.iou_thresholds.tolist()):
        if min(abs(threshold - 0.5), abs(threshold - 0.75)) < 1e-9:
            columns[f"ap_{round(threshold * 100)}"] = category_ap(evaluation, settings, t)
    for m, cap in enumerate(settings.max_dets):
        recall = evaluation.recall_by_cap[..., m].mean(axis=0).tolist()
        columns[f"ar_{cap}"] = [None if value < 0 else value for value in recall]
    rows = [
        [ident, name, boxes[i], predicted[i], *(c[i] for c in columns.values())]
        for i, (ident, name) in enumerate(zip(truth.category_ids, truth.category_names, strict=True))
    ]
    return csv_text(["category_id", "category", "boxes", "detections", *columns], rows)


def _errors(
    truth: Truth, detections: Detections, ranking: Ranking, matches: Matches, pairs: Pairs
) -> tuple[list[str], list[list[Any]], int, list[str]]:
    """False positives, the most confident first, then missed boxes, the largest first.

    Returns:
        Header, rows, how many there are in all, and notes on what was left out.
    """
    order = ranking.order
    false = np.flatnonzero((matches.box[0] < 0) & matches.in_range)
    false = false[np.lexsort((detections.record[order[false]], -detections.scores[order[false]]))]
    found = np.zeros(len(truth.boxes), np.bool_)
    found[matches.box[0][matches.box[0] >= 0]] = True
    missed = np.flatnonzero(matches.counted & ~found)
    missed = missed[np.lexsort((missed, -truth.area[missed]))]
    rows: list[list[Any]] = []
    for e in false[:_MAX_ERRORS].tolist():
        d, best = int(order[e]), float(pairs.best_iou[e])
        kind = "duplicate" if best >= ERROR_IOU else "badly_placed" if best >= _BACKGROUND_IOU else "background"
        at = truth.image_ids[detections.image[d]], truth.category_names[detections.category[d]]
        box = detections.boxes[d].tolist()
        rows.append(["false_positive", kind, *at, float(detections.scores[d]), f"{best:.4f}", *box])
        rows[-1].append(int(detections.record[d]))
    for n in missed[:_MAX_ERRORS].tolist():
        at = truth.image_ids[truth.image[n]], truth.category_names[truth.category[n]]
        rows.append(["missed", "", *at, "", "", *truth.boxes[n].tolist(), n])
    header = ["error", "kind", "image_id", "category", "score", "best_iou", "x", "y", "width", "height", "record"]
    notes = [
        f"errors.csv holds the first {_MAX_ERRORS:,} of {len(all_of):,} {what} at IoU {ERROR_IOU}."
        for what, all_of in (("false positives", false), ("missed boxes", missed))
        if len(all_of) > _MAX_ERRORS
    ]
    return header, rows, len(false) + len(missed), notes


def _write_curves(
    writer: ArtifactWriter, truth: Truth, matches: Matches, evaluation: Evaluation, settings: EvaluationSettings
) -> None:
    """Precision over recall at IoU .5, or at the nearest threshold there is."""
    from ..plots.curves_and_bars import pr_curves_svg
    from ..plots.svg import OwnName

    at = int(np.abs(settings.iou_thresholds - ERROR_IOU).argmin())
    precision = evaluation.precision[at, :, :, list(settings.area_ranges).index("all")]
    boxes = np.bincount(truth.category[matches.counted], minlength=len(truth.category_ids))
    # The categories with the most boxes first: a plot shows a few.
    defined = [k for k in np.argsort(-boxes, kind="stable").tolist() if boxes[k]]
    curves = {truth.category_names[k]: precision[:, k] for k in defined}
    if defined:
        curves = {OwnName(f"mean of {len(defined)} categories"): precision[:, defined].mean(axis=1), **curves}
    iou = float(settings.iou_thresholds[at])
    writer.write_json(
        "pr_curves_data",
        "pr_curves.json",
        {
            "iou": iou,
            "recall": settings.recall_thresholds.tolist(),
            "precision": {name: curve.round(6).tolist() for name, curve in curves.items()},
        },
    )
    if curves:
        svg = pr_curves_svg(settings.recall_thresholds, curves, title=f"Precision over recall at IoU {iou:.2f}")
        writer.write("pr_curves", "pr_curves.svg", svg)
