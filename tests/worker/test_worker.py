"""The warm worker at a real Prefect server: what it does with a run, and what is left when something dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.flowruns import FlowRunFiles, wake

from ..support.prefect_server import PrefectServer, Refused, eventually, server
from ..support.processes import parent_of
from ..support.workspaces import result_of

__all__ = ["server"]

pytestmark = [
    pytest.mark.prefect,
    # Prefect leaves sockets and event loops of its background services to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

TRUTH = "id,label\n1,cat\n2,dog\n3,cat\n4,dog\n"
GOOD = TRUTH.replace("3,cat", "3,dog")
MODEL = f"""
import os, pathlib, time
print("ready", flush=True)
while WAIT and not pathlib.Path(GO).exists(): time.sleep(0.02)
(pathlib.Path(os.environ["AUTOSCORER_WORKSPACE"]) / "output" / "pred.csv").write_text({GOOD!r})
print("wrote predictions")
"""
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
# A scorer that waits for a file ``go`` in its workspace.
PATIENT = """
import time
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register
@register("patient")
class Patient(BaseScorer):
    name, version = "patient", "1.0.0"
    def score(self, workspace, params):
        (workspace / "logs").mkdir(exist_ok=True)
        (workspace / "logs" / "container.log").write_text("ready")
        while not (workspace / "go").exists():
            time.sleep(0.02)
        return Result(metrics={"score": 1.0}, summary={"score": 1.0})
"""


class Runs:
    """Starts flow runs of the deployments, and asks how they are."""

    def __init__(self, server: PrefectServer, deployments: dict[str, str]) -> None:
        self.server = server
        self.deployments = deployments

    def start(self, deployment: str, home: Path, **parameters: Any) -> str:
        run_id: str = self.create(self.deployments[deployment], parameters)
        wake(home)
        return run_id

    def create(self, deployment_id: str, parameters: dict[str, Any]) -> str:
        body = {"parameters": parameters, "enforce_parameter_schema": False, "state": {"type": "SCHEDULED"}}
        return str(self.ask("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def get(self, run_id: str) -> Any:
        return self.ask("GET", f"/flow_runs/{run_id}")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask again while the server is too busy: SQLite refuses a transaction that was overtaken."""

        def answer() -> Any:
            try:
                return self.server.call(method, path, body)
            except Refused as refused:
                if refused.answer.status != 503:
                    raise
                return None

        return eventually(answer)

    def state(self, run_id: str) -> str:
        return str(self.get(run_id)["state"]["type"])

    def ended(self, run_id: str, *, within: float = 600) -> Any:
        eventually(lambda: self.state(run_id) in FINAL, within=within)
        return self.get(run_id)

    def cancel(self, run_id: str) -> None:
        self.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})


class Worker:
    """A worker process of a home."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        self.home = home
        scorers = home / "scorers"
        scorers.mkdir(exist_ok=True)
        (scorers / "patient.py").write_text(PATIENT)
        environment["AUTOSCORER_SCORERS__DIRS"] = json.dumps([str(scorers)])
        self.log_file = home / f"worker-{len(list(home.glob('worker-*')))}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "autoscorer", "worker", *options],
                env={**os.environ, "AUTOSCORER_HOME": str(home), **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]

    def taken(self) -> list[str]:
        return [line["flow_run"] for line in self.lines() if line["message"].startswith("Taken")]

    def files(self, run_id: str) -> FlowRunFiles:
        return FlowRunFiles(self.home, run_id)

    def child(self, run_id: str) -> int:
        """The process that works on a run."""

        def look() -> int:
            claim = self.files(run_id).read_claim()
            return (claim.child_pid or 0) if claim else 0

        return eventually(look)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(300)


@pytest.fixture(scope="module")
def runs(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The deployments, in pools of their own."""
    from autoscorer.service.prefect.deploy import deploy

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOSCORER_HOME", str(tmp_path_factory.mktemp("deploying")))
        asyncio.run(deploy(load_settings()))
    names = ("score-only/score", "validate-only/validate", "pipeline/pipeline", "run-only/run", "batch/batch")
    return Runs(server, {name.split("/")[1]: server.call("GET", f"/deployments/name/{name}")["id"] for name in names})


