"""A live service whose Docker Engine, Prefect, API or whole host fails: what docs/service.md says happens, happens.

The engine and the disk of Prefect's database are this file's own, so that they can be killed, filled and emptied.
tests/system/test_chaos.py kills what else there is, with thirty tasks under way.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.core.workspace import Workspace

from ..support.installation import Installation, running
from ..support.own_engine import OwnEngine, own_engine
from ..support.prefect_server import Refused, eventually
from ..support.receiver import Receiver
from ..support.receiver import receiver as receiver
from ..support.small_disk import filled, small_disk

pytestmark = [
    pytest.mark.docker,
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="an engine and a disk of one's own need root"),
    # Of a connection that the other side's death broke, its client leaves the socket to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

Json = dict[str, Any]

PREDICTIONS = "id,label\\na,cat\\nb,dog\\nc,cat\\n"
# A model that says that it is at work, and ends when it is left alone for some seconds.
MODEL = f"echo ready; sleep 3; printf '{PREDICTIONS}' > /workspace/output/pred.csv"


# A scorer that never ends by itself.
ENDLESS = """
import time
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register
@register("endless")
class Endless(BaseScorer):
    name, version = "endless", "1.0.0"
    def score(self, workspace, params):
        (workspace / "logs").mkdir(exist_ok=True)
        (workspace / "logs" / "container.log").write_text("ready")
        while True:
            time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def engine(busybox: str) -> Iterator[OwnEngine]:
    with (
        tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder,
        own_engine(Path(folder), busybox) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The disk on which Prefect's database lies."""
    with small_disk(tmp_path_factory.mktemp("database")) as folder:
        yield folder


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, engine: OwnEngine, database: Path) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("failures")
    (folder / "scorers").mkdir()
    (folder / "scorers" / "endless.py").write_text(ENDLESS)
    own = {
        "DOCKER_HOST": engine.host,
        "PREFECT_HOME": str(database),
        "AUTOSCORER_SCORERS__DIRS": json.dumps([str(folder / "scorers")]),
        "AUTOSCORER_SERVICE__RETRY_DELAY": "0.5",
    }
    with running(folder, **own) as one:
        yield one
    gc.collect()  # sockets that were left are told of here, and not in a test of others


def written(live: Installation, busybox: str, name: str, script: str = MODEL, **meta: Any) -> Path:
    """A workspace whose model is that shell script."""
    return live.workspace(name, pred="", container={"image": busybox, "cmd": ["sh", "-c", script]}, **meta)


@dataclass(frozen=True)
class Pipeline:
    """A task of a live service, and its workspace."""

    live: Installation
    root: Path
    id: str

    @classmethod
    def submitted(cls, live: Installation, busybox: str, name: str, script: str = MODEL, **meta: Any) -> Pipeline:
        root = written(live, busybox, name, script, **meta)
        status, envelope = live.call("POST", "/submit", {"workspace": name, "action": "pipeline"})
        assert status == 202, envelope
        return cls(live, root, envelope["data"]["id"])

    @property
    def now(self) -> Json:
        return dict(self.live.call("GET", f"/tasks/{self.id}")[1]["data"])

    def at_work(self) -> str:
        """Wait until its model runs; its flow run's id."""
        eventually(lambda: says_ready(self.root))
        return str(self.now["flow_run_id"])

    def scored(self) -> Json:
        """Wait for its end, which has to be a good one, with a Result of its own."""
        view = self.live.finished(self.id, within=300)
        assert view["state"] == "completed", (view, self.live.errors)
        result = Workspace(self.root).read_result()
        assert result is not None and result.error is None and result.summary.score == 1.0
        assert result.versioning.flow_run_id == view["flow_run_id"]
        assert not list(self.root.glob(".autoscorer/run-*")), "staged files stayed"
        return view


def says_ready(root: Path) -> bool:
    """Whether what works there has said that it is at work."""
    log = root / "logs" / "container.log"
    return log.is_file() and "ready" in log.read_text()


def scored(live: Installation, name: str) -> None:
    """A score, which needs no engine, is done."""
    live.workspace(name)
    status, envelope = live.call("POST", "/score?wait=100", {"workspace": name})
    assert status == 200 and envelope["data"]["state"] == "completed", envelope


def no_container(engine: OwnEngine) -> None:
    eventually(lambda: engine.docker("ps", "--all", "--quiet").stdout == "")


