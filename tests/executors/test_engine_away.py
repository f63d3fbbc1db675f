"""Nobody's model is blamed for what became of the engine, or of AutoScorer itself, while it ran.

The engine is one of this file's own, and is killed for real.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.run_clock import RunClock
from autoscorer.executors.supervise import RunReport
from autoscorer.tasks.run import run_workspace

from ..support.own_engine import OwnEngine, own_engine
from ..support.prefect_server import PrefectServer, eventually
from ..support.prefect_server import server as server
from ..support.workspaces import result_of

pytestmark = [
    pytest.mark.docker,
    # Of a connection that the engine's death broke docker-py leaves the socket to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

# A file in its output says that the model is at work.
AT_WORK = "echo half > /workspace/output/started; echo at work; "


@pytest.fixture(scope="module")
def _engine(busybox: str) -> Iterator[OwnEngine]:
    if os.geteuid() != 0:
        pytest.skip("an engine of one's own needs root")
    with (
        tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder,
        own_engine(Path(folder), busybox) as engine,
    ):
        yield engine


@pytest.fixture
def engine(_engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """The engine, running; what the test's AutoScorer uses."""
    monkeypatch.setenv("DOCKER_HOST", _engine.host)
    yield _engine
    _engine.end(signal.SIGKILL)
    _engine.start()
    gc.collect()  # such sockets are told of here, and not in a test of others


def _begin(root: Path, settings: Settings) -> Callable[[], RunReport | AutoScorerError]:
    """Begin a run in a thread; returns once the model is at work and watched. Calling the answer waits for its end."""
    outcome: list[RunReport | AutoScorerError] = []
    watched = threading.Event()

    def cancelled() -> bool:  # asked of a run that is being watched
        watched.set()
        return False

    def run() -> None:
        try:
            outcome.append(run_workspace(root, settings=settings, backend="docker", cancelled=cancelled))
        except AutoScorerError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: (_started(root) and watched.is_set()) or outcome)

    def ended() -> RunReport | AutoScorerError:
        thread.join(300)
        return outcome[0]

    return ended


def _started(root: Path) -> list[Path]:
    """The file that says that the workspace's model is at work, wherever its run is staged."""
    staged = [*(root / ".autoscorer").iterdir()] if (root / ".autoscorer").is_dir() else []
    for record in Path(os.environ["AUTOSCORER_HOME"], "runs").glob("*.json"):
        with contextlib.suppress(OSError, ValueError):  # it goes, or is being written
            staged += map(Path, json.loads(record.read_text())["elsewhere"])
    return [folder / "output" / "started" for folder in staged if (folder / "output" / "started").exists()]


def _nothing_is_left(engine: OwnEngine, root: Path) -> None:
    assert engine.docker("ps", "--all", "--quiet").stdout == ""
    assert set(os.listdir(root / ".autoscorer")) <= {"lock", "artifacts"}


def _model(make_workspace: Callable[..., Path], busybox: str, script: str, timeout: float = 60) -> Path:
    return make_workspace(container={"image": busybox, "cmd": ["sh", "-c", AT_WORK + script]}, timeout=timeout)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize("script", ["sleep 60", "trap 'exit 3' TERM; sleep 60 & wait"], ids=["plain", "traps"])
def test_a_model_that_ends_with_its_engine_is_not_blamed(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, settings: Settings, how: int, script: str
) -> None:
    root = _model(make_workspace, busybox, script)
    ended = _begin(root, settings)
    engine.end(how)
    engine.start()
    error = ended()
    assert isinstance(error, AutoScorerError)
    assert error.code == "BACKEND_UNAVAILABLE" and "not the model's fault" in error.message
    assert result_of(root)["error"]["code"] == "BACKEND_UNAVAILABLE"
    _nothing_is_left(engine, root)
    # The same workspace runs as ever.
    meta = json.loads((root / "meta.json").read_text())
    meta["container"]["cmd"] = ["true"]
    (root / "meta.json").write_text(json.dumps(meta))
    assert run_workspace(root, settings=settings).error is None


def test_an_engine_that_is_back_after_the_deadline_is_asked_before_the_model_is_blamed(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, settings: Settings
) -> None:
    root = _model(make_workspace, busybox, "sleep 60", timeout=4)
    ended = _begin(root, settings)
    engine.end(signal.SIGKILL)
    time.sleep(5)
    engine.start()
    error = ended()
    assert isinstance(error, AutoScorerError) and error.code == "BACKEND_UNAVAILABLE", error
    _nothing_is_left(engine, root)


@pytest.mark.prefect
def test_a_pipeline_whose_engine_is_killed_and_quickly_back_is_tried_again_and_scored(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, server: PrefectServer
) -> None:
    script = AT_WORK + "sleep 4; printf 'id,label\na,cat\nb,dog\n' > /workspace/output/pred.csv"
    root = make_workspace(
        "away", truth="id,label\na,cat\nb,dog\n", container={"image": busybox, "cmd": ["sh", "-c", script]}
    )
    command = [sys.executable, "-m", "autoscorer", "pipeline", str(root), "--track", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: _started(root))
    engine.end(signal.SIGKILL)
    engine.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["data"]["summary"]["score"] == 1.0
    tasks = server.call("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [server.flow_run("away")["id"]]}}})
    assert max(task["run_count"] for task in tasks) == 2, "the engine was not missed"
    assert engine.docker("ps", "--all", "--quiet").stdout == ""


def test_a_model_that_ended_well_while_the_engine_was_away_has_succeeded(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, settings: Settings
) -> None:
    root = _model(make_workspace, busybox, "while [ -e /workspace/output/started ]; do :; done; exit 0")
    ended = _begin(root, settings)
    engine.end(signal.SIGKILL)
    (pid,) = _processes_of(root)
    _started(root)[0].unlink()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    engine.start()
    report = ended()
    assert isinstance(report, RunReport) and report.error is None, report
    _nothing_is_left(engine, root)


def _processes_of(root: Path) -> list[int]:
    """The model's shells, by the mount that only they have: of the run's staged folder."""
    staged, found = _started(root)[0].parent.parent.name, []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"sh\0-c\0" + AT_WORK[:9].encode()):
                found += [int(entry.name)] if staged in (entry / "mountinfo").read_text() else []
        except OSError:
            continue
    return found


