"""Every number equals pycocotools', whatever the boxes; matches, too; the interval covers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from autoscorer.scorers.detection import engine
from autoscorer.scorers.detection.coco import Detections, Truth
from autoscorer.scorers.detection.curves import points_needed
from autoscorer.scorers.detection.interval import image_influence, map_interval
from autoscorer.scorers.detection.matching import find_pairs, match, rank
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..support.examples import examples

AREAS = engine.AREA_RANGES
COCO_NAMES = (
    "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
    "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
)  # fmt: skip


def reference_settings() -> engine.EvaluationSettings:
    return engine.EvaluationSettings(
        engine.reference_iou_thresholds(), engine.reference_recall_thresholds(), AREAS, engine.MAX_DETS
    )


def make(
    boxes: Any, detections: Any, *, images: int, categories: int, crowd: Any = None, area: Any = None
) -> tuple[Truth, Detections]:
    """Rows (image, category, x, y, w, h) and (image, category, x, y, w, h, score) as Truth and Detections."""
    t = np.array(boxes, np.float64).reshape(-1, 6)
    d = np.array(detections, np.float64).reshape(-1, 7)
    n = len(t)
    truth = Truth(
        image_ids=list(range(images)),
        category_ids=list(range(categories)),
        category_names=[str(k) for k in range(categories)],
        image=t[:, 0].astype(np.int64),
        category=t[:, 1].astype(np.int64),
        boxes=t[:, 2:],
        area=t[:, 4] * t[:, 5] if area is None else np.array(area, np.float64),
        crowd=np.zeros(n, np.bool_) if crowd is None else np.array(crowd, np.bool_).reshape(n),
        names_all_images=True,
        areas_filled=0,
        sha256="",
    )
    return truth, Detections(
        image=d[:, 0].astype(np.int64),
        category=d[:, 1].astype(np.int64),
        boxes=np.ascontiguousarray(d[:, 2:6]),
        scores=np.ascontiguousarray(d[:, 6]),
        record=np.arange(len(d)),
        records=len(d),
        unknown_categories=[],
        sha256="",
    )


def oracle(truth: Truth, detections: Detections, **params: Any) -> COCOeval:
    """pycocotools on its own, by the way its documentation shows."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {
            "images": [{"id": i} for i in truth.image_ids],
            "categories": [{"id": k} for k in truth.category_ids],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": int(truth.image[i]),
                    "category_id": int(truth.category[i]),
                    "bbox": truth.boxes[i].tolist(),
                    "area": float(truth.area[i]),
                    "iscrowd": int(truth.crowd[i]),
                }
                for i in range(len(truth.boxes))
            ],
        }
        gt.createIndex()
        results = [
            {"image_id": int(i), "category_id": int(c), "bbox": b.tolist(), "score": float(s)}
            for i, c, b, s in zip(
                detections.image, detections.category, detections.boxes, detections.scores, strict=True
            )
        ]
        run = COCOeval(gt, gt.loadRes(results), "bbox")
        for name, value in params.items():
            setattr(run.params, name, value)
        run.evaluate()
        run.accumulate()
        if not params:
            run.summarize()
    return run


def ours(truth: Truth, detections: Detections) -> list[float]:
    numbers = engine.summarize(engine.evaluate(truth, detections, reference_settings()), reference_settings())
    assert tuple(numbers) == COCO_NAMES
    return [-1.0 if value is None else value for value in numbers.values()]


def _assert_same_arrays(evaluation: engine.Evaluation, run: COCOeval) -> None:
    """Every precision and recall, not only their means."""
    overall = run.params.areaRngLbl.index("all")
    assert evaluation.precision == pytest.approx(run.eval["precision"][..., -1], abs=1e-12)
    assert evaluation.recall == pytest.approx(run.eval["recall"][..., -1], abs=1e-12)
    assert evaluation.recall_by_cap == pytest.approx(run.eval["recall"][:, :, overall], abs=1e-12)


