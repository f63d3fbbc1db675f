"""Whatever is killed, its Job and its pod are gone after the next look; what others have there stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.processes import ProcessIdentity
from autoscorer.executors.kubernetes.session import close_sessions, open_session
from autoscorer.executors.reaper import clear_flow_run, own_containers, reap, remove_by_label
from autoscorer.executors.records import RunRecords

from ...support.fake_kubernetes import FakeKubernetes
from ...support.prefect_server import eventually

FLOW_RUN = "0190a1b2-0000-7000-8000-000000000000"
SLEEPER = "trap '' TERM INT; echo started; echo half > /workspace/output/pred.csv; while true; do sleep 1; done"

pytestmark = pytest.mark.slow


@pytest.fixture
def only_the_cluster(in_cluster: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation whose models run in the cluster: nobody looks for a Docker Engine."""
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DEFAULT", "kubernetes")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")


def start(root: Path, *, command: str = "run") -> subprocess.Popen[bytes]:
    """A command in a process of its own, until its model runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", command, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log = root / "logs" / "container.log"
    eventually(lambda: (log.is_file() and log.stat().st_size) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def command(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([sys.executable, "-m", "autoscorer", *arguments], capture_output=True, timeout=300)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def sleeper(only_the_cluster: None, make_workspace: Callable[..., Path]) -> Path:
    return make_workspace(container={"image": "model:1", "cmd": ["sh", "-c", SLEEPER]}, timeout=300)


@pytest.mark.parametrize("next_command", ["run", "reap"])
def test_kill_9_and_the_next_command_clears_up(
    sleeper: Path, cluster: FakeKubernetes, home: Path, next_command: str
) -> None:
    process = start(sleeper)
    process.kill()
    process.communicate()
    assert cluster.jobs() and cluster.pods(), "the Job should have outlived its owner"
    (record,) = RunRecords(home).all()
    assert record.backend == "kubernetes" and record.staged.is_dir()
    meta = json.loads((sleeper / "meta.json").read_text())
    meta["container"]["cmd"] = ["sh", "-c", "echo ok > /workspace/output/pred.csv"]
    (sleeper / "meta.json").write_text(json.dumps(meta))
    code, answer = command(*([next_command] if next_command == "reap" else [next_command, str(sleeper)]))
    assert code == 0, answer
    assert not cluster.jobs() and not cluster.pods() and not record.staged.exists()
    assert not list((home / "runs").glob("*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_removes_the_job_and_leaves_a_result(sleeper: Path, cluster: FakeKubernetes, number: int) -> None:
    process = start(sleeper, command="pipeline")
    process.send_signal(number)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and json.loads(out)["error"]["code"] == "CANCELLED"
    assert not cluster.jobs() and not cluster.pods()
    assert not (sleeper / "output" / "pred.csv").exists()


def made(cluster: FakeKubernetes, name: str, **labels: str) -> None:
    """A Job, with the pod that its controller makes."""
    own = {f"io.autoscorer.{key}": value for key, value in labels.items()}
    labelled = {key: value for key, value in own.items() if "|" not in value}
    metadata = {"labels": labelled, "annotations": own}
    container = {"name": "model", "image": "i", "command": ["sleep", "60"]}
    container["resources"] = {"requests": {"cpu": "10m"}}  # type: ignore[assignment]
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
    job = {"metadata": {"name": name, **metadata}, "spec": {"template": {"metadata": metadata, "spec": pod}}}
    found = cluster.store.add("jobs", job)
    assert found is not None
    cluster.make_pod(found)


def test_the_reaper_leaves_the_living_and_strangers_alone(
    only_the_cluster: None, in_cluster: Settings, cluster: FakeKubernetes, settings: Settings
) -> None:
    mine = ProcessIdentity.current().text
    dead = mine.rpartition("|")[0] + "|1"
    later, past = str(int(time.time()) + 900), str(int(time.time()) - 1)
    made(cluster, "autoscorer-aaaa1", run="aaaa1", owner=mine, deadline=later)
    made(cluster, "autoscorer-aaaa2", run="aaaa2", owner=dead, deadline=later)
    made(cluster, "autoscorer-aaaa3", run="aaaa3", owner=mine, deadline=past)
    made(cluster, "autoscorer-aaaa4", run="aaaa4", owner="other-host|b|1|m|1|1", deadline=later)
    made(cluster, "somebodys-own", run="aaaa5", owner=dead, deadline=past)
    done = reap(_loaded())
    assert sorted(done.containers) == ["autoscorer-aaaa2", "autoscorer-aaaa3"] and done.problems == []
    assert {job["metadata"]["name"] for job in cluster.jobs()} == {
        "autoscorer-aaaa1",
        "autoscorer-aaaa4",
        "somebodys-own",
    }
    assert len(cluster.pods()) == 3
    assert {each.name for each in own_containers(_loaded())} == {"autoscorer-aaaa1", "autoscorer-aaaa4"}


def _loaded() -> Settings:
    from autoscorer.core.config import load_settings

    return load_settings()


def test_a_pod_that_was_left_without_its_job_goes_too(only_the_cluster: None, cluster: FakeKubernetes) -> None:
    made(cluster, "autoscorer-bbbb1", run="bbbb1", flow_run=FLOW_RUN)
    cluster.delete_job("autoscorer-bbbb1", None)
    assert cluster.pods() and not cluster.jobs()
    assert remove_by_label(_loaded(), "flow_run", FLOW_RUN) == ["autoscorer-bbbb1"]
    assert not cluster.pods()


def test_the_pod_of_a_lost_node_is_given_up(
    only_the_cluster: None, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscorer.executors.kubernetes.reaping.REMOVAL", 1.0)
    made(cluster, "autoscorer-cccc1", run="cccc1", flow_run=FLOW_RUN)
    cluster.lose_node()
    assert remove_by_label(_loaded(), "flow_run", FLOW_RUN) == ["autoscorer-cccc1"]
    assert not cluster.pods()


def test_a_record_outlives_its_job_while_the_cluster_is_away(
    only_the_cluster: None, cluster: FakeKubernetes, make_workspace: Callable[..., Path], home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("autoscorer.executors.kubernetes.reaping.PATIENCE_BEFORE", 0.5)
    root = make_workspace()
    (root / ".autoscorer" / "run-x").mkdir(parents=True)
    record = home / "runs" / "x.json"
    record.parent.mkdir()
    owner = ProcessIdentity.current().text.rpartition("|")[0] + "|1"
    content = {"run_id": "x", "backend": "kubernetes", "owner": owner, "workspace": str(root), "flow_run": FLOW_RUN}
    record.write_text(json.dumps(content))
    with cluster.away():
        done = reap(_loaded())
        assert len(done.problems) == 1 and record.exists() and (root / ".autoscorer" / "run-x").exists()
        with pytest.raises(Exception, match="BACKEND_UNAVAILABLE"):
            clear_flow_run(_loaded(), FLOW_RUN)
        assert record.exists()
    assert reap(_loaded()).problems == [] and not record.exists()


def test_a_forked_process_has_a_session_of_its_own(only_the_cluster: None, cluster: FakeKubernetes) -> None:
    """A connection that a parent uses as well would mix up their answers."""
    before = open_session(_loaded())
    before.version()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            own = open_session(_loaded())
            os.write(write, b"%d" % (own is not before and own.version() == before.version()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    os.close(read)
    os.close(write)
    assert open_session(_loaded()) is before
    close_sessions()
