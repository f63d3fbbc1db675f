"""Object detection: COCO's mean average precision and its eleven companions."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from pydantic import Field, field_validator

from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import ArtifactWriter, Workspace
from ...schemas.result import Interval, Result, Summary
from ..base import BaseScorer, ScorerParams
from ..registry.registry import register
from .coarse import disclosed_metrics
from .coco import Detections, Truth, join, read_detections, read_truth
from .engine import (
    AREA_RANGES,
    MAX_DETS,
    Evaluation,
    EvaluationSettings,
    category_ap,
    evaluate,
    reference_iou_thresholds,
    reference_recall_thresholds,
    summarize,
)
from .interval import image_influence, map_interval

__all__ = ["DetectionMAP", "DetectionParams"]

# More categories than this stand in per_class.csv alone.
_CATEGORIES_IN_METRICS = 200
_SHOWN = 5


class DetectionParams(ScorerParams):
    """Params of ``detection_map``; the defaults are COCO's."""

    iou_thresholds: tuple[float, ...] | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="IoU thresholds, ascending, above 0 up to 1; null: .50:.05:.95.",
    )
    recall_thresholds: tuple[float, ...] | None = Field(
        None,
        min_length=1,
        max_length=1_001,
        description="Recalls at which precision is taken, ascending; null: 0:.01:1.",
    )
    max_dets: tuple[int, ...] = Field(
        MAX_DETS,
        min_length=1,
        max_length=10,
        description="Caps on detections for an image and category, ascending; map is taken at the largest.",
    )
    area_ranges: dict[str, tuple[float, float]] | None = Field(
        None,
        max_length=10,
        description="Name to [low, high] in pixels²; null: COCO's all, small, medium, large. 'all' is always there.",
    )
    extra_images: Literal["refuse", "count"] = Field(
        "refuse",
        description="Detections on images that a plain list of boxes does not name: refuse them, or count them as "
        "false positives on images without boxes. A COCO object names all its images; others are always refused.",
    )
    interval: bool = Field(True, description="Give an interval around map.")

    @field_validator("iou_thresholds", "recall_thresholds", "max_dets", "area_ranges", mode="before")
    @classmethod
    def _no_booleans(cls, value: Any) -> Any:
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        flat = [part for item in items for part in (item if isinstance(item, (list, tuple)) else (item,))]
        if any(isinstance(part, (bool, str)) for part in flat):
            raise ValueError("expected numbers")
        return value

    @field_validator("iou_thresholds")
    @classmethod
    def _iou_range(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not all(0 < v <= 1 for v in value):
            raise ValueError("expected numbers above 0 and up to 1")
        return value

    @field_validator("recall_thresholds")
    @classmethod
    def _recall_range(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not all(0 <= v <= 1 for v in value):
            raise ValueError("expected numbers from 0 to 1")
        return value

    @field_validator("max_dets")
    @classmethod
    def _cap_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= v <= 10_000 for v in value):
            raise ValueError("expected whole numbers from 1 to 10000")
        return value

    @field_validator("iou_thresholds", "recall_thresholds", "max_dets")
    @classmethod
    def _ascending(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and any(b <= a for a, b in pairwise(value)):
            raise ValueError("expected ascending numbers, each once")
        return value

    @field_validator("area_ranges")
    @classmethod
    def _areas(cls, value: dict[str, tuple[float, float]] | None) -> dict[str, tuple[float, float]] | None:
        for name, (low, high) in (value or {}).items():
            if not re.fullmatch(r"[a-z][a-z_]{0,40}", name):
                raise ValueError(f"the name {name!r} must be lower-case letters and underscores")
            if not 0 <= low < high:
                raise ValueError(f"{name} must be [low, high] with 0 <= low < high")
        return value

    def settings(self) -> EvaluationSettings:
        """The arrays for the engine."""
        areas = dict(AREA_RANGES) if self.area_ranges is None else {"all": AREA_RANGES["all"], **self.area_ranges}
        iou, recall = self.iou_thresholds, self.recall_thresholds
        return EvaluationSettings(
            iou_thresholds=reference_iou_thresholds() if iou is None else np.array(iou),
            recall_thresholds=reference_recall_thresholds() if recall is None else np.array(recall),
            area_ranges=areas,
            max_dets=self.max_dets,
        )


@register("detection_map")
class DetectionMAP(BaseScorer):
    """COCO's twelve numbers, AP per category, and an interval around mAP.

    ``map`` is AP @[ IoU=.50:.95 | area=all | maxDets=100 ] with the default params. Every number equals
    pycocotools'. The order of a file's records decides nothing but between detections of equal scores on one
    image (there the first wins, as in the reference), and a note counts those.
    """

    name = "detection_map"
    version = "1.0.0"
    description = "COCO mean average precision of boxes"
    task_type = "detection"
    metric = "map"
    Params = DetectionParams

    def validate(self, workspace: Path, params: dict[str, Any]) -> None:
        """Check params and ground truth, and predictions where there are some.

        Raises:
            AutoScorerError: ``BAD_PARAMS``, ``MISSING_FILE``, ``BAD_FORMAT`` or ``MISMATCH``.
        """
        checked = cast(DetectionParams, self.parse_params(params))
        space = Workspace(workspace)
        truth = read_truth(space.ground_truth(), self.encodings[0])
        try:
            predictions = space.predictions()
        except AutoScorerError as error:
            if error.code is ErrorCode.MISSING_FILE:
                return
            raise
        join(truth, read_detections(predictions, self.encodings[1]), checked.extra_images)

    def score(self, workspace: Path, params: dict[str, Any]) -> Result:
        """Score the predictions.

        Raises:
            AutoScorerError: The submission can't be scored.
        """
        checked = cast(DetectionParams, self.parse_params(params))
        settings = checked.settings()
        started = time.perf_counter()
        space = Workspace(workspace)
        given = read_truth(space.ground_truth(), self.encodings[0])
        truth, detections = join(given, read_detections(space.predictions(), self.encodings[1]), checked.extra_images)
        loaded = time.perf_counter()

        evaluation = evaluate(truth, detections, settings)
        numbers = summarize(evaluation, settings)
        ranking = evaluation.overall.ranking
        score = numbers["map"]
        notes_on_undefined = _notes_on_undefined(numbers, truth, settings)
        result = Result(summary=Summary.model_validate({"score": score, "map": score, "higher_is_better": True}))
        notes = result.notes
        notes += _notes_on_input(given, truth, detections)
        if ranking.over_cap:
            notes.append(
                f"{ranking.over_cap} detections are over the cap of {settings.max_dets[-1]} for an image and "
                "category; those with the lowest scores are left out, as in the reference."
            )
        if ranking.tied:
            notes.append(
                f"{ranking.tied} detections share their score with another one of their category; on one image "
                "the order of the file decides between them, as in the reference."
            )
        notes += notes_on_undefined
        per_category = category_ap(evaluation, settings)
        metrics = numbers | _category_metrics(truth, per_category, notes)
        interval: Interval | str | None = None
        if checked.interval and score is not None:
            influence = image_influence(truth, detections, evaluation.overall)
            interval = map_interval(score, len(truth.image_ids), influence, checked.confidence_level)
            if isinstance(interval, str):
                notes.append(interval)
            else:
                result.intervals["map"] = interval
        result.metrics = metrics
        result.disclosed = disclosed_metrics(truth, numbers, per_category, settings, self.min_count)
        shown = result.disclosed.metrics
        result.disclosed.notes = (
            [note for note in notes_on_undefined if note.partition(" ")[0] in shown]
            + ([interval] if isinstance(interval, str) else [])
            + result.disclosed.notes
        )
        computed = time.perf_counter()
        if checked.artifacts:
            self._write_artifacts(space, result, truth, detections, evaluation, settings)
        result.timing.load, result.timing.compute = loaded - started, computed - loaded
        result.timing.save = time.perf_counter() - computed
        result.versioning.ground_truth_sha256 = truth.sha256
        result.versioning.predictions_sha256 = detections.sha256
        return result

    @staticmethod
    def _write_artifacts(
        space: Workspace,
        result: Result,
        truth: Truth,
        detections: Detections,
        evaluation: Evaluation,
        settings: EvaluationSettings,
    ) -> None:
        from .artifacts import write_artifacts

        writer = ArtifactWriter(space.root)
        result.notes += write_artifacts(writer, truth, detections, evaluation, settings)
        result.artifacts.update(writer.artifacts)


def _notes_on_input(given: Truth, truth: Truth, detections: Detections) -> list[str]:
    notes = []
    if not len(truth.boxes):
        notes.append("The ground truth holds no box, so every number is undefined.")
    elif not detections.records:
        notes.append("The predictions hold no detection, so every defined number is 0.")
    if given.areas_filled:
        notes.append(f"{given.areas_filled} ground-truth boxes have no area; width × height is used.")
    if extra := len(truth.image_ids) - len(given.image_ids):
        notes.append(f"{extra} images with detections are not in the ground truth; they count as images without boxes.")
    if detections.unknown_categories:
        ids = [ident for ident, _ in detections.unknown_categories]
        shown = ", ".join(repr(ident)[:60] for ident in ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
        notes.append(
            f"{sum(n for _, n in detections.unknown_categories)} detections are of {len(ids)} categories that the "
            f"ground truth does not have, and are left out, as in the reference: {shown}."
        )
    return notes


def _notes_on_undefined(numbers: dict[str, float | None], truth: Truth, settings: EvaluationSettings) -> list[str]:
    """A line for every number that is null."""
    notes = []
    thresholds = {"map_50": 0.5, "map_75": 0.75}
    for name, value in numbers.items():
        if value is not None:
            continue
        kind, _, what = name.partition("_")
        if name in thresholds and not np.isclose(settings.iou_thresholds, thresholds[name], rtol=0, atol=1e-9).any():
            why = f"{thresholds[name]} is not among iou_thresholds"
        elif kind == "mar" and what.isdigit() and int(what) not in settings.max_dets:
            why = f"{what} is not among max_dets"
        elif what in AREA_RANGES and what not in settings.area_ranges:
            why = f"{what!r} is not among area_ranges"
        elif what in settings.area_ranges:
            low, high = settings.area_ranges[what]
            why = f"the ground truth has no box with an area from {low:g} to {high:g} that is not a crowd"
        else:
            why = "the ground truth has no box that counts"
        notes.append(f"{name} is undefined: {why}.")
    return notes


def _category_metrics(truth: Truth, per_category: list[float | None], notes: list[str]) -> dict[str, float | None]:
    """``ap/<name>`` for each category; adds the notes that go with it."""
    if len(per_category) > _CATEGORIES_IN_METRICS:
        notes.append(f"There are {len(per_category)} categories: the AP of each stands in per_class.csv, not here.")
        return {}
    metrics = {f"ap/{name}": value for name, value in zip(truth.category_names, per_category, strict=True)}
    undefined = [name for name, value in metrics.items() if value is None]
    if undefined:
        notes.append(f"Undefined, for want of a ground-truth box that counts: {', '.join(undefined)}.")
    return metrics