def random_scene(
    seed: int, *, images: int = 12, categories: int = 4, boxes: int = 60, detections: int = 150, ties: bool = True
) -> tuple[Truth, Detections]:
    """Boxes of all sizes, some crowds, detections near boxes and far from them, tied scores."""
    rng = np.random.default_rng(seed)
    side = np.exp(rng.normal(4, 1, (boxes, 2))).round(1)
    where = (rng.random((boxes, 2)) * 300).round(1)
    rows = np.column_stack([rng.integers(0, images - 1, boxes), rng.integers(0, categories, boxes), where, side])
    source = rows[rng.integers(0, boxes, detections)].copy()
    source[:, 2:] += rng.normal(0, 1, (detections, 4)) * np.tile(source[:, 4:], 2) * rng.choice([0, 0.05, 0.3])
    source[:, 4:] = source[:, 4:].clip(0)
    stray = rng.random(detections) < 0.2
    source[stray, 1] = rng.integers(0, categories, stray.sum())
    scores = rng.random(detections).round(1 if ties else 6)
    area = side.prod(axis=1) * rng.choice([0.6, 1.0], boxes)
    return make(
        rows, np.column_stack([source, scores]), images=images, categories=categories,
        crowd=rng.random(boxes) < 0.1, area=area,
    )  # fmt: skip


def assert_equals_reference(truth: Truth, detections: Detections) -> None:
    run = oracle(truth, detections)
    assert ours(truth, detections) == pytest.approx(list(run.stats), abs=1e-9)
    _assert_same_arrays(engine.evaluate(truth, detections, reference_settings()), run)
    _assert_same_matches(truth, detections, run)


@pytest.mark.parametrize("seed", range(12))
def test_random_scenes_equal_pycocotools(seed: int) -> None:
    assert_equals_reference(*random_scene(seed))


@pytest.mark.parametrize("seed", range(6))
def test_crowded_scenes_equal_pycocotools(seed: int) -> None:
    assert_equals_reference(*random_scene(seed, images=5, categories=2, boxes=80, detections=300))


