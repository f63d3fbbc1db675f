"""A disk without room is nobody's fault: it is named, and what was accepted waits for room and goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.storage import fault_of, full_disk, is_short_of_room
from autoscorer.tasks.pipeline import run_pipeline
from autoscorer.tasks.run import run_workspace
from autoscorer.tasks.score import score_workspace

from ..support.installation import Installation, running
from ..support.prefect_server import eventually
from ..support.small_disk import filled, small_disk
from ..support.workspaces import predicting, write_workspace

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk that can be filled")
PREDICTED = "id,label\na,cat\nb,dog\n"


def model(root: Path) -> Path:
    write_workspace(root.parent, root.name, truth=PREDICTED, pred=None, container={"cmd": ["python", "predict.py"]})
    (root / "predict.py").write_text(predicting(PREDICTED))
    return root


def configured(**changes: Any) -> Settings:
    settings = load_settings()
    limits = settings.security.limits.model_copy(update={"free_disk": 0})
    security = settings.security.model_copy(update={"limits": limits})
    return settings.model_copy(update={"security": security, **changes})


# --- which disk it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_without_room_is_no_fault_of_ours_and_every_other_error_is(tmp_path: Path, number: int) -> None:
    error = fault_of(OSError(number, "no"), home=tmp_path)
    assert error.code is ErrorCode.STORAGE_FULL and error.message and error.details["disk"] == "home"
    assert str(tmp_path) not in json.dumps(error.to_dict())
    assert fault_of(PermissionError(errno.EACCES, "no"), home=tmp_path).code is ErrorCode.INTERNAL_ERROR
    assert full_disk(ValueError("no")) is None


def test_one_disk_for_both_is_told_as_one(tmp_path: Path) -> None:
    error = full_disk(OSError(errno.ENOSPC, "no"), home=tmp_path / "home", workspace=tmp_path / "ws")
    assert error is not None and error.details["disk"] == "home and workspaces"
    assert error.details["free_bytes"] > 0


@needs_root
def test_a_full_disk_is_found_by_the_name_that_failed_and_without_one_by_its_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home") as home, small_disk(tmp_path / "ws") as workspace, filled(workspace):
        unnamed, named = OSError(errno.ENOSPC, "no"), OSError(errno.ENOSPC, "no", str(home / "runs" / "x"))
        for error, disk in ((unnamed, "workspaces"), (named, "home")):
            told = full_disk(error, home=home, workspace=workspace)
            assert told is not None and told.details["disk"] == disk
        assert is_short_of_room(workspace / "not" / "there") and not is_short_of_room(home)


# --- one run, without a service ----------------------------------------------------------------------------------

ACTIONS: dict[str, Callable[..., Any]] = {
    "run": lambda root, settings: run_workspace(root, settings=settings, backend="process"),
    "pipeline": lambda root, settings: run_pipeline(root, settings=settings, backend="process"),
    "score": lambda root, settings: score_workspace(root, settings=settings),
}


@needs_root
@pytest.mark.parametrize("action", ["run", "pipeline"])
def test_a_full_home_is_named_and_not_told_as_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    root = model(tmp_path / "ws")
    with small_disk(tmp_path / "home") as home:
        monkeypatch.setenv("AUTOSCORER_HOME", str(home))
        with filled(home):
            error = told_by(action, root)
        assert error["code"] == "STORAGE_FULL" and error["details"]["disk"] == "home"
        assert str(home) not in json.dumps(error)
        assert not list((root / ".autoscorer").glob("run-*"))
        ACTIONS[action](root, configured())
        assert (root / "output" / "pred.csv").exists()


@needs_root
@pytest.mark.parametrize("action", ["run", "pipeline", "score"])
def test_a_full_disk_of_the_workspaces_is_named_and_not_told_as_our_fault(tmp_path: Path, action: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        root = model(disk / "ws")
        (root / "output").mkdir()
        (root / "output" / "pred.csv").write_text("id,label\na,cat\nb,dog\n")
        with filled(disk):
            error = told_by(action, root)
        assert error["code"] == "STORAGE_FULL" and error["details"]["disk"] == "workspaces"
        assert str(root) not in json.dumps(error)
        ACTIONS[action](root, configured())
        assert (root / "output" / "pred.csv").exists()


def told_by(action: str, root: Path) -> dict[str, Any]:
    """The error of an action, raised or in its Result."""
    try:
        found = ACTIONS[action](root, configured())
    except AutoScorerError as error:
        return error.to_dict()
    error = found.to_dict()["error"]
    assert isinstance(error, dict)
    return error


@needs_root
def test_a_read_only_disk_is_told_as_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        root = model(disk / "ws")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "autoscorer", "run", str(root), "--backend", "process"], capture_output=True
        )
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["details"]["why"]) == (3, "STORAGE_FULL", "read-only")
    assert "read-only" in error["message"]


# --- the service -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose home and workspaces lie on small disks; Prefect's database lies elsewhere."""
    folder = tmp_path_factory.mktemp("full")
    options = {"PREFECT_HOME": str(folder / "prefect"), "AUTOSCORER_SECURITY__LIMITS__FREE_DISK": "1"}
    with small_disk(folder / "home"), small_disk(folder / "workspaces"), running(folder, **options) as one:
        yield one


