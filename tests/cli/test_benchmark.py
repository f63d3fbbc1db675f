"""What organisers and teams type: a benchmark from nothing to its leaderboard, and again when the truth was wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from jsonschema import Draft202012Validator

from ..support.benchmarks import change_spec, rows, write_benchmark
from ..support.terminal import in_terminal
from ..support.workspaces import write_workspace

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """People type relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Any:
    """Type a command; its data, or its error."""

    def run(*words: str, code: int = 0) -> Json:
        assert main([*words]) == code, capsys.readouterr()
        envelope = json.loads(capsys.readouterr().out)
        return dict(envelope["error" if "error" in envelope else "data"])

    return run


@pytest.mark.parametrize("task", ["classification", "regression", "detection"])
def test_a_new_one_is_valid_as_it_is(typed: Any, here: Path, task: str) -> None:
    made = typed("benchmark", "new", "spring-2026", "--task", task)
    assert made["name"] == "spring-2026" and "benchmark.json" in made["files"]
    assert [step["command"].split()[1] for step in made["next"]] == ["benchmark", "evaluate", "benchmark"]
    assert typed("benchmark", "validate", "spring-2026")["version"] == 1
    schema = typed("benchmark", "schema")
    Draft202012Validator(schema).validate(json.loads((here / "spring-2026" / "benchmark.json").read_text()))


def test_init_writes_one_too(typed: Any) -> None:
    assert typed("init", "spring", "--benchmark")["benchmark"].endswith("/spring")
    assert typed("benchmark", "validate", "spring")["scorer"] == "classification_f1"


def test_one_of_a_workspace_scores_as_the_workspace_does(typed: Any, here: Path) -> None:
    space = write_workspace(here, "space", params={"pass_threshold": 0.9}, timeout=77)
    typed("benchmark", "new", "league", "--from", "space")
    spec = json.loads((here / "league" / "benchmark.json").read_text())
    assert (spec["scorer"], spec["params"], spec["timeout"]) == ("classification_f1", {"pass_threshold": 0.9}, 77)
    result = typed("evaluate", "league", "--predictions", str(space / "output" / "pred.csv"))
    assert result["summary"]["score"] == typed("score", "space")["summary"]["score"] == 1.0


@pytest.mark.parametrize("name", ["Spring", "spring 2026", "春", "x" * 65])
def test_a_name_that_is_none_is_refused(typed: Any, here: Path, name: str) -> None:
    error = typed("benchmark", "new", name, code=2)
    assert error["code"] == "INVALID_REQUEST" and "lower-case letters" in error["message"]


def test_a_folder_that_is_not_empty_stays_as_it_is(typed: Any, here: Path) -> None:
    (here / "spring").mkdir()
    (here / "spring" / "mine").write_text("x")
    assert "not empty" in typed("benchmark", "new", "spring", code=2)["message"]
    assert [path.name for path in (here / "spring").iterdir()] == ["mine"]


def test_a_season(typed: Any, here: Path) -> None:
    """Two teams submit, one is better, the truth is mended, everything is scored again, and places change."""
    folder = write_benchmark(here, "league")
    for name, labels in {"a": "xyxx", "b": "xxxx", "c": "xyx"}.items():
        (here / f"{name}.csv").write_text(rows(labels, ids="abcd"[: len(labels)]))
    first = typed("evaluate", "league", "--predictions", "a.csv", "--team", "team-a", "--label", "first try")
    assert first["submission"]["number"] == 1 and first["versioning"]["benchmark"]["version"] == 1
    typed("evaluate", "league", "--predictions", "b.csv", "--team", "team-b")
    assert typed("evaluate", "league", "--predictions", "c.csv", "--team", "team-b", code=1)["code"] == "MISMATCH"

    def places() -> list[tuple[int, str, float]]:
        board = typed("benchmark", "leaderboard", "league", "--csv", "board.csv", "--markdown", "board.md")
        return [(row["place"], row["team"], row["score"]) for row in board["leaderboard"]]

    assert places() == [(1, "team-a", 0.75), (2, "team-b", 0.5)]
    assert (here / "board.csv").read_text().splitlines()[1].startswith("1,team-a,0.75")
    assert "| 1 | team-a | 0.75 |" in (here / "board.md").read_text()
    (folder.input / "gt.csv").write_text(rows("xxxx"))
    assert typed("benchmark", "validate", "league")["version"] == 2
    outdated = typed("benchmark", "leaderboard", "league")["leaderboard"]
    assert [row["outdated"] for row in outdated] == [True, True]
    again = typed("rescore", "league", code=1)
    assert again["counts"] == {"scored": 2, "current": 0, "failed": 1, "skipped": 0}
    assert again["places"] == [
        {"team": "team-b", "before": 2, "after": 1},
        {"team": "team-a", "before": 1, "after": 2},
    ]
    assert places() == [(1, "team-b", 1.0), (2, "team-a", 0.75)]
    shown = typed("benchmark", "show", "league")
    assert [version["number"] for version in shown["versions"]] == [1, 2]
    assert [(row["team"], row["number"], row["label"], row["error"]) for row in shown["submissions"]] == [
        ("team-a", 1, "first try", None),
        ("team-b", 1, None, None),
        ("team-b", 2, None, "MISMATCH"),
    ]
    own = typed("benchmark", "leaderboard", "league", "--team", "team-b")["submissions"]
    assert [(each["number"], each["score"], each["error"]) for each in own] == [(1, 1.0, None), (2, None, "MISMATCH")]
    assert [found["name"] for found in typed("benchmark", "list")["benchmarks"]] == ["league"]


