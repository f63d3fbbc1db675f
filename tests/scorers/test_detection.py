"""detection_map: what it refuses, by which code and record, and what it says of what it accepts."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.scorers.detection.scorer import DetectionMAP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..support.examples import examples

BOX = [10, 10, 20, 20]


def box(image: Any = 1, category: Any = 1, bbox: Any = BOX, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def hit(image: Any = 1, category: Any = 1, bbox: Any = BOX, score: Any = 0.5) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}


def coco(*annotations: dict[str, Any], images: Any = (1, 2), categories: Any = (1, 2)) -> dict[str, Any]:
    return {
        "info": {"description": "\u00fcber", "id": 3},
        "licenses": [{"id": 1, "name": "x", "url": "u"}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in images],
        "annotations": [{"id": n, "segmentation": [], **a} for n, a in enumerate(annotations)],
        "categories": [{"id": k, "name": f"name {k}", "supercategory": "s"} for k in categories],
    }


class Scene:
    """A workspace; text goes to disk as it is, anything else as JSON."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "input").mkdir(parents=True)
        (root / "output").mkdir()

    def truth(self, value: Any, suffix: str = "json") -> Scene:
        return self._write(self.root / "input" / f"gt.{suffix}", value)

    def predictions(self, value: Any, suffix: str = "json") -> Scene:
        return self._write(self.root / "output" / f"pred.{suffix}", value)

    def _write(self, path: Path, value: Any) -> Scene:
        data = value if isinstance(value, (str, bytes)) else json.dumps(value)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return self

    def score(self, **params: Any) -> Result:
        return DetectionMAP().score(self.root, {"artifacts": False, **params})

    def refused(self, code: ErrorCode, **params: Any) -> AutoScorerError:
        """Both validate and score refuse, with the same error."""
        errors = []
        for method in (DetectionMAP().validate, DetectionMAP().score):
            with pytest.raises(AutoScorerError) as caught:
                method(self.root, params)
            errors.append(caught.value)
        assert errors[0].to_dict() == errors[1].to_dict()
        assert errors[0].code is code
        json.dumps(errors[0].to_dict(), allow_nan=False)
        return errors[0]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "ws")


# What is right


def test_twelve_numbers_summary_and_provenance(scene: Scene) -> None:
    result = scene.truth(coco(box(), box(2, 2))).predictions([hit()]).score()
    assert list(result.metrics)[:12] == [
        "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
        "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
    ]  # fmt: skip
    assert result.metrics["map"] == result.summary.score == result.summary.model_dump()["map"]
    assert result.metrics["map"] == pytest.approx(0.5, abs=1e-12)
    assert result.metrics["ap/name 1"] == 1.0 and result.metrics["ap/name 2"] == 0.0
    assert result.versioning.ground_truth_sha256 and result.versioning.predictions_sha256
    assert result.timing.load is not None and result.timing.compute is not None


def test_annotation_id_0_is_an_id_like_any_other(scene: Scene) -> None:
    zero = scene.truth(coco({**box(), "id": 0})).predictions([hit()]).score()
    one = scene.truth(coco({**box(), "id": 1})).score()
    assert zero.metrics == one.metrics
    assert zero.metrics["map"] == 1.0


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_plain_list_with_text_ids(scene: Scene, suffix: str) -> None:
    truth, found = [box("001", "cat"), box("1", "dog")], [hit("001", "cat"), hit("1", "cat")]

    def dump(records: list[Any]) -> Any:
        return records if suffix == "json" else "\r\n".join(json.dumps(r) for r in records) + "\n\n"

    result = scene.truth(dump(truth), suffix).predictions(dump(found), suffix).score()
    # The second cat is on another image: a false positive of the same score, behind the hit.
    assert result.metrics["ap/cat"] == 1.0
    assert result.metrics["ap/dog"] == 0.0


def test_a_bom_and_unread_fields_are_fine(scene: Scene) -> None:
    found = [{**hit(), "segmentation": [[1, 2]], "extra": {"score": "not ours", "deep": [[{}]]}}]
    scene.truth(coco(box())).predictions(b"\xef\xbb\xbf" + json.dumps(found).encode())
    assert scene.score().metrics["map"] == 1.0


def test_missing_area_and_iscrowd_are_filled(scene: Scene) -> None:
    result = scene.truth(coco(box(), box(2, area=None, iscrowd=None))).predictions([hit(), hit(2)]).score()
    assert result.metrics["map_small"] == 1.0 and result.metrics["map_large"] is None
    assert any("2 ground-truth boxes have no area" in note for note in result.notes)
    given = scene.truth(coco(box(area=1e5), box(2, area=1e5, iscrowd=True))).score()
    assert given.metrics["map_small"] is None and given.metrics["map_large"] == 1.0