SQUARE = [0, 0, 10, 10, 20, 20]
AWKWARD: Mapping[str, tuple[Any, Any, Any]] = {
    "one box, found": ([SQUARE], [[*SQUARE, 0.5]], None),
    "one box, missed": ([SQUARE], [[0, 0, 200, 200, 5, 5, 0.5]], None),
    "detections on empty images only": ([SQUARE], [[3, 0, 1, 1, 5, 5, 0.5], [2, 1, 1, 1, 5, 5, 0.4]], None),
    "a category without ground truth": ([SQUARE], [[*SQUARE, 0.5], [0, 2, 10, 10, 20, 20, 0.9]], None),
    "zero-area box and detection": ([[0, 0, 5, 5, 0, 0], SQUARE], [[0, 0, 5, 5, 0, 0, 0.9], [*SQUARE, 0.5]], None),
    "zero width": ([[0, 0, 5, 5, 0, 9], SQUARE], [[0, 0, 5, 5, 0, 9, 0.9], [*SQUARE, 0.5]], None),
    "a crowd takes any number": (
        [SQUARE, [0, 0, 0, 0, 90, 90]], [[*SQUARE, 0.9]] * 3 + [[0, 0, 1, 1, 9, 9, 0.95]], [0, 1]
    ),
    "only crowds": ([SQUARE], [[*SQUARE, 0.9]], [1]),
    "the same box twice": ([SQUARE, SQUARE], [[*SQUARE, 0.9], [*SQUARE, 0.9], [*SQUARE, 0.9]], None),
    "all scores equal, right one last": ([SQUARE], [[0, 0, 90, 90, 5, 5, 0.5], [*SQUARE, 0.5]], None),
    "ties across images": (
        [SQUARE, [1, *SQUARE[1:]]],
        [[1, *SQUARE[1:], 0.5], [0, 0, 90, 90, 5, 5, 0.5], [0, 0, 80, 80, 5, 5, 0.5], [*SQUARE, 0.5]],
        None,
    ),
    "negative and equal zero scores": ([SQUARE], [[0, 0, 90, 90, 5, 5, -0.0], [*SQUARE, 0.0], [*SQUARE, -3]], None),
    "far over the cap": ([SQUARE], [[0, 0, 90, 90, 5, 5, 0.9]] * 130 + [[*SQUARE, 0.1]], None),
    "exactly IoU .5": ([[0, 0, 0, 0, 10, 10]], [[0, 0, 0, 0, 10, 5, 0.9]], None),
    "area on a bound": ([[0, 0, 0, 0, 32, 32], [0, 0, 50, 50, 96, 96]], [[0, 0, 0, 0, 32, 32, 0.9]], None),
    "larger than 'all'": ([[0, 0, 0, 0, 2e5, 2e5], SQUARE], [[0, 0, 0, 0, 2e5, 2e5, 0.9], [*SQUARE, 0.8]], None),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_inputs_equal_pycocotools(name: str) -> None:
    boxes, found, crowd = AWKWARD[name]
    truth, detections = make(boxes, found, images=4, categories=3, crowd=crowd)
    assert_equals_reference(truth, detections)


coordinate = st.integers(0, 6).map(lambda v: v * 8.0)
row = st.tuples(st.integers(0, 2), st.integers(0, 1), coordinate, coordinate, coordinate, coordinate)


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(
    boxes=st.lists(st.tuples(row, st.booleans()), min_size=1, max_size=12),
    found=st.lists(st.tuples(row, st.sampled_from([0.1, 0.5, 0.9])), min_size=1, max_size=20),
)
def test_coarse_grids_full_of_ties_equal_pycocotools(boxes: Any, found: Any) -> None:
    truth, detections = make(
        [b for b, _ in boxes], [[*d, s] for d, s in found], images=3, categories=2, crowd=[c for _, c in boxes]
    )
    assert_equals_reference(truth, detections)


def test_custom_settings_equal_pycocotools() -> None:
    truth, detections = random_scene(3)
    custom = engine.EvaluationSettings(
        np.array([0.3, 0.5, 0.8]), np.linspace(0, 1, 11), {"all": (0.0, 1e10), "tiny": (0.0, 500.0)}, (2, 5)
    )
    run = oracle(
        truth, detections, iouThrs=custom.iou_thresholds, recThrs=custom.recall_thresholds, maxDets=[2, 5],
        areaRng=[[0.0, 1e10], [0.0, 500.0]], areaRngLbl=["all", "tiny"],
    )  # fmt: skip
    evaluation = engine.evaluate(truth, detections, custom)
    _assert_same_arrays(evaluation, run)
    numbers = engine.summarize(evaluation, custom)
    assert numbers["map_75"] is None and numbers["map_small"] is None and numbers["mar_100"] is None
    assert numbers["map_tiny"] is not None and numbers["mar_5"] is not None


def test_no_detections_is_zero_where_the_reference_would_crash() -> None:
    truth, detections = make([SQUARE], [], images=2, categories=2)
    numbers = engine.summarize(engine.evaluate(truth, detections, reference_settings()), reference_settings())
    assert numbers["map"] == 0.0 and numbers["mar_small"] == 0.0
    assert numbers["map_large"] is None


def test_file_order_decides_nothing_without_ties() -> None:
    truth, detections = random_scene(5, ties=False)
    shuffled = np.random.default_rng(0).permutation(len(detections.scores))
    again = Detections(
        image=detections.image[shuffled], category=detections.category[shuffled], boxes=detections.boxes[shuffled],
        scores=detections.scores[shuffled], record=detections.record, records=detections.records,
        unknown_categories=[], sha256="",
    )  # fmt: skip
    assert ours(truth, detections) == ours(truth, again)


# Matches


def _assert_same_matches(truth: Truth, detections: Detections, run: COCOeval) -> None:
    """Our matches are pycocotools' evalImgs, detection by detection, in every area range."""
    ranking = rank(truth, detections, 100)
    pairs = find_pairs(truth, detections, ranking, 0.5)
    areas = [tuple(area) for area in run.params.areaRng]
    matches = dict(zip(areas, match(truth, detections, ranking, pairs, run.params.iouThrs, areas), strict=True))
    place = {int(d): e for e, d in enumerate(ranking.order)}
    seen = dict.fromkeys(areas, 0)
    for cell in filter(None, run.evalImgs):
        area = tuple(cell["aRng"])
        columns = [place[i - 1] for i in cell["dtIds"]]
        seen[area] += len(columns)
        # Ids are positions from 1 on both sides, and 0 is unmatched: shift ours.
        assert (matches[area].box[:, columns] + 1).tolist() == cell["dtMatches"].astype(int).tolist()
        for t in range(len(run.params.iouThrs)):
            hits, shown = matches[area].at(t)
            assert (~shown[columns]).tolist() == cell["dtIgnore"][t].astype(bool).tolist()
            right = (cell["dtMatches"][t] > 0) & ~cell["dtIgnore"][t].astype(bool)
            assert np.isin(columns, hits).tolist() == right.tolist()
    assert set(seen.values()) == {len(ranking.order)}


def test_more_than_a_chunk_of_pairs_match_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, detections = random_scene(8, boxes=80, detections=300)
    expected = ours(truth, detections)
    monkeypatch.setattr("autoscorer.scorers.detection.matching._CHUNK", 7)
    assert ours(truth, detections) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 29, 58, 100, 101, 1000, 4999])