@pytest.fixture(scope="module")
def warm(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests that leave it as it is."""
    worker = Worker(tmp_path_factory.mktemp("warm"))
    eventually(lambda: any("for the pools" in line["message"] for line in worker.lines()))
    yield worker
    assert worker.stop() == 0, worker.log_file.read_text()
    assert not [line for line in worker.lines() if line["level"] == "error"]


@pytest.fixture
def start(home: Path, runs: Runs, warm: Worker) -> Iterator[Callable[..., Worker]]:
    """Start workers of the test's own home. The warm one does not take their runs: it stands still meanwhile."""
    started: list[Worker] = []
    warm.process.send_signal(signal.SIGSTOP)

    def make(*options: str, **environment: str) -> Worker:
        started.append(Worker(home, *options, AUTOSCORER_SERVICE__RETRY_DELAY="0.2", **environment))
        return started[-1]

    yield make
    for worker in started:
        if worker.process.poll() is None:
            worker.stop()
    warm.process.send_signal(signal.SIGCONT)


@pytest.fixture
def model(make_workspace: Callable[..., Path]) -> Callable[..., Path]:
    """A workspace whose model is a Python program, for the process backend; it may wait for a file ``go``."""

    def make(name: str = "ws", *, waits: bool = False, code: str = MODEL, **meta: Any) -> Path:
        root = make_workspace(name, truth=TRUTH, container={"cmd": ["python", "predict.py"]}, timeout=120, **meta)
        (root / "predict.py").write_text(code.replace("WAIT", str(waits)).replace("GO", repr(str(root / "go"))))
        return root

    return make


@pytest.fixture
def sleeper(make_workspace: Callable[..., Path], busybox: str) -> Path:
    """A workspace whose model says ``ready`` and sleeps in its container until the file ``go`` is in its data."""
    command = "echo ready; until [ -e /workspace/input/data/go ]; do sleep 0.1; done; cp /workspace/input/data/p.csv "
    container = {"image": busybox, "cmd": ["sh", "-c", command + "/workspace/output/pred.csv"]}
    root = make_workspace("sleeper", truth=TRUTH, container=container, timeout=200)
    (root / "input/data/p.csv").write_text(GOOD)
    return root


def is_ready(root: Path) -> None:
    log = root / "logs" / "container.log"
    eventually(lambda: log.is_file() and "ready" in log.read_text())


def go(root: Path) -> None:
    """Let the model go on."""
    (root / "go").touch()
    (root / "input/data/go").touch()


def containers(client: Any, run_id: str) -> list[Any]:
    return list(client.containers(all=True, filters={"label": f"io.autoscorer.flow_run={run_id}"}))


# --- one run ---------------------------------------------------------------------------------------------


def test_a_score_run_is_completed_with_its_result(
    runs: Runs, warm: Worker, make_workspace: Callable[..., Path]
) -> None:
    from autoscorer.flows.artifacts import artifact_key

    root = make_workspace("scored", truth=TRUTH, pred=GOOD)
    parameters = {"scorer": "classification_accuracy", "params": {"pass_threshold": 0.5}}
    run_id = runs.start("score", warm.home, workspace=str(root), **parameters)
    run = runs.ended(run_id)
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "score 0.7500, pass, rank C"), warm.lines()
    assert run["run_count"] == 1
    result = result_of(root)
    assert result["versioning"]["flow_run_id"] == run_id and result["metrics"]["accuracy"] == 0.75
    files = warm.files(run_id)
    ending = files.read_outcome()
    assert ending is not None and ending["data"] == result and ending["error"] is None
    assert eventually(lambda: files.read_claim() is None) and files.read_stage() == "score"
    assert "stage score" in runs.server.logs(run_id, "score 0.7500")
    keys = {artifact_key(root, what) for what in ("result", "metrics", "report")}
    assert eventually(lambda: set(runs.server.artifacts(run_id)) == keys)