def test_empty_images_count_in_a_coco_object(scene: Scene) -> None:
    scene.truth(coco(box(area=400.0))).predictions([hit(1, score=0.5), hit(2, score=0.9)])
    assert scene.score().metrics["map"] == pytest.approx(0.5)


def test_records_in_any_order_score_alike(scene: Scene) -> None:
    truth = [box(i, k, [10 * k, 5, 20 + i, 30]) for i in range(5) for k in range(3)]
    found = [hit(i, k, [10 * k + 2, 5, 20, 30], 0.1 + 0.05 * i + 0.01 * k) for i in range(5) for k in range(3)]
    first = scene.truth(truth).predictions(found).score()
    assert scene.truth(truth[::-1]).predictions(found[::-1]).score().metrics == first.metrics
    assert not any("share their score" in note for note in first.notes)


# What is undefined or worth a word


def test_no_detections_is_zero_with_a_note(scene: Scene) -> None:
    result = scene.truth(coco(box())).predictions([]).score()
    assert result.metrics["map"] == result.summary.score == 0.0
    assert any("no detection" in note for note in result.notes)


@pytest.mark.parametrize(
    "truth", [[], coco(), coco(box(iscrowd=1))], ids=["empty list", "no annotations", "only crowds"]
)
def test_no_ground_truth_is_null_with_a_note(scene: Scene, truth: Any) -> None:
    result = scene.truth(truth).predictions([hit()]).score()
    assert result.summary.score is None
    twelve = list(result.metrics.values())[:12]
    assert twelve == [None] * 12
    assert -1 not in result.metrics.values()
    for name, value in result.metrics.items():
        assert value is not None or any(name in note for note in result.notes)


def test_every_null_has_its_line(scene: Scene) -> None:
    params = {"iou_thresholds": [0.3, 0.6], "max_dets": [5], "area_ranges": {"small": [0, 1000], "huge": [1e6, 1e7]}}
    result = scene.truth(coco(box(area=400.0))).predictions([hit()]).score(**params)
    assert result.metrics["map"] == result.metrics["mar_5"] == result.metrics["map_small"] == 1.0
    reasons = {
        "map_50": "iou_thresholds", "map_75": "iou_thresholds", "map_medium": "area_ranges", "mar_large": "area_ranges",
        "mar_100": "max_dets", "map_huge": "no box", "mar_huge": "no box", "ap/name 2": "Undefined",
    }  # fmt: skip
    for name, reason in reasons.items():
        assert result.metrics[name] is None
        assert any(name in note and reason in note for note in result.notes), name


def test_unknown_categories_are_counted(scene: Scene) -> None:
    result = scene.truth(coco(box())).predictions([hit(), hit(category=77), hit(category=77), hit(category=78)]).score()
    assert result.metrics["map"] == 1.0
    assert any("3 detections are of 2 categories" in note and "77, 78" in note for note in result.notes)
    only = scene.predictions([hit(category=77)]).score()
    assert only.metrics["map"] == 0.0


def test_detections_over_the_cap_and_ties_are_counted(scene: Scene) -> None:
    result = scene.truth(coco(box())).predictions([hit(bbox=[300, 300, 5, 5])] * 101 + [hit()]).score()
    assert result.metrics["map"] == 0.0  # the hit is the 102nd of equal scores, as in the reference
    assert any("2 detections are over the cap of 100" in note for note in result.notes)
    assert any("102 detections share their score" in note for note in result.notes)
    assert scene.predictions([hit(), *[hit(bbox=[300, 300, 5, 5])] * 101]).score().metrics["map"] == 1.0


