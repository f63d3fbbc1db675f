"""The leaderboard of a batch: whoever is better stands higher, equals share a place, and nobody is left out."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pytest
from autoscorer.flows.batches.leaderboard import COLUMNS, leaderboard, to_csv
from hypothesis import given
from hypothesis import strategies as st

SCORES = st.one_of(st.none(), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False))


def outcome(workspace: str, state: str = "completed", **fields: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("score", "metric", "higher_is_better", "interval", "pass", "rank", "seconds", "error"))
    if state == "completed":
        blank |= {"metric": "f1", "higher_is_better": True}
    return {"workspace": workspace, "state": state, **blank, **fields}


@st.composite
def batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=12))
    directions = {"f1": True, "rmse": False}
    made = []
    for name in names:
        state = draw(st.sampled_from(["completed", "completed", "completed", "failed", "cancelled", "duplicate"]))
        metric = draw(st.sampled_from(sorted(directions)))
        scored = {"score": draw(SCORES), "metric": metric, "higher_is_better": directions[metric]}
        made.append(outcome(name, state, **(scored if state == "completed" else {})))
    return made


@given(batches())
def test_everyone_stands_there_once_and_only_the_scored_have_a_place(outcomes: list[dict[str, Any]]) -> None:
    rows = leaderboard(outcomes)
    expected = sorted(o["workspace"] for o in outcomes if o["state"] != "duplicate")
    assert sorted(row["workspace"] for row in rows) == expected
    assert all(tuple(row) == COLUMNS for row in rows)
    for row in rows:
        assert (row["place"] is not None) == (row["state"] == "completed" and row["score"] is not None)
    ranks = [0 if row["place"] else ["completed", "failed", "cancelled"].index(row["state"]) + 1 for row in rows]
    assert ranks == sorted(ranks)


@given(batches())
def test_a_place_is_one_more_than_the_number_of_those_who_are_better(outcomes: list[dict[str, Any]]) -> None:
    rows = [row for row in leaderboard(outcomes) if row["place"]]
    for row in rows:
        same = [other["score"] for other in rows if other["metric"] == row["metric"]]
        better = [s for s in same if (s > row["score"] if row["metric"] == "f1" else s < row["score"])]
        assert row["place"] == 1 + len(better)
    for metric in ("f1", "rmse"):
        places = [row["place"] for row in rows if row["metric"] == metric]
        assert places == sorted(places)


@given(batches(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_who_came_first(outcomes: list[dict[str, Any]], chance: random.Random) -> None:
    shuffled = list(outcomes)
    chance.shuffle(shuffled)
    assert leaderboard(shuffled) == leaderboard(outcomes)


def test_ties_share_a_place_and_the_next_is_left_out() -> None:
    rows = leaderboard([outcome(name, score=score) for name, score in [("d", 1), ("b", 2), ("c", 2.0), ("a", 3)]])
    assert [(row["place"], row["workspace"]) for row in rows] == [(1, "a"), (2, "b"), (2, "c"), (4, "d")]


def test_a_row_tells_the_interval_the_letter_and_the_code() -> None:
    rows = leaderboard(
        [
            outcome("/w/b", "failed", error={"code": "MISMATCH", "message": "…"}, seconds=0.1),
            outcome("/w/a", score=0.5, interval={"low": 0.4, "high": 0.6, "level": 0.95, "method": "delta"}, rank="B"),
        ]
    )
    assert (rows[0]["low"], rows[0]["high"], rows[0]["rank"], rows[0]["error"]) == (0.4, 0.6, "B", None)
    assert (rows[1]["place"], rows[1]["error"], rows[1]["seconds"]) == (None, "MISMATCH", 0.1)


def test_of_several_outcomes_of_a_workspace_the_last_one_counts() -> None:
    rows = leaderboard([outcome("a", "failed", error={"code": "CONFLICT"}), outcome("a", score=1.0)])
    assert [(row["place"], row["state"]) for row in rows] == [(1, "completed")]


@given(batches())
def test_csv_reads_back_as_it_was(outcomes: list[dict[str, Any]]) -> None:
    rows = leaderboard(outcomes)
    text = to_csv(rows)
    text.encode("utf-8")
    found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert tuple(found[0]) == COLUMNS and len(found) == len(rows) + 1
    for cells, row in zip(found[1:], rows, strict=True):
        cell = dict(zip(COLUMNS, cells, strict=True))
        assert cell["workspace"].removeprefix("'").endswith(row["workspace"].removeprefix("'"))
        assert (float(cell["score"]) if cell["score"] else None) == row["score"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "\xa0=1"])
def test_a_name_that_looks_like_a_formula_is_made_harmless(name: str) -> None:
    text = to_csv(leaderboard([outcome(name, score=-1.5)]))
    cells = list(csv.reader(io.StringIO(text, newline="")))[1]
    assert cells[1] == "'" + name
    assert cells[COLUMNS.index("score")] == "-1.5"


def test_csv_has_its_line_ends_quotes_and_no_lone_surrogates() -> None:
    text = to_csv(leaderboard([outcome('a,"b"', score=1.0), outcome("\udcff", "failed")]))
    assert text.split("\r\n")[1].startswith('1,"a,""b""",completed,f1,1.0,')
    assert "\\udcff" in text and text.endswith("\r\n")
