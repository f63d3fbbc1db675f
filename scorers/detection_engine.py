"""The engine behind one function: COCO's precision and recall arrays for checked boxes.

hotcoco computes them; pycocotools, the reference, stands in where hotcoco can't be imported. Engines get
ids of our own, dense and from 1 (annotation id 0 means "unmatched" inside pycocotools), in the order of the
file's ids, which decides between equal scores of different images.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import AutoScorerError, ErrorCode
from .coco import Detections, Truth

__all__ = [
    "AREA_RANGES",
    "MAX_DETS",
    "Evaluation",
    "Settings",
    "category_ap",
    "evaluate",
    "evaluate_hotcoco",
    "evaluate_pycocotools",
    "reference_iou_thresholds",
    "reference_recall_thresholds",
    "summarize",
]

Floats = NDArray[np.float64]

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
class Settings:
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
    engine: str


def evaluate(truth: Truth, detections: Detections, settings: Settings) -> Evaluation:
    """Evaluate detections as COCO does.

    Args:
        truth: N boxes of K categories.
        detections: Joined to ``truth``, in the order of their file.
        settings: Thresholds, area ranges and caps.

    Returns:
        The arrays that every number of COCO's summary is a mean of.

    Raises:
        AutoScorerError: ``SCORER_LOAD_ERROR`` when no engine is installed, ``SCORER_ERROR`` when it fails.
    """
    if not len(truth.boxes) or not len(detections.scores):
        return _without_engine(truth, settings)
    with _mapped_failures():
        return _engine()(truth, detections, settings)


def _without_engine(truth: Truth, settings: Settings) -> Evaluation:
    """No boxes, or no detections: 0 where a category has a box that counts in an area range, else -1."""
    value = np.full((len(truth.category_ids), len(settings.area_ranges)), -1.0)
    for a, (low, high) in enumerate(settings.area_ranges.values()):
        counted = ~truth.crowd & (truth.area >= low) & (truth.area <= high)
        value[truth.category[counted], a] = 0.0
    t, r, m = len(settings.iou_thresholds), len(settings.recall_thresholds), len(settings.max_dets)
    overall = value[:, list(settings.area_ranges).index("all")]
    return Evaluation(
        precision=np.broadcast_to(value, (t, r, *value.shape)),
        recall=np.broadcast_to(value, (t, *value.shape)),
        recall_by_cap=np.broadcast_to(overall[:, None], (t, len(overall), m)),
        engine="none",
    )


def _engine() -> Callable[[Truth, Detections, Settings], Evaluation]:
    try:
        import hotcoco  # noqa: F401
    except ImportError as missing:
        try:
            import pycocotools  # noqa: F401
        except ImportError:
            raise AutoScorerError(
                ErrorCode.SCORER_LOAD_ERROR,
                f"Neither hotcoco ({missing}) nor pycocotools can be imported: pip install hotcoco==1.3.0.",
            ) from None
        return evaluate_pycocotools
    return evaluate_hotcoco


@contextlib.contextmanager
def _mapped_failures() -> Iterator[None]:
    try:
        yield
    except (AutoScorerError, MemoryError):
        raise
    except BaseException as error:
        # A panic in Rust arrives as pyo3's PanicException, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR, f"The detection engine failed: {type(error).__name__}: {error}"
        ) from error


def evaluate_hotcoco(truth: Truth, detections: Detections, settings: Settings) -> Evaluation:
    """``evaluate`` by hotcoco; boxes and detections must not be empty."""
    import hotcoco

    images = [{"id": i + 1} for i in range(len(truth.image_ids))]
    categories = [{"id": k + 1, "name": str(k + 1)} for k in range(len(truth.category_ids))]
    gt = hotcoco.COCO.from_arrays(
        images, categories, truth.image + 1, truth.category + 1, truth.boxes, area=truth.area, iscrowd=truth.crowd
    )
    rows = np.empty((len(detections.scores), 7))
    rows[:, 0] = detections.image + 1
    rows[:, 1:5] = detections.boxes
    rows[:, 5] = detections.scores
    rows[:, 6] = detections.category + 1
    run = hotcoco.COCOeval(gt, gt.load_res(rows), "bbox")
    params = run.params
    params.iou_thrs = settings.iou_thresholds.tolist()
    params.rec_thrs = settings.recall_thresholds.tolist()
    params.max_dets = list(settings.max_dets)
    params.area_rng = [list(pair) for pair in settings.area_ranges.values()]
    params.area_rng_lbl = list(settings.area_ranges)
    run.evaluate()
    # Accumulating every cap over every area, as by default, computes twice what the summary needs.
    params.max_dets = [settings.max_dets[-1]]
    run.accumulate()
    areas: Any = run.eval
    params.max_dets = list(settings.max_dets)
    params.area_rng, params.area_rng_lbl = [list(settings.area_ranges["all"])], ["all"]
    run.accumulate()
    caps: Any = run.eval
    return Evaluation(
        areas["precision"][..., 0], areas["recall"][..., 0], caps["recall"][:, :, 0], f"hotcoco {hotcoco.__version__}"
    )


def evaluate_pycocotools(truth: Truth, detections: Detections, settings: Settings) -> Evaluation:
    """``evaluate`` by pycocotools, the reference, a hundred times slower; boxes and detections must not be empty."""
    from importlib.metadata import version

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def dataset(image: Any, category: Any, boxes: Floats, area: Floats, more: Callable[[int], dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i + 1} for i in range(len(truth.image_ids))],
            "categories": [{"id": k + 1} for k in range(len(truth.category_ids))],
            "annotations": [
                {"id": i + 1, "image_id": im + 1, "category_id": cat + 1, "bbox": box, "area": size, **more(i)}
                for i, (im, cat, box, size) in enumerate(
                    zip(image.tolist(), category.tolist(), boxes.tolist(), area.tolist(), strict=True)
                )
            ],
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        d, scores = detections, detections.scores.tolist()
        gt = dataset(truth.image, truth.category, truth.boxes, truth.area, lambda i: {"iscrowd": int(truth.crowd[i])})
        dt = dataset(
            d.image, d.category, d.boxes, d.boxes[:, 2] * d.boxes[:, 3], lambda i: {"iscrowd": 0, "score": scores[i]}
        )
        run = COCOeval(gt, dt, "bbox")
        run.params.iouThrs = settings.iou_thresholds
        run.params.recThrs = settings.recall_thresholds
        run.params.maxDets = list(settings.max_dets)
        run.params.areaRng = [list(pair) for pair in settings.area_ranges.values()]
        run.params.areaRngLbl = list(settings.area_ranges)
        run.evaluate()
        run.accumulate()
    recall = run.eval["recall"]
    overall = list(settings.area_ranges).index("all")
    return Evaluation(
        run.eval["precision"][..., -1],
        recall[..., -1],
        recall[:, :, overall],
        f"pycocotools {version('pycocotools')}",
    )


def summarize(evaluation: Evaluation, settings: Settings) -> dict[str, float | None]:
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


def category_ap(evaluation: Evaluation, settings: Settings, at: int | None = None) -> list[float | None]:
    """AP of each of K categories over all areas at the largest cap, or at the one threshold of index ``at``."""
    overall = evaluation.precision[..., list(settings.area_ranges).index("all")]
    part = overall if at is None else overall[at : at + 1]
    return [_mean(part[:, :, k]) for k in range(part.shape[2])]