def test_a_withheld_part_is_shown_to_organisers_and_released(typed: Any, here: Path) -> None:
    truth = "id,label,Usage\na,x,Public\nb,y,Public\nc,x,Private\nd,y,Private\n"
    write_benchmark(here, "league", truth=truth, withheld={"column": "Usage"})
    (here / "a.csv").write_text(rows("xyyx"))
    assert typed("evaluate", "league", "--predictions", "a.csv")["summary"]["score"] == 1.0
    assert typed("benchmark", "validate", "league")["withheld"] == {"public": 2, "private": 2}
    assert typed("benchmark", "leaderboard", "league", "--private")["leaderboard"][0]["score"] == 0.0
    assert typed("benchmark", "show", "league")["released"] is False
    typed("benchmark", "release", "league")
    assert typed("benchmark", "show", "league")["released"] is True


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("evaluate", "none", "--predictions", "a.csv"), "BENCHMARK_NOT_FOUND", "benchmark.json"),
        (("evaluate", "league"), "INVALID_REQUEST", "Submit one of"),
        (("evaluate", "league", "dir", "--image", "x:1"), "INVALID_REQUEST", "got directory and image"),
        (("evaluate", "league", "--predictions", "a.csv", "--cmd", "x"), "INVALID_REQUEST", "--cmd"),
        (("evaluate", "league", "--predictions", "a.csv", "--team", "A B"), "INVALID_REQUEST", "a team's name"),
        (("evaluate", "league", "--predictions", "a.csv", "--wait"), "INVALID_REQUEST", "--wait goes with --remote"),
        (("evaluate", "league", "dir", "--remote"), "INVALID_REQUEST", "leave out --remote"),
        (("benchmark", "release", "league"), "INVALID_REQUEST", "withholds no part"),
        (("benchmark", "leaderboard", "league", "--private"), "INVALID_REQUEST", "withholds no part"),
        (("benchmark", "choose", "league", "team-a", "1"), "INVALID_REQUEST", "best submission"),
        (("benchmark", "leaderboard", "league", "--csv", "none/board.csv"), "INVALID_REQUEST", "none/board.csv"),
        (
            ("benchmark", "new", "other", "--from", "league", "--task", "regression"),
            "INVALID_REQUEST",
            "--task or --from",
        ),
        (("rescore", "none"), "BENCHMARK_NOT_FOUND", "none"),
        (("benchmark", "vaildate", "league"), "INVALID_REQUEST", "did you mean 'validate'"),
    ],
)
def test_what_is_typed_wrong_is_told(typed: Any, here: Path, words: tuple[str, ...], code: str, said: str) -> None:
    write_benchmark(here, "league")
    (here / "a.csv").write_text(rows("xyxy"))
    error = typed(*words, code=2)
    assert error["code"] == code and said in error["message"]
    assert not (here / "league" / "submissions").exists() or code == "INVALID_REQUEST"


def test_a_closed_phase_is_told_with_the_time_of_the_next_one(typed: Any, here: Path) -> None:
    folder = write_benchmark(here, "league")
    change_spec(folder, phases=[{"name": "final", "open": "2999-01-01T00:00:00Z"}])
    (here / "a.csv").write_text(rows("xyxy"))
    error = typed("evaluate", "league", "--predictions", "a.csv", code=2)
    assert error["code"] == "PHASE_CLOSED" and "2999-01-01 00:00 UTC" in error["message"]


@pytest.mark.slow
def test_on_a_terminal_a_person_reads(here: Path) -> None:
    write_benchmark(here, "league")
    (here / "a.csv").write_text(rows("xyxx"))
    code, shown = in_terminal("evaluate", "league", "--predictions", "a.csv", "--team", "team-a")
    assert code == 0 and "submission 1 of team-a" in shown and "0.75" in shown and '"status"' not in shown
    for words, said in {
        ("benchmark", "leaderboard", "league"): ("team-a", "0.75"),
        ("benchmark", "show", "league"): ("version 1", "predictions"),
        ("benchmark", "validate", "league"): ("league is valid: version 1, 1 submissions",),
        ("benchmark", "list"): ("league", "classification_accuracy"),
        ("rescore", "league"): ("1 current",),
    }.items():
        code, shown = in_terminal(*words)
        assert code == 0 and all(word in shown for word in said), (words, shown)
        assert "Traceback" not in shown