def test_a_failed_submission_is_failed_with_its_code(
    runs: Runs, warm: Worker, make_workspace: Callable[..., Path]
) -> None:
    root = make_workspace("unscored", truth=TRUTH)
    run_id = runs.start("score", warm.home, workspace=str(root))
    run = runs.ended(run_id)
    assert run["state"]["type"] == "FAILED" and run["state"]["message"].startswith("MISSING_FILE: ")
    ending = warm.files(run_id).read_outcome()
    assert ending is not None and ending["error"]["code"] == "MISSING_FILE" and ending["data"] == result_of(root)
    gone = runs.ended(runs.start("score", warm.home, workspace=str(root / "nowhere")))
    assert gone["state"]["message"].startswith("WORKSPACE_NOT_FOUND")


def test_parameters_that_are_none_of_the_flow_s_are_refused(runs: Runs, warm: Worker) -> None:
    run = runs.ended(runs.start("score", warm.home, workspace=[1], tail="long"))
    assert run["state"]["type"] == "FAILED"
    assert run["state"]["message"].startswith("INVALID_REQUEST") and "tail" in run["state"]["message"]


def test_the_log_of_a_task_s_run_names_the_task(runs: Runs, warm: Worker) -> None:
    body = {"labels": {"autoscorer.task": "task-1"}, "enforce_parameter_schema": False}
    run_id = runs.ask("POST", f"/deployments/{runs.deployments['score']}/create_flow_run", body)["id"]
    runs.ended(run_id)

    def lines() -> list[dict[str, Any]]:
        return [line for line in warm.lines() if line.get("flow_run") == run_id]

    eventually(lambda: len(lines()) >= 2)
    assert {line["task_id"] for line in lines()} == {"task-1"}


def test_validate_tells_every_problem_and_writes_nothing(runs: Runs, warm: Worker, model: Callable[..., Path]) -> None:
    good, bad = model("valid"), model("invalid", scorer="classification_f2")
    (bad / "input/gt.csv").unlink()
    first = runs.start("validate", warm.home, workspace=str(good), backend="process")
    second = runs.start("validate", warm.home, workspace=str(bad), backend="process")
    assert runs.ended(first)["state"]["message"] == "Valid for pipeline, with classification_f1."
    message = runs.ended(second)["state"]["message"]
    assert "SCORER_NOT_FOUND" in message and "MISSING_FILE" in message
    ending = warm.files(first).read_outcome()
    assert ending is not None and ending["data"]["scorer"] == "classification_f1"
    assert not (good / "output").exists() and not (bad / "output").exists()


def test_a_pipeline_is_run_by_prefect_s_engine_with_its_task_runs(
    runs: Runs, warm: Worker, model: Callable[..., Path]
) -> None:
    root = model("whole")
    run_id = runs.start("pipeline", warm.home, workspace=str(root), backend="process")
    run = runs.ended(run_id)
    assert run["state"]["type"] == "COMPLETED" and run["state"]["message"].startswith("score 0.7"), warm.lines()
    assert sorted(runs.server.task_runs(run_id, 3)) == ["run whole", "score whole", "validate whole"]
    assert "model | ready" in runs.server.logs(run_id, "wrote predictions")
    assert result_of(root)["versioning"]["flow_run_id"] == run_id
    assert json.loads((root / "logs/run_info.json").read_text())["flow_run_id"] == run_id
    ending = warm.files(run_id).read_outcome()
    assert ending is not None and ending["state"] == "COMPLETED" and ending["data"] == result_of(root)
    assert eventually(lambda: warm.files(run_id).read_claim() is None)
    assert not (warm.files(run_id).folder / "cwd").exists()