def submitted(live: Installation, name: str, action: str = "pipeline") -> str:
    body = {"action": action, "workspace": name, **({} if action == "score" else {"backend": "process"})}
    status, envelope = live.call("POST", "/submit", body, role="admin")
    assert status == 202, envelope
    return str(envelope["data"]["id"])


def seen(live: Installation, task: str) -> dict[str, Any]:
    return dict(live.call("GET", f"/tasks/{task}")[1]["data"])


@needs_root
@pytest.mark.prefect
@pytest.mark.slow
def test_a_task_waits_for_room_on_the_workspaces_disk_and_completes(live: Installation) -> None:
    for name in ("p", "s", "b"):
        model(live.root / name)
    for name in ("s", "b"):
        (live.root / name / "output").mkdir()
        (live.root / name / "output" / "pred.csv").write_text("id,label\na,cat\nb,dog\n")
    with filled(live.root):
        tasks = [submitted(live, "p"), submitted(live, "s", "score")]
        status, envelope = live.call("POST", "/batch", {"workspaces": ["b"], "action": "score"})
        assert status == 202, envelope
        tasks.append(envelope["data"]["id"])
        for task in tasks:
            view = eventually(lambda task=task: _waiting(live, task))
            assert "The workspaces' disk" in view["reason"] and str(live.root) not in view["reason"]
        # More often than infrastructure may fail it: this is not counted.
        eventually(lambda: seen(live, tasks[1])["attempts"] > 3)
        assert all(seen(live, task)["state"] in ("queued", "running") for task in tasks)
    for task in tasks:
        assert live.finished(task)["state"] == "completed", live.errors
    assert len(list((live.root / "s" / "output" / "history").glob("*"))) <= 1


def _waiting(live: Installation, task: str) -> dict[str, Any] | None:
    view = seen(live, task)
    assert view["state"] in ("queued", "running"), view
    return view if view["state"] == "queued" and "disk" in (view["reason"] or "") else None


@needs_root
@pytest.mark.prefect
@pytest.mark.slow
def test_an_accepted_task_outlives_a_full_home_and_submitting_says_which_disk_it_is(live: Installation) -> None:
    for name in ("q", "r"):
        model(live.root / name)
    (worker,) = live.pids()["workers"]
    os.kill(worker, signal.SIGSTOP)
    try:
        tasks = [submitted(live, "q"), submitted(live, "r", "validate")]
        runs = [eventually(lambda task=task: seen(live, task)["flow_run_id"]) for task in tasks]
        with filled(live.home):
            os.kill(worker, signal.SIGCONT)
            for run in runs:
                state = eventually(lambda run=run: _state(live, run, "AwaitingRoom"))
                assert "The home's disk is full" in state["message"] and str(live.home) not in state["message"]
            status, envelope = live.call("POST", "/submit", {"action": "score", "workspace": "q"})
            assert status in (202, 503), envelope
            if status == 503:
                assert envelope["error"]["code"] == "STORAGE_FULL" and envelope["error"]["details"]["disk"] == "home"
    finally:
        os.kill(worker, signal.SIGCONT)
    for task in tasks:
        assert live.finished(task)["state"] == "completed", live.errors


def _state(live: Installation, flow_run_id: str, name: str) -> dict[str, Any] | None:
    state = live.prefect("GET", f"/flow_runs/{flow_run_id}")["state"]
    assert state["type"] not in ("FAILED", "CRASHED", "CANCELLED"), state
    return dict(state) if state["name"] == name else None
