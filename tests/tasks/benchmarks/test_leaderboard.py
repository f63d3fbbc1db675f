"""The leaderboard: who counts with what, in which order, and what of it teams are told."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.scores import read_scores
from autoscorer.schemas.benchmark import Board
from autoscorer.service.workspaces.replacing import delete_workspace
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.tasks.benchmarks.choice import choose
from autoscorer.tasks.benchmarks.leaderboard import board, board_of, history, ladder, to_csv, to_markdown
from hypothesis import given
from hypothesis import strategies as st

from ...support.benchmarks import change_spec, rows, submit, write_benchmark

Json = dict[str, Any]


def line(team: str, number: int, score: float | None, **more: Any) -> Json:
    return {
        "team": team, "number": number, "at": f"2026-06-01T00:00:{number:02d}Z", "version": 1, "metric": "accuracy",
        "score": score, "low": None if score is None else score - 0.1, "high": None if score is None else score + 0.1,
        "higher_is_better": True, "pass": None, "error": None, "label": f"{team}{number}",
        "submitted_at": f"2026-06-01T00:00:{number:02d}Z", "late": False, **more,
    }  # fmt: skip


def shown(
    lines: list[Json], rules: Board | None = None, choices: dict[str, int] | None = None
) -> list[tuple[Any, ...]]:
    return [(row["place"], row["team"], row["score"], row["number"]) for row in board(lines, rules or Board(), choices)]


LINES = [line("a", 1, 0.5), line("b", 1, 0.7), line("a", 2, 0.9), line("a", 3, 0.6)]


def test_the_best_the_last_or_the_chosen_one_counts() -> None:
    assert shown(LINES) == [(1, "a", 0.9, 2), (2, "b", 0.7, 1)]
    assert shown(LINES, Board(choose="last")) == [(1, "b", 0.7, 1), (2, "a", 0.6, 3)]
    assert shown(LINES, Board(choose="chosen"), {"a": 1}) == [(1, "b", 0.7, 1), (2, "a", 0.5, 1)]
    # Who has not chosen has the best.
    assert shown(LINES, Board(choose="chosen")) == [(1, "a", 0.9, 2), (2, "b", 0.7, 1)]


def test_where_lower_is_better_the_lowest_is_first() -> None:
    lines = [{**each, "higher_is_better": False} for each in LINES]
    assert shown(lines) == [(1, "a", 0.5, 1), (2, "b", 0.7, 1)]


def test_equal_scores_share_a_place_and_the_earlier_stands_first() -> None:
    lines = [line("a", 9, 0.5), line("b", 2, 0.5), line("c", 1, 0.4), line("d", 3, 0.6)]
    assert shown(lines) == [(1, "d", 0.6, 3), (2, "b", 0.5, 2), (2, "a", 0.5, 9), (4, "c", 0.4, 1)]


def test_of_equal_ones_of_a_team_the_first_counts() -> None:
    assert shown([line("a", 1, 0.5), line("a", 2, 0.5)]) == [(1, "a", 0.5, 1)]


def test_what_failed_or_is_late_does_not_count_and_is_counted() -> None:
    lines = [line("a", 1, 0.5), line("a", 2, None, error="TIMEOUT_ERROR"), line("a", 3, 0.9, late=True)]
    rows_ = board([*lines, line("b", 1, None, error="MISMATCH")], Board())
    assert [(row["team"], row["number"], row["submissions"]) for row in rows_] == [("a", 1, 3)]


def test_the_last_line_of_a_submission_is_what_it_is() -> None:
    again = [line("a", 1, 0.9), line("b", 1, 0.5), line("a", 1, 0.3, version=2)]
    assert shown(again) == [(1, "b", 0.5, 1), (2, "a", 0.3, 1)]
    assert shown([*again, line("b", 1, None, error="SCORER_ERROR")]) == [(1, "a", 0.3, 1)]
    marked = board(again, Board(), version=2)
    assert {row["team"]: row["outdated"] for row in marked} == {"a": False, "b": True}


def test_history_is_every_submission_of_a_team() -> None:
    assert [each["number"] for each in history([*LINES, line("a", 1, 0.1)], "a")] == [1, 2, 3]
    assert history(LINES, "nobody") == []


def test_scores_and_intervals_are_rounded() -> None:
    row = board([line("a", 1, 0.123456)], Board(decimals=3))[0]
    assert (row["score"], row["low"], row["high"]) == (0.123, 0.023, 0.223)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=40),
    st.sampled_from([0.01, 0.1, 0.5]),
    st.booleans(),
)
def test_the_ladder_tells_only_of_improvements_beyond_its_step(
    scores: list[float], margin: float, higher: bool
) -> None:
    told = ladder(scores, margin, higher_is_better=higher)
    sign = 1 if higher else -1
    assert len(told) == len(scores)
    for before, after in pairwise(told):
        # It never goes back, and what it tells is a multiple of the step.
        assert sign * after >= sign * before
        assert after == before or sign * (after - before) >= margin / 2 - 1e-9
    for value in told:
        assert abs(value / margin - round(value / margin)) < 1e-6
    best = max(sign * score for score in scores)
    assert sign * told[-1] <= best + margin / 2 + 1e-9
    assert sign * told[-1] >= best - 1.5 * margin - 1e-9


def test_the_ladder_hides_which_submission_it_was_and_its_interval() -> None:
    row = board([line("a", 1, 0.52), line("a", 2, 0.56)], Board(margin=0.1))[0]
    assert row["score"] == pytest.approx(0.5)
    assert {row[key] for key in ("low", "high", "number", "label", "submitted_at")} == {None}


# --- of a benchmark on disk ---------------------------------------------------------------------------------------


def test_it_is_what_was_scored(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    submit(folder, rows("xxxx"), team="team-b", label="all x")
    submit(folder, rows("xyxx"), team="team-a")
    submit(folder, "id,label\na,x\n", team="team-c")
    found = board_of(folder, folder.read())
    assert [(row["place"], row["team"], row["score"], row["label"]) for row in found] == [
        (1, "team-a", 0.75, None), (2, "team-b", 0.5, "all x"),
    ]  # fmt: skip
    assert found[0]["low"] < 0.75 < found[0]["high"] and found[0]["metric"] == "accuracy"


def test_a_frozen_leaderboard_stays_for_teams_and_goes_on_for_organisers(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    submit(folder, rows("xxxx"))
    change_spec(folder, leaderboard={"freeze": "2001-01-01T00:00:00Z"})
    assert board_of(folder, folder.read(), as_team=True) == []
    assert len(board_of(folder, folder.read())) == 1
    change_spec(folder, leaderboard={"freeze": "2999-01-01T00:00:00Z"})
    assert len(board_of(folder, folder.read(), as_team=True)) == 1


def test_a_team_chooses_where_the_benchmark_says_so(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    for labels in ("xyxy", "xxxx"):
        submit(folder, rows(labels))
    with pytest.raises(AutoScorerError, match=r"INVALID_REQUEST.*best submission"):
        choose(folder, "team-a", 2)
    change_spec(folder, leaderboard={"choose": "chosen"})
    choose(folder, "team-a", 2)
    assert board_of(folder, folder.read())[0]["number"] == 2
    for team, number in (("team-a", 3), ("team-b", 1)):
        with pytest.raises(AutoScorerError, match="NOT_FOUND"):
            choose(folder, team, number)


def test_a_line_that_was_cut_by_a_kill_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    submit(folder, rows("xyxy"))
    with (folder.state / "scores.jsonl").open("ab") as file:
        file.write(b'{"team": "team-z", "numb')
    assert [row["team"] for row in board_of(folder, folder.read())] == ["team-a"]
    submit(folder, rows("xyxx"), team="team-b")
    assert [row["team"] for row in board_of(folder, folder.read())] == ["team-a", "team-b"]


def test_names_are_safe_in_a_spreadsheet_and_in_markdown() -> None:
    found = board(
        [line("a", 1, 0.5, label="=cmd|' /C calc'!A0"), line("b", 1, 0.4, label="x | <b>y</b>\n# z")], Board()
    )
    cells = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert cells[0]["label"].startswith("'=") and cells[0]["score"] == "0.5"
    text = to_markdown(found)
    assert len(text.splitlines()) == 4 and "&lt;b>" in text and "\\|" in text


def test_a_submission_that_was_deleted_has_no_place_and_its_number_may_come_again(tmp_path: Path) -> None:
    truth = "id,label,Usage\na,x,Public\nb,y,Public\nc,x,Private\nd,y,Private\n"
    folder = write_benchmark(tmp_path, truth=truth, withheld={"column": "Usage"})
    root, _ = submit(folder, rows("xyxy"))
    submit(folder, rows("xxxx"), team="team-b")
    roots = WorkspaceRoots(load_settings().model_copy(update={"workspace_roots": (tmp_path,)}))
    delete_workspace(roots, root, ".gone-")
    for private in (False, True):
        assert [row["team"] for row in board_of(folder, folder.read(), private=private)] == ["team-b"]
    assert not list((folder.state / "withheld" / "team-a").iterdir())
    again, _ = submit(folder, rows("xyyx"))
    assert again.name == "0001"
    assert [row["team"] for row in board_of(folder, folder.read())] == ["team-a", "team-b"]
    assert [each["score"] for each in history(read_scores(folder), "team-a")] == [1.0]