def test_a_flow_that_is_none_of_ours_is_refused_with_a_reason(runs: Runs, warm: Worker) -> None:
    flow = runs.ask("POST", "/flows/", {"name": "a-stranger-s"})
    body = {"name": "x", "flow_id": flow["id"], "entrypoint": "os.system", "work_pool_name": "autoscorer"}
    run = runs.ended(runs.create(runs.ask("POST", "/deployments/", body)["id"], {}))
    assert run["state"]["type"] == "FAILED" and "prefect worker start" in run["state"]["message"]


# --- task runs of what no engine works on -----------------------------------------------------------------


def test_a_score_and_a_validation_have_a_task_run_that_ends_as_they_do(
    runs: Runs, warm: Worker, make_workspace: Callable[..., Path]
) -> None:
    good, bad = make_workspace("shown", truth=TRUTH, pred=GOOD), make_workspace("unshown", truth=TRUTH)
    (bad / "input/gt.csv").unlink()
    started = {
        (deployment, root.name): runs.start(deployment, warm.home, workspace=str(root))
        for deployment in ("score", "validate")
        for root in (good, bad)
    }
    for (deployment, name), run_id in started.items():
        run = runs.ended(run_id)
        assert run["state"]["type"] == ("COMPLETED" if name == "shown" else "FAILED")
        # Named as the tasks of the engine's flows are.
        (task_run,) = eventually(lambda run_id=run_id: _task_runs(runs, run_id, "COMPLETED", "FAILED"))
        assert task_run["name"] == f"{deployment} {name}"
        ended = task_run["state"]
        assert (ended["type"], ended["message"]) == (run["state"]["type"], run["state"]["message"])
        assert set(task_run["tags"]) == {"autoscorer", deployment} and task_run["run_count"] == 1
        assert run["start_time"] <= task_run["end_time"] and task_run["start_time"] < task_run["end_time"]


def test_a_task_run_crashes_with_its_process_and_is_completed_by_the_next_attempt(
    runs: Runs, start: Callable[..., Worker], make_workspace: Callable[..., Path]
) -> None:
    worker = start()
    root = make_workspace("shown-again", truth=TRUTH, pred=GOOD, scorer="patient")
    run_id = runs.start("score", worker.home, workspace=str(root))
    is_ready(root)

    (first,) = eventually(lambda: _task_runs(runs, run_id, "RUNNING"))
    assert first["run_count"] == 1
    os.kill(worker.child(run_id), signal.SIGKILL)
    # Crashed, and soon running again: whichever is seen first.
    eventually(
        lambda: (
            _task_runs(runs, run_id, "CRASHED")
            or [one for one in _task_runs(runs, run_id, "RUNNING") if one["run_count"] == 2]
        )
    )
    go(root)
    runs.ended(run_id)
    (last,) = eventually(lambda: _task_runs(runs, run_id, "COMPLETED"))
    assert (last["id"], last["run_count"]) == (first["id"], 2)


def _task_runs(runs: Runs, run_id: str, *states: str) -> list[Any]:
    """A flow run's task runs, once all of them are in one of the states."""
    found = runs.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    # Under load Prefect's server was seen to answer a task run without its state.
    return found if all((one["state"] or {}).get("type") in states for one in found) else []


# --- cancelling ------------------------------------------------------------------------------------------


@pytest.mark.docker
def test_cancelling_ends_the_container(runs: Runs, warm: Worker, sleeper: Path, docker_client: Any) -> None:
    run_id = runs.start("pipeline", warm.home, workspace=str(sleeper), backend="docker")
    is_ready(sleeper)
    assert len(containers(docker_client, run_id)) == 1 and warm.files(run_id).read_stage() == "run"
    runs.cancel(run_id)
    run = runs.ended(run_id)
    assert run["state"]["type"] == "CANCELLED" and run["state"]["message"].startswith("CANCELLED")
    assert containers(docker_client, run_id) == []
    assert result_of(sleeper)["error"]["code"] == "CANCELLED"


