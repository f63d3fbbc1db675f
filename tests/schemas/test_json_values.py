"""What a stranger's JSON holds is found wherever it lies in it, and what is fit is left alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from autoscorer.schemas.json_values import Unfit, Why, is_plain, plain_text, unfit, walk
from hypothesis import given
from hypothesis import strategies as st

fit_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
fit = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | fit_text,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(fit_text, below, max_size=4),
    max_leaves=12,
)
BAD: dict[Why, list[Any]] = {
    Why.NUL: ["\0", "a\0b"],
    Why.SURROGATE: ["\ud800", "é\udfff"],
    Why.NOT_FINITE: [math.nan, math.inf, -math.inf],
    Why.TOO_LARGE: [2**63, -(2**63) - 1, 10**4000],
}
CASES = [(why, value) for why, values in BAD.items() for value in values]


def whys(value: Any, levels: int = 100) -> set[Why]:
    return {problem.why for problem in unfit(value, levels=levels)}


@given(fit)
def test_what_every_reader_can_hold_is_fit(value: Any) -> None:
    assert whys(value) == set()
    # Strict JSON in UTF-8, and back.
    assert json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) == value


@given(st.sampled_from(CASES), fit, st.lists(st.booleans() | fit_text, max_size=8))
def test_it_is_found_wherever_it_lies(case: tuple[Why, Any], beside: Any, path: list[bool | str]) -> None:
    why, value = case
    for step in path:
        value = {step: value, f"{step}2": beside} if isinstance(step, str) else [beside, value][:: 1 if step else -1]
    assert whys(value) == {why}


@pytest.mark.parametrize(("why", "key"), [case for case in CASES if isinstance(case[1], str)])
def test_keys_are_looked_at(why: Why, key: str) -> None:
    assert list(unfit({"a": [{key: 1}]}, place="params", levels=9)) == [Unfit("params.a[0]", why, key)]


def test_a_place_names_the_way_to_it_and_is_never_long() -> None:
    assert [place for place, _, item in walk({"a": [0, {"b": 7}]}, place="x", levels=9) if item == 7] == ["x.a[1].b"]
    assert all(len(problem.place) <= 203 for problem in unfit({"k" * 5000: [math.nan]}, levels=9))


@pytest.mark.parametrize("levels", [0, 1, 5])
def test_lists_and_objects_may_lie_in_each_other_to_a_depth(levels: int) -> None:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    assert whys(value, levels) == set()
    assert whys([value], levels) == whys({"a": value}, levels) == {Why.TOO_DEEP}


def test_depth_costs_no_recursion() -> None:
    value: Any = "\0"
    for _ in range(100_000):
        value = [value]
    assert whys(value, 10) == {Why.TOO_DEEP}


@given(st.text() | st.text(st.sampled_from("a\0é\ud800\udc00")))
def test_plain_text_is_what_can_be_encoded_and_named(text: str) -> None:
    try:
        encodes = "\0" not in text and bool(text.encode() or True)
    except UnicodeEncodeError:
        encodes = False
    assert is_plain(text) is encodes
    if encodes:
        assert plain_text(text) == text
    else:
        with pytest.raises(ValueError, match="NUL or lone surrogates"):
            plain_text(text)
    assert plain_text(None) is None