def attempts_within(live: Installation, flow_run_id: str) -> int:
    """How often the step of the run that was repeated most was tried."""
    tasks = live.prefect("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
    return max((task["run_count"] for task in tasks), default=0)


# --- Docker Engine -----------------------------------------------------------------------------------------------


def test_the_engine_is_restarted_under_a_live_service(live: Installation, engine: OwnEngine, busybox: str) -> None:
    # Long enough to be at work still when the engine goes, however late that it began was seen.
    slow = MODEL.replace("sleep 3", "sleep 15")
    models = [Pipeline.submitted(live, busybox, f"engine-{number}", slow) for number in range(3)]
    flow_run = models[0].at_work()
    engine.end(signal.SIGKILL)
    scored(live, "engine-away")
    assert models[0].now["state"] == "running"
    engine.start()
    for model in models:
        model.scored()
    eventually(lambda: attempts_within(live, flow_run) > 1)
    no_container(engine)


def test_a_killed_run_is_put_back_only_when_the_engine_says_that_its_container_is_gone(
    live: Installation, engine: OwnEngine, busybox: str
) -> None:
    model = Pipeline.submitted(live, busybox, "unseen", MODEL.replace("sleep 3", "sleep 6"))
    flow_run = model.at_work()
    claim = FlowRunFiles(live.home, flow_run).read_claim()
    assert claim is not None and claim.child_pid is not None
    engine.end(signal.SIGKILL)
    os.kill(claim.child_pid, signal.SIGKILL)
    end = time.monotonic() + 6  # more than one look of the worker and of the API
    while time.monotonic() < end:
        assert model.now["state"] == "running" and FlowRunFiles(live.home, flow_run).read_claim() is not None
        time.sleep(0.2)
    engine.start()
    view = model.scored()
    assert view["attempts"] == 2
    no_container(engine)


# --- the API -----------------------------------------------------------------------------------------------------


def test_work_goes_on_while_the_api_is_dead_and_whoever_waits_is_told_after_its_start(
    live: Installation, busybox: str, receiver: Receiver
) -> None:
    name = "no-api"
    root = written(live, busybox, name)
    waiting = live.begin("submit", name, "--wait", "--callback-url", receiver.url, "--json")
    (task,) = eventually(lambda: live.call("GET", f"/tasks?workspace={name}")[1]["data"]["tasks"])
    model = Pipeline(live, root, task["id"])
    model.at_work()
    ((up,), (api,)) = live.pids()["up"], live.pids()["api"]
    os.kill(up, signal.SIGSTOP)  # which would start it again at once
    try:
        os.kill(api, signal.SIGKILL)
        eventually(lambda: Workspace(model.root).read_result() is not None)
        with pytest.raises(OSError):
            live.call("GET", "/healthz")
        assert receiver.told == []
    finally:
        os.kill(up, signal.SIGCONT)
    out, err = waiting.communicate(timeout=300)
    assert waiting.returncode == 0 and json.loads(out)["data"]["state"] == "completed", err
    eventually(lambda: receiver.told)
    assert [(told["id"], told["state"]) for told in receiver.told] == [(model.id, "completed")]
    assert model.scored()["attempts"] == 1


# --- Prefect -----------------------------------------------------------------------------------------------------


def test_without_prefects_server_tasks_are_accepted_and_shown_and_running_models_go_on(
    live: Installation, busybox: str
) -> None:
    model = Pipeline.submitted(live, busybox, "no-prefect")
    flow_run = model.at_work()
    with live.without_prefect():
        eventually(lambda: not live.is_ready())
        status, envelope = live.call("GET", "/readyz", role=None)
        assert (status, envelope["error"]["details"]["server"]["state"]) == (503, "unavailable"), envelope
        late = Pipeline.submitted(live, busybox, "no-prefect-late")
        assert (late.now["state"], late.now["stage"]) == ("queued", "accepted")
        eventually(lambda: Workspace(model.root).read_result() is not None)
        eventually(lambda: FlowRunFiles(live.home, flow_run).read_outcome() is not None or model.now["result"])
        assert live.call("GET", "/tasks")[0] == 200
    assert model.scored()["attempts"] == 1
    late.scored()
    eventually(live.is_ready)


@pytest.mark.parametrize("away", [Installation.with_prefect_hanging, Installation.without_prefect])
def test_a_cancel_while_prefect_is_away_ends_what_runs(
    live: Installation, busybox: str, engine: OwnEngine, away: Callable[[Installation], AbstractContextManager[None]]
) -> None:
    name = away.__name__.replace("_", "-")
    container = {"image": busybox, "cmd": ["sh", "-c", "trap '' TERM INT; echo ready; while true; do sleep 1; done"]}
    tasks = {}
    for action, extra in (("pipeline", {"container": container, "timeout": 600}), ("score", {"scorer": "endless"})):
        root = live.workspace(f"{name}-{action}", pred="" if action == "pipeline" else None, **extra)
        status, envelope = live.call("POST", "/submit", {"action": action, "workspace": root.name})
        assert status == 202, envelope
        tasks[envelope["data"]["id"]] = root
    for root in tasks.values():
        eventually(lambda root=root: says_ready(root))
    runs = {task: live.call("GET", f"/tasks/{task}")[1]["data"]["flow_run_id"] for task in tasks}
    pipeline = next(iter(runs.values()))
    assert len(_containers(engine, pipeline)) == 1

    with away(live):
        for task in tasks:
            assert live.call("POST", f"/tasks/{task}/cancel")[0] in (200, 202)
        for task, root in tasks.items():
            view = live.finished(task)
            assert (view["state"], view["error"]["code"]) == ("cancelled", "CANCELLED"), view
            result = Workspace(root).read_result()
            assert result is not None and result.error is not None and result.error.code == "CANCELLED"
            assert result.versioning.flow_run_id == runs[task]
            assert view["result"] is not None and view["result"]["error"]["code"] == "CANCELLED"
        assert _containers(engine, pipeline) == []
        assert not list((next(iter(tasks.values())) / ".autoscorer").glob("run-*"))

    for run in runs.values():
        # Never anything else in between: nobody begins it again.
        state = eventually(lambda run=run: _final(live, run))
        assert state == "CANCELLED"
        eventually(lambda run=run: FlowRunFiles(live.home, run).read_claim() is None)
    for task in tasks:
        assert live.call("GET", f"/tasks/{task}")[1]["data"]["state"] == "cancelled"
    eventually(live.is_ready)


def _containers(engine: OwnEngine, flow_run_id: str) -> list[str]:
    return engine.docker(
        "ps", "--all", "--quiet", "--filter", f"label=io.autoscorer.flow_run={flow_run_id}"
    ).stdout.split()


def _final(live: Installation, flow_run_id: str) -> str | None:
    try:
        state = str(live.prefect("GET", f"/flow_runs/{flow_run_id}")["state"]["type"])
    except OSError:
        time.sleep(0.5)
        return None
    return state if state in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") else None


def test_tasks_wait_while_the_disk_of_prefects_database_is_full(
    live: Installation, database: Path, busybox: str
) -> None:
    with filled(database):
        with pytest.raises(Refused) as refused:
            eventually(lambda: live.prefect("POST", "/flows/", {"name": f"flow-{time.monotonic_ns()}"}) is None)
        assert refused.value.answer.status >= 500
        model = Pipeline.submitted(live, busybox, "no-room")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert model.now["state"] == "queued"
            time.sleep(0.2)
    model.scored()


# --- the host ----------------------------------------------------------------------------------------------------


def test_a_host_that_stands_still_costs_no_run_its_time(live: Installation, engine: OwnEngine, busybox: str) -> None:
    model = Pipeline.submitted(live, busybox, "frozen", timeout=6)
    model.at_work()
    frozen = [*live.processes(), engine.pid]
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(8)  # past the deadline, by the clock on the wall
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert model.scored()["attempts"] == 1


@pytest.mark.parametrize("lost", [False, True], ids=["power-cut", "and-prefects-database-is-lost"])
def test_after_everything_died_at_once_the_next_start_goes_on(
    live: Installation, engine: OwnEngine, database: Path, busybox: str, lost: bool
) -> None:
    models = [Pipeline.submitted(live, busybox, f"host-{lost}-{number}") for number in range(2)]
    scored(live, f"host-{lost}-ended")
    (ended,) = live.call("GET", f"/tasks?workspace=host-{lost}-ended")[1]["data"]["tasks"]
    models[0].at_work()
    up = live.processes()
    assert up
    for pid in up:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    engine.end(signal.SIGKILL)
    live.kill()
    live.check_gone()
    if lost:
        for file in database.glob("prefect.db*"):
            file.unlink()
    engine.start()
    live.start()
    for model in models:
        model.scored()
    view = live.call("GET", f"/tasks/{ended['id']}")[1]["data"]
    assert view["state"] == "completed" and view["result"]["summary"]["score"] == 1.0
    no_container(engine)
