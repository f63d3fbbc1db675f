"""The Result is strict JSON whatever a scorer puts into it, and an undefined metric never passes for a number."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoscorer.core.workspace import Workspace
from autoscorer.schemas.result import ErrorInfo, Interval, Result, Summary, Timing
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def strict(text: str | bytes) -> Any:
    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


@given(metrics=st.dictionaries(NAMES, FLOATS, max_size=6), score=FLOATS, params=JSON, details=JSON)
def test_any_floats_end_as_strict_json(metrics: dict[str, float], score: float, params: Any, details: Any) -> None:
    result = Result(summary={"score": score, "f1": score}, metrics=metrics)
    result.versioning.params = {"p": params}
    result.error = ErrorInfo(code="X", message="m", stage="scoring", details={"d": details})
    data = strict(json.dumps(result.to_dict(), allow_nan=False))
    for name, value in metrics.items():
        if math.isfinite(value):
            assert data["metrics"][name] == value
        else:
            assert data["metrics"][name] is None
            assert any(note.startswith(f"{name} is undefined") for note in data["notes"])
    assert data["summary"]["score"] == data["summary"]["f1"] == (score if math.isfinite(score) else None)
    assert len(data["notes"]) == sum(not math.isfinite(value) for value in metrics.values())


@given(metrics=st.dictionaries(NAMES, FLOATS, max_size=4))
def test_metrics_added_after_the_checks_are_checked_on_the_way_out(metrics: dict[str, float]) -> None:
    result = Result()
    result.metrics.update(metrics)
    result.summary.main = float("nan")
    data = strict(json.dumps(result.to_dict(), allow_nan=False))
    assert data["metrics"] == {k: v if math.isfinite(v) else None for k, v in metrics.items()}
    assert len(data["notes"]) == sum(value is None for value in data["metrics"].values())
    assert data["summary"]["main"] is None


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.float16])
def test_numpys_nan_is_undefined_as_well(kind: Any) -> None:
    result = Result(metrics={"f1": kind("nan"), "auc": kind("-inf"), "acc": kind(0.5)}, notes=["kept"])
    assert result.metrics == {"f1": None, "auc": None, "acc": 0.5}
    assert result.notes[0] == "kept" and len(result.notes) == 3
    assert Result(summary={"score": kind("inf")}).summary.score is None


def test_the_way_out_and_in_again_changes_nothing() -> None:
    result = Result(
        job_id="j",
        summary=Summary(score=0.5, passed=True, rank="B"),
        metrics={"f1": 0.5, "auc": float("nan")},
        intervals={"f1": Interval(low=0.4, high=0.6, method="wilson")},
        artifacts={"plot": "output/artifacts/a.svg"},
        timing=Timing(validate_=0.1),
    )
    data = result.to_dict()
    assert Result.model_validate(data).to_dict() == data
    assert len(data["notes"]) == 1
    assert data["artifacts"]["plot"]["path"] == "output/artifacts/a.svg"


def test_the_fields_have_the_designs_names() -> None:
    data = Result(summary={"pass": True}, timing={"validate": 1.5}).to_dict()
    assert list(data) == [
        "job_id", "task_type", "summary", "metrics", "metric_aliases", "intervals", "artifacts", "timing", "resources",
        "versioning", "notes", "disclosed", "error",
    ]  # fmt: skip
    assert data["summary"]["pass"] is True and "passed" not in data["summary"]
    assert data["timing"]["validate"] == 1.5 and "validate_" not in data["timing"]
    assert set(data["timing"]) == {"validate", "queue", "pull", "run", "load", "compute", "save", "total"}
    # Both names go in.
    assert Summary(passed=True).passed is Summary.model_validate({"pass": True}).passed is True
    assert Timing(validate_=1.0).validate_ == Timing.model_validate({"validate": 1.0}).validate_ == 1.0


@pytest.mark.parametrize(
    "data",
    [
        {"scores": {}},
        {"timing": {"vaildate": 1}},
        {"versioning": {"sha": "x"}},
        {"resources": {"gpu": 1}},
        {"intervals": {"f1": {"low": 0, "high": 1, "method": "m", "p": 1}}},
        {"artifacts": {"a": {"path": "p", "url": "u"}}},
        {"error": {"code": "X", "message": "m", "stage": "s", "trace": "t"}},
    ],
    ids=lambda data: next(iter(data)),
)
def test_an_unknown_key_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Result.model_validate(data)


@pytest.mark.parametrize(
    "data",
    [
        {"metrics": 5},
        {"metrics": [1]},
        {"metrics": {"a": "x"}},
        {"notes": 5},
        {"notes": 5, "metrics": {"a": float("nan")}},
        {"artifacts": 5},
        {"summary": 5},
        {"intervals": {"a": {"low": float("nan"), "high": 1, "method": "m"}}},
        [],
        None,
    ],
    ids=repr,
)
def test_a_wrong_type_is_a_validation_error_and_nothing_else(data: Any) -> None:
    with pytest.raises(ValidationError):
        Result.model_validate(data)


@given(data=JSON)
def test_no_json_at_all_raises_anything_but_a_validation_error(data: Any) -> None:
    for document in (data, {"metrics": data}, {"notes": data}, {"summary": data}, {"artifacts": data}):
        try:
            Result.model_validate(document)
        except ValidationError:
            continue


def test_assignment_is_checked() -> None:
    result = Result()
    with pytest.raises(ValidationError):
        result.notes = "text"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        result.summary.score = float("nan")


def test_a_string_that_is_no_text_is_still_saved_as_json(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.save_result(Result(notes=["a\ud800b", "ü"]))
    assert strict(space.result_file.read_bytes())["notes"] == ["a\ud800b", "ü"]