def test_points_needed_are_those_of_the_reference(n: int) -> None:
    recalls = np.r_[engine.reference_recall_thresholds(), np.random.default_rng(n).random(500), 1 / 3, 0.1 + 0.2]
    expected = (np.arange(1, n + 1) / n).searchsorted(recalls, "left") + 1
    assert points_needed(np.array([n]), recalls)[0].tolist() == expected.tolist()


def test_ranking_counts_what_the_reference_hides() -> None:
    found = [[0, 0, 90, 90, 5, 5, 0.9]] * 130 + [[1, 1, 0, 0, 5, 5, s] for s in (0.2, 0.3, 0.3)]
    truth, detections = make([SQUARE], found, images=3, categories=3)
    ranking = rank(truth, detections, 100)
    assert ranking.over_cap == 30
    assert ranking.tied == 132
    assert sorted(ranking.order.tolist()) == [*range(100), 130, 131, 132]


# Interval


def _interval_parts(truth: Truth, detections: Detections) -> tuple[float, np.ndarray]:
    """map, and the influence of each image."""
    evaluation = engine.evaluate(truth, detections, reference_settings())
    score = engine.summarize(evaluation, reference_settings())["map"]
    assert score is not None
    return score, image_influence(truth, detections, evaluation.overall)


def _images_of(truth: Truth, detections: Detections, chosen: np.ndarray) -> tuple[Truth, Detections]:
    """The scene over a sample of images, an image drawn twice standing there twice."""
    boxes, found, crowd = [], [], []
    for new, old in enumerate(chosen):
        t, d = truth.image == old, detections.image == old
        boxes.append(np.column_stack([np.full(t.sum(), new), truth.category[t], truth.boxes[t]]))
        columns = [np.full(d.sum(), new), detections.category[d], detections.boxes[d], detections.scores[d]]
        found.append(np.column_stack(columns))
        crowd.append(truth.crowd[t])
    k = len(truth.category_ids)
    return make(
        np.concatenate(boxes), np.concatenate(found), images=len(chosen), categories=k, crowd=np.concatenate(crowd)
    )


def population(seed: int, images: int) -> tuple[Truth, Detections]:
    """Images as independent draws, of uneven difficulty and number of boxes."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for i in range(images):
        skill = rng.beta(4, 2)
        for _ in range(1 + rng.poisson(3)):
            box = np.r_[i, rng.integers(0, 3), rng.random(2) * 900, 20 + rng.random(2) * 100]
            boxes.append(box)
            if rng.random() < skill:
                moved = box.copy()
                moved[2:4] += rng.normal(0, 0.1, 2) * box[4:]
                found.append(np.r_[moved, rng.beta(4, 2)])
        for _ in range(rng.poisson(2)):
            stray = np.r_[i, rng.integers(0, 3), rng.random(2) * 900, 20 + rng.random(2) * 100, rng.beta(2, 3)]
            found.append(stray)
    return make(np.array(boxes), np.array(found), images=images, categories=3)


@pytest.mark.slow
def test_influence_sums_to_zero_and_matches_the_bootstrap() -> None:
    truth, detections = population(1, 120)
    _, influence = _interval_parts(truth, detections)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(2)
    draws = [ours(*_images_of(truth, detections, rng.integers(0, 120, 120)))[0] for _ in range(150)]
    assert np.sqrt(np.square(influence).sum()) == pytest.approx(np.std(draws), rel=0.2)


@pytest.mark.slow
def test_the_interval_covers_the_expected_score() -> None:
    """What it covers is the mean score over draws of as many images: mAP itself falls a bit as images are added."""
    images, runs = 60, 200
    expected = np.mean([ours(*population(seed, images))[0] for seed in range(1000, 1000 + runs)])
    hits = 0
    for seed in range(runs):
        score, influence = _interval_parts(*population(seed, images))
        interval = map_interval(score, images, influence, 0.95)
        assert not isinstance(interval, str)
        hits += interval.low <= expected <= interval.high
    assert 0.90 <= hits / runs <= 0.98


def test_no_interval_where_it_would_be_a_guess() -> None:
    assert "12 images" in str(map_interval(0.5, 12, np.full(12, 0.1), 0.95))
    perfect = make(
        [[i, *SQUARE[1:]] for i in range(30)], [[i, *SQUARE[1:], 0.5] for i in range(30)], images=30, categories=1
    )
    score, influence = _interval_parts(*perfect)
    assert score == 1.0
    assert "does not vary" in str(map_interval(score, 30, influence, 0.95))
