"""The flow ``evaluate`` at a real Prefect server: a submission is made once, run, scored, and told of there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.benchmark import BenchmarkFolder

from ..support.benchmarks import rows, write_benchmark
from ..support.prefect_server import PrefectServer, server
from ..support.workspaces import predicting, result_of

__all__ = ["server"]

pytestmark = [
    pytest.mark.prefect,
    # Prefect leaves sockets and event loops of its background services to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchmarkFolder:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DEFAULT", "process")
    return write_benchmark(tmp_path, backends=["process"])


def run(folder: BenchmarkFolder, kind: str, source: Path, **more: Any) -> Any:
    from autoscorer.flows.evaluate import evaluate

    return evaluate(str(folder.root), "team-a", kind, str(source), return_state=True, **more)  # type: ignore[call-overload]


def test_a_model_is_run_and_scored(server: PrefectServer, folder: BenchmarkFolder, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "Dockerfile").write_text("FROM scratch\n")
    (model / "predict.py").write_text(predicting(rows("xyxx")))
    state = run(folder, "dockerfile", model, cmd="python predict.py", label="first")
    assert state.is_completed(), state.message
    assert state.result()["summary"]["score"] == 0.75
    (root,) = folder.submissions()
    about = json.loads((root / "submission.json").read_text())
    assert (about["team"], about["label"]) == ("team-a", "first")
    assert result_of(root)["versioning"]["flow_run_id"] == about["flow_run_id"] == str(state.state_details.flow_run_id)
    found = server.call("GET", f"/flow_runs/{about['flow_run_id']}")
    assert found["name"] == "flowers team-a"
    artifacts = server.call(
        "POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [about["flow_run_id"]]}}}
    )
    (board,) = [each for each in artifacts if each["key"].endswith("-leaderboard")]
    assert "| 1 | team-a | 0.75 |" in board["data"] and board["key"].startswith("flowers-")


def test_a_second_attempt_goes_on_with_the_submission_of_the_first(
    server: PrefectServer, folder: BenchmarkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.tasks.benchmarks.adding import Source, add_submission, submission_of_run, workspace_of

    (tmp_path / "pred.csv").write_text(rows("xyxx"))
    source = Source("predictions", tmp_path / "pred.csv")
    add_submission(folder, "team-a", source, flow_run_id="another")
    made = add_submission(folder, "team-a", source, flow_run_id="this-one")
    add_submission(folder, "team-a", source)
    assert submission_of_run(folder.root, "team-a", "this-one") == made
    given = {"benchmark": str(folder.root), "team": "team-a"}
    assert workspace_of(given, "this-one") == str(made)
    assert workspace_of(given, "none") is None and workspace_of({"workspaces": ["a"]}, "this-one") is None
    assert workspace_of({"workspace": "/a"}, "this-one") == "/a" and workspace_of(None, "this-one") is None
    assert workspace_of({**given, "team": "../x"}, "this-one") is None
    monkeypatch.setattr("autoscorer.flows.evaluate.submission_of_run", lambda *_: made)
    state = run(folder, "predictions", tmp_path / "pred.csv")
    assert state.is_completed() and len([*folder.submissions()]) == 3
    assert result_of(made)["summary"]["score"] == 0.75


def test_what_can_not_be_submitted_fails_with_its_code(
    server: PrefectServer, folder: BenchmarkFolder, tmp_path: Path
) -> None:
    state = run(folder, "predictions", tmp_path / "none.csv")
    assert state.is_failed() and "MISSING_FILE" in str(state.message)
    assert [*folder.submissions()] == []
