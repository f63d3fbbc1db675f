"""What a run left goes also when its owner can't be asked any more; what somebody may still work on stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.worker_names import held_name
from autoscorer.core.workspace import Workspace
from autoscorer.executors.docker.container_config import GRACE, LABEL, NAME
from autoscorer.executors.reaper import clear_flow_run, reap
from autoscorer.executors.records import RunRecords

from ..support.lost_runs import of_another_container
from ..support.prefect_server import eventually

ELSEWHERE = "other-host|b|1|m|1|1"
FLOW_RUN = "0190a1b2-0000-7000-8000-000000000000"
WEEK = 7 * 24 * 3600
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes and sees every PID namespace")


class Engine:
    """A Docker Engine without containers."""

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def left(settings: Settings, make_workspace: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """A record and a staged folder of a run whose owner can't be seen from here, unless told otherwise."""

    def leave(name: str = "ws", *, age: float | None = None, **changes: Any) -> tuple[Path, Path]:
        root = make_workspace(name)
        staged = root / ".autoscorer" / f"run-{name}"
        (staged / "output").mkdir(parents=True)
        record = settings.home / "runs" / f"{name}.json"
        record.parent.mkdir(exist_ok=True)
        content = {"run_id": name, "backend": "docker", "owner": ELSEWHERE, "workspace": str(root), **changes}
        record.write_text(json.dumps(content))
        if age is not None:
            os.utime(record, (time.time() - age, time.time() - age))
        return record, staged

    return leave


def reaped(settings: Settings) -> list[str]:
    done = reap(settings, connect=lambda _: Engine())
    assert done.problems == []
    return done.folders


# --- owners that can't be asked ----------------------------------------------------------------------------------


def test_what_is_left_of_a_host_that_is_gone_goes_after_the_run_s_deadline(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    due, late = left("due", deadline=time.time() + 60), left("late", deadline=time.time() - 1)
    assert reaped(settings) == [str(late[1])]
    assert not late[0].exists() and not late[1].exists()
    assert due[0].exists() and due[1].exists()


def test_a_workspace_that_somebody_holds_keeps_what_is_there(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    """The clocks of two hosts may disagree by hours; a lock does not."""
    record, staged = left(deadline=time.time() - 5 * 3600)
    with Workspace(staged.parent.parent).lock():
        assert reaped(settings) == []
    assert record.exists() and reaped(settings) == [str(staged)]


def test_who_does_not_see_the_workspace_leaves_it_to_others_for_a_week(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    seen_elsewhere, _ = left("a", deadline=time.time() - 60, workspace="/not/on/this/host")
    forgotten, _ = left("b", deadline=time.time() - WEEK - 60, workspace="/not/on/this/host")
    assert reaped(settings) == []
    assert seen_elsewhere.exists() and not forgotten.exists()


def test_a_record_of_an_earlier_autoscorer_goes_when_it_is_old(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    young, old = left("young", age=WEEK - 60), left("old", age=WEEK + 60)
    assert reaped(settings) == [str(old[1])]
    assert young[0].exists() and young[1].exists()


def test_an_owner_that_is_seen_to_live_keeps_what_is_its_own(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    record, _ = left(owner=ProcessIdentity.current().text, deadline=1, flow_run=FLOW_RUN)
    assert reaped(settings) == []
    clear_flow_run(settings, FLOW_RUN, connect=lambda _: Engine())
    assert record.exists()


def test_a_record_says_when_its_run_must_be_over(settings: Settings, make_workspace: Callable[..., Path]) -> None:
    records = RunRecords(settings.home)
    record = records.add("r", Workspace(make_workspace()), "docker")
    # An image may take hours to come; what has not begun has left nothing.
    assert record.deadline > time.time() + 12 * 3600
    begun = records.begin(record, 30.0)
    assert time.time() + 25 < begun.deadline - GRACE < time.time() + 35
    assert list(records.all()) == [begun] and records.dead() == []


# --- containers --------------------------------------------------------------------------------------------------


def test_what_a_worker_s_container_left_goes_when_another_one_has_its_name(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    worker, child = of_another_container(ProcessIdentity.current()), of_another_container(ProcessIdentity.of(1))
    # In a namespace that can't be looked for: as where the reaper is in a container itself.
    worker, child = (ProcessIdentity(owner.text.replace("4026530000", "hidden")) for owner in (worker, child))
    FlowRunFiles(settings.home, FLOW_RUN).claim(Claim(worker, child, 1, name="host-1"))
    record, staged = left(owner=child.text, deadline=time.time() + 3600, flow_run=FLOW_RUN)
    with held_name(settings.home, "host-1", worker):
        assert reaped(settings) == []
    with held_name(settings.home, "host-1", ProcessIdentity.current()):
        assert reaped(settings) == [str(staged)]
    assert not record.exists()


def test_settling_a_flow_run_clears_what_its_lost_attempt_has_left(
    settings: Settings, left: Callable[..., tuple[Path, Path]]
) -> None:
    mine = left("mine", deadline=time.time() + 3600, flow_run=FLOW_RUN)
    others = left("others", deadline=time.time() + 3600, flow_run=FLOW_RUN[:-1] + "1")
    done = clear_flow_run(settings, FLOW_RUN, connect=lambda _: Engine())
    assert done.folders == [str(mine[1])] and not mine[0].exists()
    assert others[0].exists() and others[1].exists()


@pytest.mark.slow
@needs_root
def test_root_sees_on_the_host_that_a_container_is_gone(
    make_workspace: Callable[..., Path], settings: Settings, home: Path
) -> None:
    root = make_workspace("inside", container={"cmd": ["python", "predict.py"]}, timeout=600)
    (root / "predict.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "autoscorer", "run", str(root), "--backend", "process"]
    box = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc", "sh", "-c", 'hostname box; exec "$@"']
    with subprocess.Popen([*box, "sh", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as container:
        log = root / "logs" / "container.log"
        eventually(lambda: log.is_file() and "ready" in log.read_text())
        assert reaped(settings) == []
        container.kill()
    eventually(lambda: reaped(settings))
    assert not list((root / ".autoscorer").glob("run-*")) and not list((home / "runs").glob("*"))


@pytest.mark.docker
def test_a_container_goes_with_its_record(
    settings: Settings, left: Callable[..., tuple[Path, Path]], docker_client: Any, busybox: str
) -> None:
    """Its own label may be a moment younger than the record, or its owner known to be dead by the record alone."""
    record, staged = left("aaaa9", deadline=time.time() - 1)
    labels = {"run": "aaaa9", "owner": ELSEWHERE, "deadline": str(int(time.time()) + 900)}
    container = docker_client.create_container(
        busybox, ["true"], name=NAME + "aaaa9", labels={LABEL + key: value for key, value in labels.items()}
    )["Id"]
    try:
        done = reap(settings)
        assert NAME + "aaaa9" in done.containers and str(staged) in done.folders and not record.exists()
        assert container not in {each["Id"] for each in docker_client.containers(all=True)}
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True)
