"""Flows and tasks at a real Prefect server: what it records, what is retried, what a failure looks like there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.workspace import Workspace

from ..support.opens import counting_opens
from ..support.prefect_server import Gate, PrefectServer, eventually, server
from ..support.workspaces import result_of

__all__ = ["server"]

pytestmark = [
    pytest.mark.prefect,
    # Prefect leaves sockets and event loops of its background services to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

TRUTH = "id,label\n1,cat\n2,dog\n3,cat\n4,dog\n"
GOOD = """
import os, pathlib
print("loading <b>weights</b>")
root = pathlib.Path(os.environ["AUTOSCORER_WORKSPACE"])
(root / "output" / "pred.csv").write_text("id,label\\n1,cat\\n2,dog\\n3,dog\\n4,dog\\n")
print("wrote predictions")
"""
BAD = """
import sys
print("no *weights* here")
sys.exit(3)
"""
Model = Callable[..., Path]


@pytest.fixture
def model(make_workspace: Callable[..., Path]) -> Model:
    """A workspace whose model is a Python program."""

    def make(name: str, code: str, **meta: Any) -> Path:
        meta = {"container": {"cmd": ["python", "predict.py"]}, "timeout": 120, **meta}
        root = make_workspace(name, truth=TRUTH, **meta)
        (root / "predict.py").write_text(code)
        return root

    return make


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: how long they wait is not what is tested."""
    from autoscorer.tasks.prefect.tasks import pipeline_task, run_task

    for task in (pipeline_task, run_task):
        monkeypatch.setattr(task, "retry_delay_seconds", [0.05, 0.05])


def key_of(root: Path, what: str) -> str:
    from autoscorer.flows.artifacts import artifact_key

    return artifact_key(root, what)


