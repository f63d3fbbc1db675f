"""YAML and its values from strangers: anything gives what it means, or an error of the catalogue, and soon."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import yaml
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.tasks.importers.codabench_config import Competition, parse_competition
from autoscorer.tasks.importers.evalai_config import Challenge, parse_challenge
from autoscorer.tasks.importers.fields import Fields, slug
from autoscorer.tasks.importers.yaml_file import parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.competitions import CHALLENGE, COMPETITION
from ..support.examples import examples

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 40)}]\n" for n in range(1, 9))
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.datetimes(),
        st.sampled_from(["2", "0", "asc", "desc", "2026-01-01", "12-31-2026", "avg", "\ud800", "\0"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, below in items for found in paths_of(below, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "mapping"),
        ("- a\n", "mapping"),
        ("a: [", "not YAML"),
        ("a: b: c", "not YAML"),
        ("\ta: 1", "not YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
        ("a: 2026-02-31", "read"),
        ("? [a]\n: b", "not YAML"),
        ("a: *b", "not YAML"),
        ("a: " + "[" * 5000, "levels deep"),
        ("a: " + "{b: " * 500, "levels deep"),
        (LAUGHS, "aliases"),
        ("a: [" + "1," * 200_000 + "]", "values"),
        ("a: " + "9" * 5000, "read"),
        ("a: \x01", "control characters"),
    ],
)
def test_what_is_refused_is_told_soon(text: str, told: str) -> None:
    started = time.monotonic()
    with pytest.raises(AutoScorerError) as caught:
        parse_yaml(text, "x.yaml")
    assert caught.value.code is ErrorCode.BAD_FORMAT
    assert told in caught.value.message and caught.value.message.startswith("x.yaml: ")
    assert time.monotonic() - started < 30


def test_an_alias_may_be_used() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x\n", "x.yaml") == {"a": {"b": 1}, "c": {"b": 1}}


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_an_error(text: str) -> None:
    with contextlib.suppress(AutoScorerError):
        assert isinstance(parse_yaml(text, "x.yaml"), dict)


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_competition_with_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths_of(COMPETITION) if path]))
    changed = replaced(COMPETITION, path, data.draw(values))
    try:
        assert isinstance(parse_competition(changed), Competition)
    except AutoScorerError as error:
        assert error.code is ErrorCode.BAD_FORMAT


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_challenge_with_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths_of(CHALLENGE) if path]))
    changed = replaced(CHALLENGE, path, data.draw(values))
    try:
        assert isinstance(parse_challenge(changed), Challenge)
    except AutoScorerError as error:
        assert error.code is ErrorCode.BAD_FORMAT


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-12-31 23:59:00", datetime(2026, 12, 31, 23, 59, tzinfo=UTC)),
        ("2026-12-31", datetime(2026, 12, 31, tzinfo=UTC)),
        ("2026-6-4 7:00:00", datetime(2026, 6, 4, 7, tzinfo=UTC)),
        ("2026-12-04 9:00", datetime(2026, 12, 4, 9, tzinfo=UTC)),
        ("10-07-2026", datetime(2026, 10, 7, tzinfo=UTC)),
        ("10/07/2026 08:05", datetime(2026, 10, 7, 8, 5, tzinfo=UTC)),
        ("31-12-2026", datetime(2026, 12, 31, tzinfo=UTC)),
        ("2026-12-31T23:59:00+08:00", datetime(2026, 12, 31, 15, 59, tzinfo=UTC)),
        ("2026-12-31T23:59:00Z", datetime(2026, 12, 31, 23, 59, tzinfo=UTC)),
        (date(2026, 12, 31), datetime(2026, 12, 31, tzinfo=UTC)),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 1, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_times_as_bundles_write_them(written: Any, expected: datetime | None) -> None:
    assert Fields({"at": written}, "x").moment("at") == expected


@pytest.mark.parametrize(
    "written", ["31-31-2026", "2026-13-01", "Dec 31, 2026", "2026-02-30", 20261231, True, [], "0-0-2026"]
)
def test_what_is_no_time_is_refused(written: Any) -> None:
    with pytest.raises(AutoScorerError, match=r"x\.at: expected a time"):
        Fields({"at": written}, "x").moment("at")


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(1, 1, 2)))
def test_a_time_comes_through_yaml_as_it_was(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    for text in (yaml.safe_dump({"at": moment}), f"at: '{moment.isoformat(sep=' ')}'"):
        assert Fields(parse_yaml(text, "x"), "x").moment("at") == moment.replace(tzinfo=UTC)


@settings(deadline=None)
@given(st.text(max_size=100))
def test_a_slug_is_a_name_or_nothing(text: str) -> None:
    import re

    from autoscorer.schemas.benchmark import NAME

    assert slug(text) == "" or re.fullmatch(NAME, slug(text))