def test_categories_of_one_name_are_kept_apart(scene: Scene) -> None:
    truth = coco(box())
    truth["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}, {"id": 3}]
    metrics = scene.truth(truth).predictions([hit()]).score().metrics
    assert {name for name in metrics if name.startswith("ap/")} == {"ap/cat [1]", "ap/cat [2]", "ap/3"}


def test_many_categories_stand_in_the_table_only(scene: Scene) -> None:
    scene.truth(coco(box(), categories=range(1, 300))).predictions([hit()])
    result = scene.score(artifacts=True)
    assert len(result.metrics) == 12
    assert any("per_class.csv" in note for note in result.notes)
    assert len((scene.root / "output/artifacts/per_class.csv").read_text().splitlines()) == 300


def test_interval_and_how_to_leave_it_out(scene: Scene) -> None:
    truth = [box(i, area=400.0) for i in range(40)]
    scene.truth(truth).predictions(
        [hit(i, score=0.5 + i / 100) for i in range(0, 40, 3)] + [hit(1, bbox=[90, 90, 9, 9])]
    )
    result = scene.score(confidence_level=0.9)
    interval = result.intervals["map"]
    assert interval.low < result.metrics["map"] < interval.high  # type: ignore[operator]
    assert interval.level == 0.9 and "jackknife" in interval.method
    assert scene.score(interval=False).intervals == {}
    few = scene.truth(coco(box())).predictions([hit()]).score()
    assert few.intervals == {} and any("No interval" in note for note in few.notes)


# What is refused

BAD_DETECTIONS: dict[str, tuple[Any, str]] = {
    "score missing": ({k: v for k, v in hit().items() if k != "score"}, "score"),
    "score null": (hit(score=None), "score"),
    "score NaN": (hit(score=float("nan")), "score"),
    "score Infinity": (hit(score=float("-inf")), "score"),
    "score text": (hit(score="0.5"), "score"),
    "score bool": (hit(score=True), "score"),
    "bbox of three": (hit(bbox=[1, 2, 3]), "bbox"),
    "bbox of five": (hit(bbox=[1, 2, 3, 4, 5]), "bbox"),
    "bbox null": (hit(bbox=None), "bbox"),
    "bbox object": (hit(bbox={"x": 1}), "bbox"),
    "bbox with text": (hit(bbox=[1, 2, 3, "4"]), "bbox"),
    "bbox with bool": (hit(bbox=[1, 2, 3, True]), "bbox"),
    "bbox with NaN": (hit(bbox=[1, 2, 3, float("nan")]), "bbox"),
    "negative width": (hit(bbox=[1, 2, -3, 4]), "bbox"),
    "negative height": (hit(bbox=[1, 2, 3, -4]), "bbox"),
    "area overflows": (hit(bbox=[1, 2, 1e200, 1e200]), "bbox"),
    "area underflows": (hit(bbox=[1, 2, 1e-200, 1e-200]), "bbox"),
    "image id missing": ({k: v for k, v in hit().items() if k != "image_id"}, "image_id"),
    "image id float": (hit(image=1.0), "image_id"),
    "image id bool": (hit(image=True), "image_id"),
    "image id null": (hit(image=None), "image_id"),
    "category id list": (hit(category=[1]), "category_id"),
    "no object": ([1, 2], "object"),
    "null": (None, "object"),
}


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("name", BAD_DETECTIONS)
def test_a_malformed_detection_is_named_by_its_index(scene: Scene, name: str, suffix: str) -> None:
    record, what = BAD_DETECTIONS[name]
    records = [hit(), hit(score=0.25), record, hit()]
    content = json.dumps(records) if suffix == "json" else "\n".join(map(json.dumps, records))
    error = scene.truth(coco(box())).predictions(content, suffix).refused(ErrorCode.BAD_FORMAT)
    assert error.details["index"] == 2
    assert "record 2 " in error.message and what in error.message
    assert error.details["file"] == f"output/pred.{suffix}"


@pytest.mark.parametrize(
    "field, text",
    [
        ("score", "1e400"),
        ("score", "-1e999"),
        ("bbox", "[1, 2, 3, 1e400]"),
        ("score", "9" * 400),
        ("image_id", "9" * 99999),
    ],
    ids=["1e400", "-1e999", "bbox 1e400", "400 digits", "an id of 99999 digits"],
)
def test_numbers_out_of_range_are_named_by_their_index(scene: Scene, field: str, text: str) -> None:
    good = {key: json.dumps(value) for key, value in hit().items()}
    records = [good, {**good, field: text}]
    content = ",".join("{" + ",".join(f'"{k}": {v}' for k, v in r.items()) + "}" for r in records)
    error = scene.truth(coco(box())).predictions(f"[{content}]").refused(ErrorCode.BAD_FORMAT)
    assert error.details["index"] == 1
    assert len(error.message) < 500


BAD_TRUTH: dict[str, tuple[Any, int]] = {
    "bbox of three": (coco(box(), box(bbox=[1, 2, 3])), 1),
    "negative width": ([box(), box(bbox=[1, 2, -3, 4])], 1),
    "bbox NaN": (coco(box(), box(bbox=[1, 2, float("nan"), 3])), 1),
    "area NaN": (coco(box(), box(area=float("nan"))), 1),
    "area negative": (coco(box(), box(area=-1)), 1),
    "iscrowd 2": (coco(box(iscrowd=2)), 0),
    "duplicate annotation ids": (coco({**box(), "id": 5}, {**box(2), "id": 6}, {**box(), "id": 5}), 2),
    "duplicate ids in a plain list": ([box(id="a"), box(id="b"), box(id="a")], 2),
    "duplicate image ids": (coco(images=[1, 2, 1]), 2),
    "duplicate category ids": (coco(categories=[1, 1]), 1),
    "unknown image": (coco(box(), box(image=9)), 1),
    "unknown category": (coco(box(), box(category=9)), 1),
    "image id of another type": (coco(box(), box(image="1")), 1),
}


@pytest.mark.parametrize("name", BAD_TRUTH)
def test_a_malformed_ground_truth_is_named_by_its_index(scene: Scene, name: str) -> None:
    truth, index = BAD_TRUTH[name]
    error = scene.truth(truth).predictions([hit()]).refused(ErrorCode.BAD_FORMAT)
    assert error.details["index"] == index
    assert error.details["file"] == "input/gt.json"


@pytest.mark.parametrize(
    "truth",
    [{"images": [], "annotations": []}, {"boxes": []}, [box(1), box("1")], coco(images=[1, "2"]), "7", "null", '"x"'],
    ids=["no categories", "another object", "mixed ids", "mixed image ids", "number", "null", "text"],
)
def test_a_ground_truth_of_another_shape_is_refused(scene: Scene, truth: Any) -> None:
    assert "gt.json" in scene.truth(truth).refused(ErrorCode.BAD_FORMAT).message


BAD_JSON = {
    "empty": "",
    "cut off": '[{"image_id": 1',
    "trailing text": "[] x",
    "an object": json.dumps({"annotations": [hit()]}),
    "latin-1": '[{"image_id": "ü"}]'.encode("latin-1"),
    "utf-16": json.dumps([hit()]).encode("utf-16"),
    "too deep": "[" * 200_000,
    "too deep in a field nobody reads": '[{"image_id": 1, "x": ' + "[" * 200_000,
    "NaN in a field nobody reads": json.dumps([{**hit(), "extra": float("nan")}]),
    "NaN and broken": '[{"score": NaN',
    "zeros first": '[{"image_id": 01}]',
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_invalid_json_is_bad_format(scene: Scene, name: str) -> None:
    scene.truth(coco(box())).predictions(BAD_JSON[name]).refused(ErrorCode.BAD_FORMAT)
    (scene.root / "output/pred.json").unlink()
    if name != "an object":
        scene.truth(BAD_JSON[name]).refused(ErrorCode.BAD_FORMAT)


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\0", b"\\u0000", b"\\ud83d", b"\\udc00\\ud83d", b"\xc3"])
@pytest.mark.parametrize("place", ["a key", "a value", "deeper"])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_text_that_no_file_may_hold_is_refused_where_nobody_reads_it_too(
    scene: Scene, text: bytes, place: str, suffix: str
) -> None:
    more = {"a key": b'"%s": 1', "a value": b'"x": "%s"', "deeper": b'"x": [{"y": ["%s"]}]'}[place] % text
    record = json.dumps(hit()).encode()[:-1] + b", " + more + b"}"
    whole = b"[%s]" % record if suffix == "json" else record
    error = scene.truth(coco(box())).predictions(whole, suffix).refused(ErrorCode.BAD_FORMAT)
    assert error.details["byte"] == whole.index(text)
    (scene.root / f"output/pred.{suffix}").unlink()
    truth = json.dumps(coco(box())).encode()[:-1] + b", " + more + b"}"
    error = scene.truth(truth).refused(ErrorCode.BAD_FORMAT)
    assert error.details["byte"] == truth.index(text)


def test_escaped_pairs_of_surrogates_and_escaped_backslashes_are_fine(scene: Scene) -> None:
    found = json.dumps([{**hit(), "x": "\U0001f600", "y": "\\u0000 \\ud83d"}])
    assert "\\ud83d\\ude00" in found
    assert scene.truth(coco(box())).predictions(found).score().metrics["map"] == 1.0


@pytest.mark.parametrize(
    "record",
    [
        '{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.1, "score": 0.9}',
        '{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.1, "\\u0073core": 0.9}',
        '{"image_id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.1, "more": ":"}',
    ],
)
def test_a_key_that_appears_twice_is_refused(scene: Scene, record: str) -> None:
    error = scene.truth(coco(box())).predictions(f"[{json.dumps(hit())}, {record}]").refused(ErrorCode.BAD_FORMAT)
    assert "twice" in error.message and error.details["index"] == 1


def test_a_key_that_appears_twice_in_the_ground_truth_is_refused(scene: Scene) -> None:
    text = json.dumps(coco(box()))
    for once, twice in (
        ('"bbox":', '"bbox": [1, 1, 1, 1], "bbox":'),
        ('"annotations":', '"annotations": [], "annotations":'),
    ):
        assert "twice" in scene.truth(text.replace(once, twice)).refused(ErrorCode.BAD_FORMAT).message


def test_the_same_words_elsewhere_are_no_duplicates(scene: Scene) -> None:
    truth = coco(box())
    truth["images"][0] |= {"area": 5, "bbox": "bbox", "tags": {"id": 1, "name": "\u00e4"}}
    found = [{**hit(), "note": "score", "nested": {"score": 1, "image_id": 3}}]
    assert scene.truth(truth).predictions(found).score().metrics["map"] == 1.0


# Joining


def test_unknown_images_are_a_mismatch_with_the_first_few(scene: Scene) -> None:
    found = [hit(), *[hit(i) for i in range(100, 120)]]
    error = scene.truth(coco(box())).predictions(found).refused(ErrorCode.MISMATCH)
    assert error.details == {
        "file": "output/pred.json", "unknown_images": 20, "records": 20, "first": [100, 101, 102, 103, 104]
    }  # fmt: skip
    assert "100, 101" in error.message
    scene.refused(ErrorCode.MISMATCH, extra_images="count")  # a COCO object names all its images


def test_a_plain_list_may_take_images_without_boxes(scene: Scene) -> None:
    scene.truth([box("b")]).predictions([hit("b", score=0.5), hit("a", score=0.9)])
    assert "extra_images" in scene.refused(ErrorCode.MISMATCH).message
    result = scene.score(extra_images="count")
    assert result.metrics["map"] == pytest.approx(0.5)
    assert any("1 images with detections" in note for note in result.notes)


@pytest.mark.parametrize("kind", ["image", "category"])
@pytest.mark.parametrize("ids", [(1, "1"), ("1", 1)], ids=["text for numbers", "numbers for text"])
def test_ids_of_another_type_are_a_mismatch_with_a_hint(scene: Scene, kind: str, ids: tuple[Any, Any]) -> None:
    scene.truth([box(**{kind: ids[0]})]).predictions([hit(**{kind: ids[0]}), hit(**{kind: ids[1]})])
    error = scene.refused(ErrorCode.MISMATCH)
    assert error.details["index"] == 1 and "quotes" in error.message


def test_ids_that_look_alike_stay_apart(scene: Scene) -> None:
    big = 2**53
    truth = coco(box(big), box(big + 1), images=[big, big + 1, 10**30, -4])
    found = [hit(big), hit(big + 1, bbox=[300, 300, 5, 5]), hit(10**30, score=0.1), hit(-4, score=0.1)]
    assert scene.truth(truth).predictions(found).score().metrics["mar_100"] == 0.5


# Files


def test_predictions_must_be_a_plain_file(scene: Scene) -> None:
    scene.truth(coco(box()))
    (scene.root / "output/pred.json").symlink_to(scene.root / "input/gt.json")
    scene.refused(ErrorCode.OUTPUT_REJECTED)
    (scene.root / "output/pred.json").unlink()
    os.mkfifo(scene.root / "output/pred.json")
    scene.refused(ErrorCode.OUTPUT_REJECTED)


def test_a_table_is_refused_and_missing_files_are_named(scene: Scene) -> None:
    scene.truth(coco(box()))
    DetectionMAP().validate(scene.root, {})  # no predictions yet: the model has not run
    with pytest.raises(AutoScorerError) as caught:
        DetectionMAP().score(scene.root, {})
    assert caught.value.code is ErrorCode.MISSING_FILE
    error = scene.predictions("image_id,score\n", "csv").refused(ErrorCode.BAD_FORMAT)
    assert ".json or .jsonl" in error.message


def test_files_beyond_the_limit_are_not_read(scene: Scene) -> None:
    scene.truth(coco(box())).predictions([])
    os.truncate(scene.root / "output/pred.json", 10 * 1024**3)  # sparse
    assert "bytes" in scene.refused(ErrorCode.BAD_FORMAT).message


# Params


@pytest.mark.parametrize(
    "params",
    [
        {"iou_thresholds": []},
        {"iou_thresholds": [0.5, 0.5]},
        {"iou_thresholds": [0.9, 0.5]},
        {"iou_thresholds": [0]},
        {"iou_thresholds": [1.1]},
        {"iou_thresholds": ["0.5"]},
        {"iou_thresholds": [True]},
        {"iou_thresholds": 0.5},
        {"recall_thresholds": [-0.1]},
        {"max_dets": []},
        {"max_dets": [0]},
        {"max_dets": [100, 10]},
        {"max_dets": [1.5]},
        {"max_dets": [10**9]},
        {"area_ranges": {"small": [5, 5]}},
        {"area_ranges": {"small": [-1, 5]}},
        {"area_ranges": {"50": [0, 5]}},
        {"area_ranges": {"small": [0, float("inf")]}},
        {"extra_images": "maybe"},
        {"iou_threshold": [0.5]},
    ],
    ids=str,
)
def test_wrong_params_are_refused_by_name(scene: Scene, params: dict[str, Any]) -> None:
    error = scene.truth(coco(box())).predictions([hit()]).refused(ErrorCode.BAD_PARAMS, **params)
    assert next(iter(params)) in error.message


def test_the_params_schema_can_be_shown() -> None:
    assert "iou_thresholds" in DetectionMAP.Params.model_json_schema()["properties"]


# Artifacts


def test_artifacts_name_errors_and_are_the_same_twice(scene: Scene) -> None:
    truth = coco(box(), box(2, 2, [50, 50, 40, 40]))
    scene.truth(truth).predictions(
        [hit(score=0.9), hit(score=0.8), hit(bbox=[12, 12, 90, 90], score=0.7), hit(2, 1, [400, 9, 5, 5], 0.6)]
    )
    result = scene.score(artifacts=True)
    folder = scene.root / "output/artifacts"
    assert {a.path for a in result.artifacts.values()} == {
        f"output/artifacts/{name}" for name in ("per_class.csv", "errors.csv", "pr_curves.json", "pr_curves.svg")
    }
    errors = list(csv.DictReader((folder / "errors.csv").read_text().splitlines()))
    assert [(e["error"], e["kind"], e["record"]) for e in errors] == [
        ("false_positive", "duplicate", "1"),
        ("false_positive", "background", "2"),
        ("false_positive", "background", "3"),
        ("missed", "", "1"),
    ]
    classes = list(csv.DictReader((folder / "per_class.csv").read_text().splitlines()))
    assert [(c["category"], c["boxes"], c["ap"]) for c in classes] == [("name 1", "1", "1.0"), ("name 2", "1", "0.0")]
    curves = json.loads((folder / "pr_curves.json").read_text())
    assert curves["iou"] == 0.5 and len(curves["precision"]["name 1"]) == len(curves["recall"]) == 101
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    scene.score(artifacts=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_artifacts_of_a_scene_without_boxes(scene: Scene) -> None:
    result = scene.truth(coco()).predictions([hit()]).score(artifacts=True)
    assert "pr_curves" not in result.artifacts and "errors" in result.artifacts


def test_importing_the_scorer_imports_no_engine() -> None:
    code = (
        "import sys, autoscorer.scorers.detection.scorer; "
        "print([m for m in ('hotcoco', 'pycocotools', 'pandas', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Anything at all

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(width=32) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["image_id", "category_id", "bbox", "score", "id", "images", "annotations"]), inner
        )
    ),
    max_leaves=12,
)
near = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from([1, 2, "1"]) | values,
        "category_id": st.sampled_from([1, 2]),
        "bbox": st.just(BOX) | values,
    },
    optional={"score": st.floats() | st.integers(), "id": values, "area": values, "iscrowd": values},
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(truth=st.lists(near, max_size=3) | values, found=st.lists(near, max_size=3) | values)
def test_whatever_comes_ends_in_a_result_or_an_error_of_the_catalogue(
    tmp_path_factory: pytest.TempPathFactory, truth: Any, found: Any
) -> None:
    scene = Scene(tmp_path_factory.mktemp("any") / "ws")
    try:
        result = scene.truth(truth).predictions(found).score()
    except AutoScorerError as error:
        assert error.code in (ErrorCode.BAD_FORMAT, ErrorCode.MISMATCH)
        json.dumps(error.to_dict(), allow_nan=False)
    else:
        json.dumps(result.to_dict(), allow_nan=False)
