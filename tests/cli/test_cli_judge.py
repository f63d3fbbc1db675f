"""``autoscorer judge …``, through the real command, with a stub of a judge's server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main

from ..scorers.rag.test_judged_metrics import configured, judging
from ..support.stub_judge import StubJudge
from ..support.stub_judge import stub as stub
from ..support.terminal import in_terminal

Run = Callable[..., dict[str, Any]]

# The judge accepts the first three; people the first two and the last.
SAID = ["A is one.", "B is two.", "C is three.", "D is four.", "E is five."]
LABELS = [True, True, False, False, True]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["judge", *map(str, arguments)]) == code, capsys.readouterr()
        envelope: dict[str, Any] = json.loads(capsys.readouterr().out)
        found: dict[str, Any] = envelope["error"] if code else envelope["data"]
        return found

    return run


@pytest.fixture
def labels(home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, tmp_path: Path) -> Path:
    configured(home, monkeypatch, stub)
    stub.answer = judging(set(SAID[:3]))
    path = tmp_path / "labels.jsonl"
    rows = [
        {
            "sample": {"question": "What?", "answer": answer, "contexts": ["one"]},
            "metric": "faithfulness",
            "label": label,
        }
        for answer, label in zip(SAID, LABELS, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_judge_is_calibrated_and_listed(run: Run, labels: Path, home: Path, stub: StubJudge) -> None:
    assert run("calibrations") == {"calibrations": [], "unreadable": []}
    found = run("calibrate", labels, "--repeats", "2")
    [one] = found["calibrations"]
    file = Path(one.pop("file"))
    assert file.parent == home / "calibrations" and "pairs" not in one
    assert len(json.loads(file.read_text())["pairs"]) == 5
    agreement = one["agreement"]
    assert (agreement["n"], agreement["percent"]) == (5, 3 / 5)
    assert (agreement["sensitivity"]["hits"], agreement["sensitivity"]["of"]) == (2, 3)
    assert (one["stability"]["repeats"], one["stability"]["unchanged"]) == (2, 1.0)
    assert one["holds_for"]["judges"] == [{"profile": "one", "model": "large", "votes": 1, "temperature": 0.0}]
    assert found["notes"] == ["faithfulness: 5 labels say little of a judge; label 30 answers at least, better 100."]
    assert run("calibrations") == {"calibrations": [one], "unreadable": []}
    assert (
        found["spent"]["calls"] == stub.calls == 20 and found["spent"]["tokens"] > 0 and found["spent"]["cost"] is None
    )
    assert run("calibrate", labels, "--repeats", "2")["spent"] == {"calls": 0, "tokens": 0, "cost": 0.0}
    [one] = run("calibrations")["calibrations"]
    # Another judge, number of votes and threshold stand beside it; the same takes its place.
    [other] = run("calibrate", labels, "--judge", "small", "--judge", "one", "--votes", "3", "--threshold", "1")[
        "calibrations"
    ]
    assert [judge["model"] for judge in other["holds_for"]["judges"]] == ["small", "large"]
    assert {judge["votes"] for judge in other["holds_for"]["judges"]} == {3} and other["threshold"] == 1
    run("calibrate", labels)
    assert len(run("calibrations")["calibrations"]) == 2
    (home / "calibrations" / "broken.json").write_text("{")
    assert run("calibrations")["unreadable"] == ["broken.json"]


def test_answers_of_a_workspace_are_named_by_their_ids(run: Run, labels: Path, tmp_path: Path) -> None:
    root = tmp_path / "answers"
    (root / "input").mkdir(parents=True)
    (root / "output").mkdir()
    (root / "meta.json").write_text(json.dumps({"task_type": "rag", "scorer": "rag"}))
    asked = [{"id": number, "question": "What?", "contexts": ["one"]} for number in range(5)]
    (root / "input/gt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    said = [{"id": number, "answer": answer} for number, answer in enumerate(SAID)]
    (root / "output/pred.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    rows = [{"sample": {"id": n}, "metric": "faithfulness", "label": label} for n, label in enumerate(LABELS)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [found] = run("calibrate", labels, "--workspace", root)["calibrations"]
    assert found["agreement"]["percent"] == 3 / 5
    assert "say whose it is with --workspace" in run("calibrate", labels, code=2)["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["calibrate"], 2, "LABELS"),
        (["calibrate", "none.jsonl"], 2, "can't be read"),
        (["calibrate", "LABELS", "--judge", "nobody"], 1, "'nobody' is no profile here"),
        (["calibrate", "LABELS", "--threshold", "1.5"], 2, "expects a number above 0 and up to 1"),
        (["calibrate", "LABELS", "--threshold", "nan"], 2, "expects a number above 0 and up to 1"),
        (["calibrate", "LABELS", "--repeats", "0"], 2, "expects a number from 1 on"),
        (["calibrate", "LABELS", "--workspace", "nowhere"], 2, "nowhere"),
        (["calibrat"], 2, "did you mean 'calibrate'"),
    ],
)
def test_what_is_wrong_is_told_with_an_exit_code(
    run: Run, labels: Path, arguments: list[str], code: int, told: str
) -> None:
    given = [str(labels) if each == "LABELS" else each for each in arguments]
    assert told in run(*given, code=code)["message"]


def test_a_judge_that_can_not_be_asked_exits_with_its_error_and_keeps_nothing(
    run: Run, labels: Path, home: Path, stub: StubJudge
) -> None:
    stub.instead = (401, {"error": {"message": "no"}})
    assert run("calibrate", labels, code=3)["code"] == "JUDGE_ERROR"
    assert not (home / "calibrations").exists()


@pytest.mark.slow
def test_on_a_terminal_a_person_reads_how_far_they_agree(labels: Path) -> None:
    code, shown = in_terminal("judge", "calibrate", str(labels), "--repeats", "2")
    assert code == 0
    for text in (
        "faithfulness",
        "one: large",
        "Cohen's κ",
        "0.667",
        "3 that people accept",
        "verdict unchanged",
        "note:",
        "asked 20 times",
        "judging",
    ):
        assert text in shown, shown
    code, shown = in_terminal("judge", "calibrations")
    assert code == 0 and "60.0%" in shown and "one: large" in shown