def test_where_containers_outlive_their_engine_the_run_goes_on_and_its_end_is_judged(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, settings: Settings
) -> None:
    engine.end(signal.SIGTERM)
    engine.start("--live-restore")
    wait = "while [ -e /workspace/output/started ]; do sleep 0.1; done; echo over; "
    for end, code in (("echo 1 > /workspace/output/pred.csv", None), ("exit 3", "CONTAINER_FAILED")):
        root = make_workspace(
            str(code), container={"image": busybox, "cmd": ["sh", "-c", AT_WORK + wait + end]}, timeout=60
        )
        ended = _begin(root, settings)
        engine.end(signal.SIGKILL)
        engine.start("--live-restore")
        eventually(lambda: engine.docker("ps", "--quiet").stdout != "")
        time.sleep(1)  # for the supervisor to notice that the engine is back
        _started(root)[0].unlink()
        report = ended()
        assert isinstance(report, RunReport), report
        assert (report.error and report.error.code) == code
        assert (root / "logs" / "container.log").read_text() == "at work\nover\n"
        _nothing_is_left(engine, root)


def test_a_model_that_somebody_stopped_is_not_blamed(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, settings: Settings
) -> None:
    root = _model(make_workspace, busybox, "sleep 60")
    ended = _begin(root, settings)
    engine.docker("kill", *engine.docker("ps", "--quiet").stdout.split())
    error = ended()
    assert isinstance(error, AutoScorerError) and error.code == "BACKEND_UNAVAILABLE"
    _nothing_is_left(engine, root)


@pytest.mark.parametrize("script", ["kill -9 $$", "kill -9 1; exit 143"], ids=["itself", "code"])
def test_a_model_that_ends_itself_that_way_is_judged_as_ever(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str, settings: Settings, script: str
) -> None:
    report = run_workspace(_model(make_workspace, busybox, script), settings=settings)
    assert report.error is not None and report.error.code == "CONTAINER_FAILED"


RUN = """
import json, sys
from autoscorer.tasks.run import run_workspace
asked = []
def cancelled():
    if not asked:
        asked.append(print("watched", flush=True))
report = run_workspace(sys.argv[1], cancelled=cancelled)
print(json.dumps([report.error.code if report.error else None, report.notes]))
"""


def _watched_process(root: Path) -> subprocess.Popen[bytes]:
    """A process that runs a workspace's model, which is at work and is being watched."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"watched\n"
    eventually(lambda: _started(root))
    return process


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("sleep 2; echo 1 > /workspace/output/pred.csv", None, id="ended-in-time"),
        pytest.param("trap '' TERM; while true; do sleep 1; done", "TIMEOUT_ERROR", id="runs-over"),
    ],
)
def test_a_supervisor_that_stood_still_past_the_deadline_asks_before_it_judges(
    make_workspace: Callable[..., Path], busybox: str, script: str, expected: str | None
) -> None:
    root = _model(make_workspace, busybox, script, timeout=4)
    process = _watched_process(root)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(8)
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=300)
    code, notes = json.loads(out)
    assert code == expected
    assert any("stood still" in note for note in notes)


def test_a_model_that_ended_in_time_on_a_host_that_stood_still_has_succeeded(
    engine: OwnEngine, make_workspace: Callable[..., Path], busybox: str
) -> None:
    """The engine wakes up after AutoScorer does, and only then can tell of an end that is long past."""
    root = _model(make_workspace, busybox, "sleep 2; echo 1 > /workspace/output/pred.csv", timeout=4)
    process = _watched_process(root)
    for pid in (process.pid, engine.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(4)  # longer than what was left to the model
    os.kill(engine.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=300)
    assert json.loads(out)[0] is None
    _nothing_is_left(engine, root)


def test_a_run_does_not_count_the_time_in_which_its_supervisor_stood_still() -> None:
    """The clock goes on with its process, a second after the other, and stays behind where that did not."""
    program = (
        "import os, signal, time\n"
        "from autoscorer.executors.run_clock import RunClock\n"
        "with RunClock() as clock:\n"
        "    print(flush=True); input(); first = clock.elapsed(); print(flush=True); input()\n"
        "    print(first, clock.elapsed(), clock.stood_still)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate("\n", timeout=300)
    first, then, stood_still = map(float, out.split())
    assert 0 <= first <= then < first + 6
    assert stood_still >= 3


def test_that_clock_always_goes_on() -> None:
    with RunClock() as clock:
        before = clock.elapsed()
        time.sleep(1.2)
        assert clock.elapsed() - before >= 1.2
        assert clock.stood_still == 0


def test_the_settings_reach_this_engine(engine: OwnEngine) -> None:
    from autoscorer.executors.docker.engine import connect

    client = connect(load_settings())
    assert client.base_url.startswith("http+docker://") and client.info()["DockerRootDir"].startswith(
        str(engine.folder)
    )
    client.close()