def test_cancelling_ends_a_scorer_that_does_not_listen(
    runs: Runs, warm: Worker, make_workspace: Callable[..., Path]
) -> None:
    root = make_workspace("endless", truth=TRUTH, pred=GOOD, scorer="patient")
    run_id = runs.start("score", warm.home, workspace=str(root))
    is_ready(root)
    runs.cancel(run_id)
    assert runs.ended(run_id)["state"]["type"] == "CANCELLED"
    result = result_of(root)
    assert result["error"]["code"] == "CANCELLED" and result["versioning"]["flow_run_id"] == run_id


# --- death -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["score", "pipeline"])
def test_a_run_whose_process_is_killed_is_attempted_again_and_counted(
    runs: Runs,
    start: Callable[..., Worker],
    model: Callable[..., Path],
    make_workspace: Callable[..., Path],
    deployment: str,
) -> None:
    worker = start()
    if deployment == "score":
        root = make_workspace("killed", truth=TRUTH, pred=GOOD, scorer="patient")
        run_id = runs.start("score", worker.home, workspace=str(root))
    else:
        root = model("killed", waits=True)
        run_id = runs.start("pipeline", worker.home, workspace=str(root), backend="process")
    is_ready(root)
    os.kill(worker.child(run_id), signal.SIGKILL)
    eventually(lambda: runs.get(run_id)["run_count"] == 2)
    go(root)
    run = runs.ended(run_id)
    assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 2), worker.lines()
    assert "SIGKILL" in runs.server.logs(run_id, "Put back")


def test_a_run_that_is_killed_again_and_again_is_failed_with_a_reason(
    runs: Runs, start: Callable[..., Worker], make_workspace: Callable[..., Path]
) -> None:
    worker = start(AUTOSCORER_SERVICE__MAX_ATTEMPTS="2")
    root = make_workspace("hopeless", truth=TRUTH, pred=GOOD, scorer="patient")
    run_id = runs.start("score", worker.home, workspace=str(root))
    for attempt in (1, 2):
        eventually(lambda attempt=attempt: runs.get(run_id)["run_count"] == attempt)
        os.kill(eventually(lambda: worker.child(run_id)), signal.SIGKILL)
    run = runs.ended(run_id)
    assert run["state"]["type"] == "FAILED" and "2 times" in run["state"]["message"]
    assert result_of(root)["error"]["code"] == "INTERNAL_ERROR"


def test_a_fork_server_that_dies_is_replaced_and_its_runs_are_done_again(
    runs: Runs, start: Callable[..., Worker], make_workspace: Callable[..., Path]
) -> None:
    worker = start()
    root = make_workspace("orphaned", truth=TRUTH, pred=GOOD, scorer="patient")
    run_id = runs.start("score", worker.home, workspace=str(root))
    is_ready(root)
    child = worker.child(run_id)
    parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    go(root)
    run = runs.ended(run_id)
    assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 2), worker.lines()
    assert eventually(lambda: is_gone(child))


@pytest.mark.docker
@pytest.mark.parametrize("held_up", [False, True])
def test_a_worker_s_death_leaves_nothing_and_the_next_one_finishes_its_runs(
    runs: Runs, start: Callable[..., Worker], sleeper: Path, docker_client: Any, held_up: bool
) -> None:
    first = start()
    run_id = runs.start("pipeline", first.home, workspace=str(sleeper), backend="docker")
    is_ready(sleeper)
    child = first.child(run_id)
    fork_server = parent_of(child)
    if held_up:  # as on a machine that is busy
        os.kill(fork_server, signal.SIGSTOP)
    first.process.kill()
    first.process.wait()
    if held_up:
        time.sleep(1.0)
        os.kill(fork_server, signal.SIGCONT)
    # Nobody is there to help: the kernel and the fork server see to it.
    assert eventually(lambda: is_gone(child))
    assert eventually(lambda: containers(docker_client, run_id) == [])
    go(sleeper)
    second = start()
    run = runs.ended(run_id)
    assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 2), second.lines()
    assert containers(docker_client, run_id) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_worker_that_is_told_to_stop_puts_its_runs_back(
    runs: Runs, start: Callable[..., Worker], model: Callable[..., Path], number: signal.Signals
) -> None:
    first = start()
    root = model("interrupted", waits=True)
    run_id = runs.start("pipeline", first.home, workspace=str(root), backend="process")
    is_ready(root)
    child = first.child(run_id)
    assert first.stop(number) == 0, first.lines()
    run = runs.get(run_id)
    assert (run["state"]["type"], run["state"]["name"]) == ("SCHEDULED", "Scheduled")
    assert is_gone(child) and first.files(run_id).read_claim() is None
    assert not list((root / ".autoscorer").glob("run-*"))
    go(root)
    start()
    assert runs.ended(run_id)["state"]["type"] == "COMPLETED"


