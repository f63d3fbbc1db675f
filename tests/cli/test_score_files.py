"""Two files are scored with nothing around them: by a command, and from Python with files or pandas frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import autoscorer
import pandas as pd
import pytest
from autoscorer.cli.main import main
from autoscorer.tasks.score import score_workspace

from ..support.terminal import in_terminal
from ..support.workspaces import write_workspace

TRUTH, PREDICTIONS = "id,label\na,x\nb,y\nc,x\n", "id,label\na,x\nb,x\nc,x\n"
BY = ("--scorer", "classification_f1")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The ground truth, and predictions whose name nobody would choose for a variable."""
    truth, predictions = tmp_path / "labels.csv", tmp_path / '预测 "x" (1).csv'
    truth.write_text(TRUTH)
    predictions.write_text(PREDICTIONS)
    return str(truth), str(predictions)


def score(
    capsys: pytest.CaptureFixture[str], truth: str, predictions: str, *more: str, code: int = 0
) -> dict[str, Any]:
    assert main(["score", "--truth", truth, "--predictions", predictions, *more]) == code
    envelope = json.loads(capsys.readouterr().out)
    return dict(envelope["error" if code else "data"])


def test_the_number_is_that_of_a_workspace(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = score(capsys, *files, *BY, "--param", "pass_threshold=0.4")
    params = {"pass_threshold": 0.4}
    space = write_workspace(tmp_path, "space", truth=TRUTH, pred=PREDICTIONS, params=params)
    expected = score_workspace(space).to_dict()
    assert result["metrics"] == expected["metrics"] and result["intervals"] == expected["intervals"]
    assert result["summary"] == expected["summary"] and result["summary"]["pass"] is True
    for name in ("ground_truth_sha256", "predictions_sha256", "scorer_sha256"):
        assert result["versioning"][name] == expected["versioning"][name]
    # Where nothing is kept, nothing is told of that would be there.
    assert result["artifacts"] == {} and result["job_id"] == '预测 "x" (1)'


def test_nothing_of_it_stays(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    score(capsys, *files, *BY)
    score(capsys, *files, "--scorer", "nobody's", code=1)
    assert list(scratch.iterdir()) == []


def test_what_is_asked_for_stays_and_is_a_workspace(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "kept"
    first = score(capsys, *files, *BY, "--out", str(out))
    assert {"report", "per_class"} <= set(first["artifacts"])
    assert (out / first["artifacts"]["report"]["path"]).is_file()
    assert main(["score", str(out)]) == 0
    again = json.loads(capsys.readouterr().out)["data"]
    assert again["metrics"] == first["metrics"]
    # It may be somebody's work by now.
    error = score(capsys, *files, *BY, "--out", str(out), code=2)
    assert "not empty" in error["message"] and f"autoscorer score {out}" in error["message"]


@pytest.mark.parametrize(
    ("truth", "predictions", "code", "named"),
    [
        (TRUTH, "id,lbl\na,x\n", "BAD_FORMAT", '预测 "x" (1).csv, line 1'),
        ("id,label\na\n", PREDICTIONS, None, "labels.csv, line 2"),
        (TRUTH, "id,label\na,x\n", "MISMATCH", 'labels.csv and 预测 "x" (1).csv'),
        ("", PREDICTIONS, "BAD_FORMAT", "labels.csv"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_own_name(
    files: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    truth: str,
    predictions: str,
    code: str | None,
    named: str,
) -> None:
    Path(files[0]).write_text(truth)
    Path(files[1]).write_text(predictions)
    error = score(capsys, *files, *BY, code=1)
    assert named in error["message"] and code in (None, error["code"])
    told = json.dumps(error, ensure_ascii=False)
    assert "gt.csv" not in told and "pred.csv" not in told and "autoscorer-score-" not in told


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "Give a WORKSPACE, or --truth FILE and --predictions FILE"),
        (["--truth", "t.csv"], 2, "--predictions FILE"),
        (["--truth", "t.csv", "--predictions", "t.csv"], 2, "--scorer ID"),
        (["somewhere", "--truth", "t.csv"], 2, "--truth, which is for two files"),
        (["--truth", "absent.csv", "--predictions", "t.csv", *BY], 1, "'absent.csv' does not exist"),
        (["--truth", "t.csv", "--predictions", ".", *BY], 1, "'.' is a folder"),
        (["--truth", "t.csv", "--predictions", "t.xlsx", *BY], 2, "expected one of .csv, .json, .jsonl, .parquet"),
        (["--truth", "t.csv", "--predictions", "t.csv", *BY, "--out", "t.csv/x"], 2, "can't be made"),
    ],
)
def test_what_can_not_be_scored_is_said(
    arguments: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("t.csv", "t.xlsx"):
        Path(name).write_text(TRUTH)
    assert main(["score", *arguments]) == code
    assert told in json.loads(capsys.readouterr().out)["error"]["message"]


def test_custom_scorers_score_files_too(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.py").write_text(
        "from autoscorer import BaseScorer, Result, register\n"
        "@register('mine')\n"
        "class Mine(BaseScorer):\n"
        "    name, version = 'mine', '1'\n"
        "    def score(self, workspace, params):\n"
        "        return Result(summary={'score': float(len((workspace / 'input' / 'gt.csv').read_text()))})\n"
    )
    result = score(capsys, *files, "--scorer", "mine", "--scorers", str(tmp_path / "mine"))
    assert result["summary"]["score"] == len(TRUTH)


def test_on_a_terminal_a_person_reads_the_score(files: tuple[str, str]) -> None:
    code, shown = in_terminal("score", "--truth", files[0], "--predictions", files[1], *BY)
    assert code == 0 and "f1_macro" in shown and "0.4" in shown and "report:" not in shown


def test_from_python_with_files(files: tuple[str, str]) -> None:
    result = autoscorer.score(*files, scorer="classification_f1")
    assert result.error is None and result.summary.score == pytest.approx(0.4)


def test_from_python_with_frames() -> None:
    truth = pd.DataFrame({"id": [1, 2, 3], "value": [0.1, 1e-300, 2 / 3]})
    found = autoscorer.score(truth, truth.iloc[::-1], scorer="regression_rmse")
    assert found.error is None and found.summary.score == 0.0
    error = autoscorer.score(truth, truth.head(2), scorer="regression_rmse").error
    assert error is not None and error.code == "MISMATCH" and "predictions.csv" in error.message


def test_nothing_of_the_service_is_imported_for_it(files: tuple[str, str]) -> None:
    program = (
        "import sys; from autoscorer.cli.main import main; "
        f"main(['score', '--truth', {files[0]!r}, '--predictions', {files[1]!r}, '--scorer', 'classification_f1']); "
        "sys.exit(any(name in sys.modules for name in ('prefect', 'fastapi', 'sqlalchemy', 'docker')))"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, env=os.environ).returncode == 0


def test_a_truth_that_is_called_as_predictions_are_keeps_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    truth, predictions = tmp_path / "pred.csv", tmp_path / "gt.csv"
    truth.write_text("id,label\na\n")
    predictions.write_text(PREDICTIONS)
    assert score(capsys, str(truth), str(predictions), *BY, code=1)["message"].startswith("pred.csv, line 2")
