"""What a scoring program wrote is read strictly: finite numbers of the columns, or an error that says what came."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.tasks.programs.columns import Column, metrics_of
from autoscorer.tasks.programs.scores import parse_json_scores, parse_text_scores, read_scores
from hypothesis import given, settings
from hypothesis import strategies as st

A, B = Column(key="a"), Column(key="b", higher_is_better=False)
NAMES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], blacklist_characters=":#"),
    min_size=1,
    max_size=8,
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def refused(function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AutoScorerError) as caught:
        function(*args, **kwargs)
    assert caught.value.code is ErrorCode.SCORER_ERROR
    return caught.value.message


@settings(deadline=None)
@given(st.dictionaries(NAMES, NUMBERS, max_size=5))
def test_numbers_come_through_either_file_as_they_were(scores: dict[str, float]) -> None:
    assert parse_json_scores(json.dumps(scores)) == scores
    assert parse_text_scores("".join(f"{name}: {value!r}\n" for name, value in scores.items())) == scores


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_scores_or_an_error(text: str) -> None:
    for parse in (parse_json_scores, parse_text_scores):
        try:
            assert isinstance(parse(text), dict)
        except AutoScorerError as error:
            assert error.code is ErrorCode.SCORER_ERROR


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=4)
)
def test_a_metric_is_a_finite_number_or_it_is_refused(value: Any) -> None:
    try:
        metrics, _ = metrics_of({"a": value}, [A], main="a")
    except AutoScorerError as error:
        assert error.code is ErrorCode.SCORER_ERROR
        return
    assert type(value) in (int, float) and metrics["a"] is not None and math.isfinite(metrics["a"])
    assert metrics["a"] == float(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[1]", "scores.json"),
        ("0.5", "scores.json"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested"),
    ],
)
def test_a_scores_json_that_is_refused(text: str, told: str) -> None:
    assert told in refused(parse_json_scores, text)


@pytest.mark.parametrize(
    ("text", "told"), [("a 1", "line 1"), (": 1", "line 1"), ("\na: 1\na: 2", "line 3 gives 'a' again")]
)
def test_a_scores_txt_that_is_refused(text: str, told: str) -> None:
    assert told in refused(parse_text_scores, text)


def test_a_scores_txt_as_programs_write_it() -> None:
    text = "# made by score.py\r\nset1_score: 0.75\nDuration:\t1e-3\n\nnote: fine\n"
    assert parse_text_scores(text) == {"set1_score": 0.75, "Duration": 0.001, "note": "fine"}


@pytest.mark.parametrize("value", ["0.5", True, None, [1], math.nan, math.inf, 10**400])
def test_what_is_no_number_is_refused_by_its_name(value: Any) -> None:
    assert "'a'" in refused(metrics_of, {"a": value}, [A], main="a")


def test_columns_that_are_missing_are_null_and_others_are_named() -> None:
    metrics, notes = metrics_of({"a": 1, "x": "?", "y": 2}, [A, B], main="a")
    assert metrics == {"a": 1.0, "b": None}
    assert any("b is undefined" in note for note in notes) and any("'x', 'y'" in note for note in notes)


def test_without_the_main_column_there_is_no_score() -> None:
    assert "no 'a'" in refused(metrics_of, {"b": 1}, [A, B], main="a")


@pytest.mark.parametrize(("how", "expected"), [("avg", 1.5), ("sum", 3.0), ("min", 1.0), ("max", 2.0)])
def test_a_column_is_computed_of_others(how: str, expected: float) -> None:
    mixed = Column(key="m", computation=how, of=("a", "b"))
    assert metrics_of({"a": 1, "b": 2, "m": 99}, [mixed, A, B], main="m")[0] == {"m": expected, "a": 1.0, "b": 2.0}
    assert metrics_of({"a": 1}, [A, mixed], main="a")[0]["m"] is None


def test_a_sum_that_is_too_large_is_refused() -> None:
    mixed = Column(key="m", computation="sum", of=("a", "b"))
    assert "'m'" in refused(metrics_of, {"a": 1.7e308, "b": 1.7e308}, [A, B, mixed], main="a")


def test_the_file_is_a_plain_one_of_a_reasonable_size(tmp_path: Path) -> None:
    assert "neither" in refused(read_scores, tmp_path)
    (tmp_path / "scores.txt").write_text("a: 1")
    assert read_scores(tmp_path) == {"a": 1.0}
    (tmp_path / "scores.json").write_text('{"a": 2}')
    assert read_scores(tmp_path) == {"a": 2}
    (tmp_path / "scores.json").write_text('{"a": 2, "b": "' + "x" * 2**20 + '"}')
    assert "bytes long" in refused(read_scores, tmp_path)
    (tmp_path / "scores.json").unlink()
    (tmp_path / "scores.json").symlink_to("scores.txt")
    assert "link" in refused(read_scores, tmp_path)
    (tmp_path / "scores.json").unlink()
    os.mkfifo(tmp_path / "scores.json")
    assert "plain file" in refused(read_scores, tmp_path)