def test_two_workers_share_the_load_and_take_no_run_twice(
    runs: Runs, start: Callable[..., Worker], make_workspace: Callable[..., Path]
) -> None:
    workers = [start("--limit", "2"), start("--limit", "2", "--pool", "autoscorer-score")]
    for worker in workers:
        eventually(lambda worker=worker: worker.lines())
    # The first three wait for a word: more than one worker may have, so that none does all before the other has begun.
    patient = [make_workspace(f"shared/{number}", truth=TRUTH, pred=GOOD, scorer="patient") for number in range(3)]
    roots = patient + [make_workspace(f"shared/{number}", truth=TRUTH, pred=GOOD) for number in range(3, 24)]
    ids = [runs.create(runs.deployments["score"], {"workspace": str(root)}) for root in roots]
    wake(workers[0].home)
    eventually(lambda: all(worker.taken() for worker in workers))
    for root in patient:
        go(root)
    for root, run_id in zip(roots, ids, strict=True):
        run = runs.ended(run_id)
        assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 1)
        assert result_of(root)["versioning"]["flow_run_id"] == run_id
    taken = [worker.taken() for worker in workers]
    assert Counter(taken[0] + taken[1]) == Counter(ids) and all(taken)


# --- Prefect away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["score", "pipeline"])
def test_a_run_goes_on_while_the_server_stands_still_and_its_end_is_told_after(
    runs: Runs,
    warm: Worker,
    model: Callable[..., Path],
    make_workspace: Callable[..., Path],
    deployment: str,
) -> None:
    if deployment == "score":
        root = make_workspace("cut", truth=TRUTH, pred=GOOD, scorer="patient")
        run_id = runs.start("score", warm.home, workspace=str(root))
    else:
        root = model("cut", waits=True)
        run_id = runs.start("pipeline", warm.home, workspace=str(root), backend="process")
    is_ready(root)
    eventually(lambda: runs.state(run_id) == "RUNNING")
    with runs.server.standing_still():
        go(root)
        done = root / "output" / "result.json" if deployment == "score" else root / "logs" / "run_info.json"
        eventually(done.exists)
    run = runs.ended(run_id)
    assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 1), warm.lines()
    # What the server could not be told meanwhile, it is told now.
    eventually(lambda: len(_task_runs(runs, run_id, "COMPLETED")) == (1 if deployment == "score" else 3))


def test_what_a_flow_has_said_of_its_end_stands(server: PrefectServer, home: Path) -> None:
    from autoscorer.flows.engine_patch import kept_states_stand
    from autoscorer.flows.final_state import persist_outcome
    from prefect import flow
    from prefect.client.schemas.objects import State
    from prefect.states import Completed

    @flow(name="cut-off", flow_run_name="cut-off")
    def cut_off() -> State[Any]:
        persist_outcome(Completed(message="score 1.0000", data={"summary": {}}))
        raise ConnectionError("as when the engine can't tell the server, and then can")

    with kept_states_stand():
        cut_off(return_state=True)
    run = server.flow_run("cut-off")
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "score 1.0000")
    ending = FlowRunFiles(home, run["id"]).read_outcome()
    assert ending is not None and ending["state"] == "COMPLETED"


def test_a_worker_of_no_runs_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", "worker", "--limit", "0"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "--limit expects 1 or more" in done.stdout


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has buried yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