def test_pipeline_returns_the_result_and_is_recorded_step_by_step(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.pipeline import pipeline

    root = model("whole", GOOD, params={"pass_threshold": 0.5})
    with counting_opens(root / "meta.json") as opened:
        result = pipeline(str(root), backend="process")
        assert opened() == 1, "the steps go by the same meta.json, read once"
    assert result == result_of(root) and not (root / "output" / "history").exists()
    assert result["metrics"]["accuracy"] == 0.75 and result["error"] is None

    run = server.flow_run("whole")
    assert (run["state"]["type"], run["name"]) == ("COMPLETED", "whole")
    assert run["state"]["message"].startswith("score 0.7") and "pass" in run["state"]["message"]
    tasks = server.task_runs(run["id"], 3)
    assert sorted(tasks) == ["run whole", "score whole", "validate whole"]
    for name, task in tasks.items():
        assert set(task["tags"]) == {"autoscorer", name.split()[0]}
        assert (task["state"]["type"], task["run_count"]) == ("COMPLETED", 1)
    log = server.logs(run["id"], "wrote predictions")
    assert "model | loading <b>weights</b>" in log
    assert log.index("stage validate") < log.index("stage run") < log.index("stage collect") < log.index("stage score")


def test_links_lead_to_the_services_page_where_one_is_configured(
    server: PrefectServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.flows.pipeline import pipeline

    root = model("Linked & shown", GOOD)
    monkeypatch.setenv("AUTOSCORER_API_URL", "https://scores.example.org/")
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(root.parent))
    pipeline(str(root), backend="process")
    (run,) = server.flow_runs("Linked & shown")
    artifacts = server.artifacts(run["id"])
    link = artifacts[key_of(root, "report")]["data"]
    assert "https://scores.example.org/ui/workspace/Linked%20%26%20shown" in link and str(root) not in link
    assert f"https://scores.example.org/ui/flow-run/{run['id']}" in artifacts[key_of(root, "record")]["data"]


def test_artifacts_show_the_result_and_follow_a_workspace(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.pipeline import pipeline

    root = model("Shown Again", GOOD)
    first, second = (pipeline(str(root), backend="process") for _ in range(2))
    runs = server.flow_runs("Shown Again")
    assert len(runs) == 2
    for run in runs:
        assert set(server.artifacts(run["id"])) == {key_of(root, what) for what in ("result", "metrics", "report")}
    artifacts = server.artifacts(runs[0]["id"])
    text = artifacts[key_of(root, "result")]["data"]
    for part in ("score 0.7", "accuracy", "data:image/svg+xml;base64,", second["versioning"]["ground_truth_sha256"]):
        assert part in text
    rows = json.loads(artifacts[key_of(root, "metrics")]["data"])
    assert {row["metric"]: row["value"] for row in rows} == second["metrics"]
    assert (root / "output/artifacts/report.html").as_uri() in artifacts[key_of(root, "report")]["data"]
    versions = server.call(
        "POST", "/artifacts/filter", {"artifacts": {"key": {"any_": [key_of(root, "result")]}}, "sort": "CREATED_DESC"}
    )
    assert len(versions) == 2 and first["summary"] == second["summary"]


def test_failed_submission_is_failed_with_its_code_and_is_not_retried(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.pipeline import pipeline
    from autoscorer.tasks.results.failures import ScoringFailed

    root = model("broken", BAD)
    with pytest.raises(ScoringFailed, match="CONTAINER_FAILED") as caught:
        pipeline(str(root), backend="process")
    assert caught.value.result == result_of(root)
    assert result_of(root)["error"]["code"] == "CONTAINER_FAILED"

    run = server.flow_run("broken")
    assert run["state"]["type"] == "FAILED"
    assert run["state"]["message"].startswith("CONTAINER_FAILED: The model exited with code 3")
    tasks = server.task_runs(run["id"], 2)
    assert tasks["validate broken"]["state"]["type"] == "COMPLETED"
    failed = tasks["run broken"]
    assert (failed["state"]["type"], failed["run_count"]) == ("FAILED", 1)
    assert failed["state"]["message"] == run["state"]["message"]
    log = server.logs(run["id"], "no *weights* here")
    assert "Traceback" not in log
    text = server.artifacts(run["id"])[key_of(root, "result")]["data"]
    assert "failed with CONTAINER_FAILED" in text and "    no *weights* here" in text


def test_invalid_workspace_fails_at_validation_with_every_problem(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.pipeline import pipeline

    root = model("invalid", GOOD, scorer="classification_f2", timeout=10**9)
    state = pipeline(str(root), backend="process", return_state=True)
    assert state.is_failed()
    assert {"SCORER_NOT_FOUND", "INVALID_META"} == {
        problem["code"] for problem in result_of(root)["error"]["details"]["problems"]
    }
    assert list(server.task_runs(server.flow_run("invalid")["id"], 1)) == ["validate invalid"]


@pytest.mark.usefixtures("no_waiting")
def test_infrastructure_failure_is_retried_and_counted(
    server: PrefectServer, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.flows.pipeline import run_only

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/dead.sock")
    root = model("engineless", GOOD, container={"image": "any"})
    state = run_only(str(root), backend="docker", return_state=True)
    assert state.is_failed() and state.message is not None and state.message.startswith("BACKEND_UNAVAILABLE")
    assert result_of(root)["error"]["code"] == "BACKEND_UNAVAILABLE"
    task = server.task_runs(server.flow_run("engineless")["id"], 1)["run engineless"]
    assert (task["state"]["type"], task["run_count"]) == ("FAILED", 3)


def test_a_workspace_that_is_held_is_left_alone(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.pipeline import pipeline

    root = model("held", GOOD)
    with Workspace(root).lock():
        state = pipeline(str(root), backend="process", return_state=True)
    assert state.is_failed() and str(state.message).startswith("CONFLICT")
    assert not (root / "output").exists()
    missing = pipeline(str(root / "nowhere"), return_state=True)
    assert missing.is_failed() and str(missing.message).startswith("WORKSPACE_NOT_FOUND")


def test_the_pipeline_holds_its_workspace_from_beginning_to_end(server: PrefectServer, model: Model) -> None:
    from autoscorer.executors.base import SilentObserver
    from autoscorer.flows.pipeline import pipeline
    from autoscorer.tasks.prefect.context import RunContext, use

    root = model("holding", GOOD)
    seen = []

    class Intruder(SilentObserver):
        def stage(self, name: str, detail: str = "") -> None:
            try:
                with Workspace(root).lock():
                    seen.append((name, "free"))
            except Exception as error:
                seen.append((name, getattr(error, "code", None)))

    with use(RunContext(observer=Intruder())):
        pipeline(str(root), backend="process")
    assert [name for name, _ in seen] == ["validate", "run", "collect", "score"]
    assert {state for _, state in seen} == {"CONFLICT"}


def test_run_and_score_as_flows_of_their_own(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.pipeline import run_only, score_only

    root = model("halves", GOOD)
    report = run_only(str(root), backend="process")
    assert report["error"] is None and report == {
        key: value for key, value in json.loads((root / "logs/run_info.json").read_text()).items() if key in report
    }
    result = score_only(str(root), scorer="classification_accuracy", params={"pass_threshold": 0.9})
    assert (result["summary"]["score"], result["summary"]["pass"]) == (0.75, False)
    score_run, run_run = server.flow_runs("halves")
    assert list(server.task_runs(score_run["id"], 1)) == ["score halves"]
    assert list(server.task_runs(run_run["id"], 1)) == ["run halves"]
    assert run_run["state"]["message"].startswith("The model ran for")


def test_custom_scorers_of_the_configuration_are_known_to_a_flow_and_its_timeout_ends_them(
    server: PrefectServer, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.flows.pipeline import score_only
    from autoscorer.tasks.prefect.tasks import score_task

    folder = tmp_path / "scorers"
    folder.mkdir()
    (folder / "endless.py").write_text(
        "import time\n"
        "from autoscorer.scorers.base import BaseScorer\n"
        "from autoscorer.scorers.registry import register\n"
        "@register('endless')\n"
        "class Endless(BaseScorer):\n"
        "    name, version = 'endless', '1.0.0'\n"
        "    def score(self, workspace, params):\n"
        "        time.sleep(600)\n"
    )
    monkeypatch.setenv("AUTOSCORER_SCORERS__DIRS", json.dumps([str(folder)]))
    monkeypatch.setattr(score_task, "timeout_seconds", 1.0)
    root = model("endless", GOOD, scorer="endless")
    state = score_only(str(root), return_state=True)
    assert state.is_failed() and str(state.message).startswith("SCORER_ERROR")
    assert "exceeded timeout" in result_of(root)["error"]["message"]
    assert server.task_runs(server.flow_run("endless")["id"], 1)["score endless"]["state"]["name"] == "TimedOut"


def test_an_artifact_that_prefect_refuses_costs_the_run_nothing(
    server: PrefectServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.flows import artifacts
    from autoscorer.flows.pipeline import pipeline

    monkeypatch.setattr(artifacts, "artifact_key", lambda path, what: "Not A Key!")
    root = model("keyless", GOOD)
    assert pipeline(str(root), backend="process") == result_of(root)
    assert "could not be stored in Prefect" in server.logs(server.flow_run("keyless")["id"], "could not be stored")


def test_parameters_are_described_and_checked(server: PrefectServer, model: Model) -> None:
    from autoscorer.flows.batch import batch
    from autoscorer.flows.pipeline import pipeline, run_only, score_only
    from prefect.exceptions import ParameterTypeError

    for flow in (pipeline, run_only, score_only, batch):
        for name, schema in flow.parameters.properties.items():
            assert schema["title"] and schema["description"], f"{flow.name}.{name}"
    backend = pipeline.parameters.properties["backend"]
    assert {"enum": ["auto", "bubblewrap", "docker", "kubernetes", "process"], "type": "string"} in backend["anyOf"]
    with pytest.raises(ParameterTypeError):
        pipeline(str(model("unstarted", GOOD)), backend="podman")


# --- many workspaces -------------------------------------------------------------------------------------


def test_batch_reports_every_workspace_and_stops_for_none(
    server: PrefectServer, model: Model, make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    from autoscorer.flows.batch import batch

    good, bad = model("round/a-good", GOOD), model("round/b-bad", BAD)
    better = model("round/c-better", GOOD.replace("3,dog", "3,cat"))
    given = [str(tmp_path / "round"), str(good), str(tmp_path / "absent"), str(tmp_path / "none-*")]
    summary = batch(given, backend="process")
    assert summary == json.loads(json.dumps(summary))
    outcomes = summary["outcomes"]
    assert [Path(o["workspace"]).name for o in outcomes] == [
        "a-good", "b-bad", "c-better", "a-good", "absent", "none-*",
    ]  # fmt: skip
    assert [o["state"] for o in outcomes] == ["completed", "failed", "completed", "duplicate", "failed", "failed"]
    assert outcomes[3]["duplicate_of"] == 0
    assert [o["error"] and o["error"]["code"] for o in outcomes] == [
        None, "CONTAINER_FAILED", None, None, "WORKSPACE_NOT_FOUND", "WORKSPACE_NOT_FOUND",
    ]  # fmt: skip
    for root, outcome in ((good, outcomes[0]), (better, outcomes[2])):
        assert outcome["score"] == result_of(root)["summary"]["score"]
    assert result_of(bad)["error"]["code"] == "CONTAINER_FAILED"
    assert (summary["total"], summary["completed"], summary["failed"], summary["duplicates"]) == (6, 2, 3, 1)

    run = server.flow_run("pipeline round and 3 more")
    assert run["state"]["type"] == "COMPLETED"
    assert run["state"]["message"] == "6 workspaces: 2 scored, 3 failed, 1 named twice"
    tasks = server.task_runs(run["id"], 3)
    assert tasks["pipeline b-bad"]["state"]["type"] == "FAILED"
    artifacts = {key.rsplit("-", 1)[1]: item for key, item in server.artifacts(run["id"]).items()}
    rows = json.loads(artifacts["outcomes"]["data"])
    assert [Path(row["workspace"]).name for row in rows] == [
        "c-better", "a-good", "absent", "none-*", "b-bad", "a-good",
    ]  # fmt: skip
    assert [row["place"] for row in rows] == [1, 2, None, None, None, None]
    assert rows[4]["error"] == "CONTAINER_FAILED"
    assert "CONTAINER\\_FAILED: The model exited" in artifacts["summary"]["data"].replace("\\:", ":")


@pytest.fixture
def crowd(model: Model, tmp_path: Path) -> Callable[[], int]:
    """Three workspaces in ``many``; and how many of their models were at work at the same time."""
    spans = tmp_path / "spans"
    spans.mkdir()
    code = GOOD + (
        "import time\n"
        "begin = time.monotonic(); time.sleep(0.3)\n"
        f"pathlib.Path({str(spans)!r}, str(os.getpid())).write_text(f'{{begin}} {{time.monotonic()}}')\n"
    )
    for number in range(3):
        model(f"many/{number}", code)

    def most() -> int:
        times = [tuple(map(float, file.read_text().split())) for file in spans.iterdir()]
        assert len(times) == 3
        return max(sum(begin <= moment < end for begin, end in times) for moment, _ in times)

    return most


def test_batch_works_on_no_more_than_asked_for_at_a_time(
    server: PrefectServer, crowd: Callable[[], int], tmp_path: Path
) -> None:
    from autoscorer.flows.batch import batch

    assert batch([str(tmp_path / "many")], backend="process", concurrency=2)["completed"] == 3
    assert crowd() <= 2


def test_a_limit_on_the_tag_run_holds_for_a_batch(
    server: PrefectServer, crowd: Callable[[], int], tmp_path: Path
) -> None:
    code = f"from autoscorer.flows.batch import batch; batch([{str(tmp_path / 'many')!r}], backend='process')"
    server.call("POST", "/concurrency_limits/", {"tag": "run", "concurrency_limit": 1})
    try:
        # In a process of its own: Prefect remembers for a few seconds that there was no limit.
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)
    finally:
        server.call("DELETE", "/concurrency_limits/tag/run")
    assert crowd() == 1


def test_batch_scores_what_is_there(server: PrefectServer, make_workspace: Callable[..., Path], tmp_path: Path) -> None:
    from autoscorer.flows.batch import batch

    for number, guess in enumerate(["cat", "dog"]):
        make_workspace(f"scored/{number}", truth=TRUTH, pred=TRUTH.replace("1,cat", f"1,{guess}"))
    make_workspace("scored/2", truth=TRUTH)
    summary = batch([str(tmp_path / "scored/*")], action="score", scorer="classification_accuracy")
    assert [o["score"] for o in summary["outcomes"]] == [1.0, 0.75, None]
    assert summary["outcomes"][2]["error"]["code"] == "MISSING_FILE"


# --- the command line ------------------------------------------------------------------------------------


def cli(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "autoscorer", "pipeline", str(root), "--track", "--json", *options]


@pytest.fixture
def slow(model: Model) -> Iterator[tuple[Path, Path]]:
    """A workspace whose model prints ``ready``, then waits for a file; and that file."""
    root = model("slow", "")
    go = root.parent / "go"
    (root / "predict.py").write_text(
        "import pathlib, time\n"
        "print('ready', flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
        "for n in range(2000): print('line', n)\n" + GOOD
    )
    yield root, go
    go.touch()


def started(root: Path, *options: str) -> subprocess.Popen[str]:
    """A tracked run whose model is at work."""
    process = subprocess.Popen(cli(root, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = root / "logs" / "container.log"

    def ready() -> bool:
        assert process.poll() is None, process.communicate()
        return log.is_file() and "ready" in log.read_text()

    eventually(ready)
    return process


def test_track_answers_like_the_plain_command_and_names_its_run(server: PrefectServer, model: Model) -> None:
    good, bad = model("tracked", GOOD), model("tracked-bad", BAD)
    done = subprocess.run(cli(good, "--backend", "process"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"] == result_of(good)
    run = server.flow_run("tracked")
    assert f"/runs/flow-run/{run['id']}" in done.stderr
    assert run["state"]["type"] == "COMPLETED" and set(run["tags"]) == {"autoscorer", "cli"}
    assert run["parameters"]["workspace"] == str(good)

    done = subprocess.run(cli(bad, "--backend", "process"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "CONTAINER_FAILED"
    assert server.flow_run("tracked-bad")["state"]["type"] == "FAILED"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:1/api"], ids=["none configured", "none there"])
def test_track_without_a_server_says_so_and_starts_none(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    if address:
        monkeypatch.setenv("AUTOSCORER_PREFECT__API_URL", address)
    root = model("untracked", GOOD)
    done = subprocess.run(cli(root, "--backend", "process"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "BACKEND_UNAVAILABLE" and "prefect server start" in error["message"]
    assert not (root / "output").exists()
    assert not list((tmp_path / "prefect").glob("*.db"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_cancels_a_tracked_run(server: PrefectServer, slow: tuple[Path, Path], number: signal.Signals) -> None:
    root, _ = slow
    process = started(root, "--backend", "process")
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert json.loads(out)["error"]["code"] == "CANCELLED" == result_of(root)["error"]["code"]
    run = server.flow_run("slow")
    assert run["state"]["type"] == "CANCELLED" and "CANCELLED" in run["state"]["message"]
    assert f"/{run['id']}" in err
    assert not model_processes(root)


def test_cancelling_at_the_server_ends_a_tracked_run(server: PrefectServer, slow: tuple[Path, Path]) -> None:
    root, _ = slow
    process = started(root, "--backend", "process")
    run = server.flow_run("slow")
    server.call("POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert json.loads(out)["error"]["code"] == "CANCELLED" == result_of(root)["error"]["code"]
    assert server.call("GET", f"/flow_runs/{run['id']}")["state"]["type"] == "CANCELLED"
    assert not model_processes(root)


def test_the_model_runs_on_while_the_server_stands_still(server: PrefectServer, slow: tuple[Path, Path]) -> None:
    root, go = slow
    process = started(root, "--backend", "process")
    info = root / "logs" / "run_info.json"
    with server.standing_still():
        go.touch()
        eventually(lambda: info.is_file() and json.loads(info.read_text())["ended"])
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["data"]["metrics"]["accuracy"] == 0.75
    run = server.flow_run("slow")
    assert run["state"]["type"] == "COMPLETED"
    log = server.logs(run["id"], "model | wrote predictions")
    assert "model | line 0\n" in log and "model | line 1999\n" in log


@pytest.fixture
def gate(server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Children reach the server through it, and give up on it sooner than Prefect does by itself."""
    made = Gate(server)
    monkeypatch.setenv("PREFECT_API_URL", made.api_url)
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    yield made
    made.cut()


@pytest.mark.slow
def test_the_work_is_done_when_the_server_goes_away(gate: Gate, slow: tuple[Path, Path]) -> None:
    root, go = slow
    process = started(root, "--backend", "process")
    gate.cut()
    go.touch()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["data"] == result_of(root)
    assert result_of(root)["metrics"]["accuracy"] == 0.75
    assert "could not be recorded" in err


@pytest.mark.slow
def test_a_batch_is_worked_through_when_the_server_goes_away(gate: Gate, slow: tuple[Path, Path], model: Model) -> None:
    first, go = slow
    second = model("then", GOOD)
    code = (
        "from autoscorer.flows.batch import batch\n"
        f"batch([{str(first)!r}, {str(second)!r}], backend='process', concurrency=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = first / "logs" / "container.log"
    eventually(lambda: log.is_file() and "ready" in log.read_text())
    gate.cut()
    go.touch()
    process.wait(300)
    assert [result_of(root)["metrics"]["accuracy"] for root in (first, second)] == [0.75, 0.75]


def model_processes(root: Path) -> list[str]:
    """Processes of a model that was staged below ``root``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(root).encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


# --- containers ------------------------------------------------------------------------------------------


@pytest.mark.docker
def test_a_tracked_run_that_was_killed_is_cleared_up_by_the_hook(
    server: PrefectServer, busybox: str, docker_client: Any, make_workspace: Callable[..., Path]
) -> None:
    from autoscorer.flows.hooks import clear_up
    from autoscorer.flows.pipeline import pipeline
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    root = make_workspace(
        "killed", container={"image": busybox, "cmd": ["sh", "-c", "echo ready; sleep 300"]}, timeout=200
    )
    process = started(root, "--backend", "docker")
    run_id = server.flow_run("killed")["id"]
    labelled = {"label": f"io.autoscorer.flow_run={run_id}"}
    assert len(docker_client.containers(filters=labelled)) == 1
    process.kill()
    process.communicate()
    assert len(docker_client.containers(filters=labelled)) == 1

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run_id)
    clear_up(pipeline, flow_run, Crashed(message="killed by the test"))
    assert docker_client.containers(all=True, filters=labelled) == []
    assert not [path for path in (root / ".autoscorer").iterdir() if path.name.startswith("run-")]
    assert "killed by the test" in result_of(root)["error"]["message"]


@pytest.mark.docker
def test_removing_by_label_takes_only_ours(server: PrefectServer, busybox: str, docker_client: Any) -> None:
    from autoscorer.core.config import load_settings
    from autoscorer.executors.reaper import remove_by_label

    def container(name: str, **labels: str) -> str:
        made = docker_client.create_container(
            busybox, ["true"], name=name, labels={f"io.autoscorer.{key}": value for key, value in labels.items()}
        )
        return str(made["Id"])

    suffix = f"{os.getpid()}{time.monotonic_ns()}"
    mine = container(f"autoscorer-{suffix}a", run=f"{suffix}a", flow_run=suffix)
    others = [
        container(f"autoscorer-{suffix}b", run=f"{suffix}b", flow_run=suffix + "x"),
        container(f"stranger-{suffix}", run=f"{suffix}c", flow_run=suffix),
    ]
    try:
        assert remove_by_label(load_settings(), "flow_run", suffix) == [f"autoscorer-{suffix}a"]
        left = {item["Id"] for item in docker_client.containers(all=True)}
        assert mine not in left and set(others) <= left
    finally:
        for other in others:
            docker_client.remove_container(other, force=True)
