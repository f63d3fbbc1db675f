"""Whatever happens to the process that runs a model, no container stays and the workspace remains usable."""

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
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.processes import ProcessIdentity
from autoscorer.executors.docker.container_config import LABEL, NAME
from autoscorer.executors.docker.executor import DockerExecutor
from autoscorer.executors.reaper import reap
from autoscorer.executors.records import RunRecords

from ..support.prefect_server import eventually
from ..support.workspaces import result_of

pytestmark = pytest.mark.docker


def _containers(client: Any, name: str) -> list[Any]:
    found: list[Any] = client.containers(all=True, filters={"label": f"{LABEL}workspace={name}"})
    return found


def _start(root: Path, *, command: str = "run") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "autoscorer", command, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _command(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([sys.executable, "-m", "autoscorer", *arguments], capture_output=True, timeout=300)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def sleeper(make_workspace: Callable[..., Path], busybox: str, request: pytest.FixtureRequest) -> Path:
    """A workspace whose model sleeps until it is killed."""
    script = "trap '' TERM INT; echo started; echo half > /workspace/output/pred.csv; while true; do sleep 1; done"
    name = "crash-" + request.node.name.replace("[", "-").replace("]", "").lower()
    return make_workspace(name, container={"image": busybox, "cmd": ["sh", "-c", script]}, timeout=300)


@pytest.mark.parametrize("next_command", ["run", "score", "validate", "reap"])
def test_kill_9_and_the_next_command_clears_up(
    sleeper: Path, docker_client: Any, home: Path, next_command: str
) -> None:
    process = _start(sleeper)
    eventually(lambda: _containers(docker_client, sleeper.name) and (sleeper / "logs" / "container.log").stat().st_size)
    process.kill()
    process.communicate()
    assert _containers(docker_client, sleeper.name), "the container should have outlived its owner"
    (record,) = RunRecords(home).all()
    assert [place for place in (record.staged, *record.elsewhere) if place.is_dir()], "nothing was staged"
    meta = json.loads((sleeper / "meta.json").read_text())
    meta["container"]["cmd"] = ["sh", "-c", "echo ok > /workspace/output/pred.csv"]
    (sleeper / "meta.json").write_text(json.dumps(meta))
    _command(*([next_command] if next_command == "reap" else [next_command, str(sleeper)]))
    assert not _containers(docker_client, sleeper.name)
    assert not [place for place in (record.staged, *record.elsewhere) if place.exists()]
    assert not list((home / "runs").glob("*"))
    code, answer = _command("run", str(sleeper))
    assert code == 0, answer
    assert (sleeper / "output" / "pred.csv").read_text() == "ok\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each model a uid of its own")
def test_the_uid_of_a_dead_run_is_free_once_its_container_is_gone(
    sleeper: Path, docker_client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lock dies with its process, but the model may be running yet. No home gives out its uid then."""
    uid = 2_090_000_000 + os.getpid()
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__UID_RANGE", f"{uid}-{uid}")

    def next_uid(settings: Settings) -> int | str:
        executor = DockerExecutor(settings)
        try:
            return executor.owner()[0]
        except AutoScorerError as error:
            return error.code.value
        finally:
            executor.close()

    here, elsewhere = load_settings(), load_settings().model_copy(update={"home": tmp_path / "another-home"})
    assert next_uid(here) == next_uid(elsewhere) == uid
    process = _start(sleeper)
    eventually(lambda: _containers(docker_client, sleeper.name) and (sleeper / "logs" / "container.log").stat().st_size)
    assert next_uid(here) == next_uid(elsewhere) == "BACKEND_UNAVAILABLE", "it was given out twice"
    process.kill()
    process.communicate()
    assert next_uid(here) == next_uid(elsewhere) == "BACKEND_UNAVAILABLE", "its container was running yet"
    assert reap(here).problems == []
    assert next_uid(here) == next_uid(elsewhere) == uid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_removes_the_container_and_leaves_a_result(sleeper: Path, docker_client: Any, number: int) -> None:
    process = _start(sleeper, command="pipeline")
    eventually(lambda: _containers(docker_client, sleeper.name) and (sleeper / "logs" / "container.log").stat().st_size)
    process.send_signal(number)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert json.loads(out)["error"]["code"] == "CANCELLED"
    assert not _containers(docker_client, sleeper.name)
    result = result_of(sleeper)
    assert result["error"]["code"] == "CANCELLED" and result["summary"]["score"] is None
    assert not (sleeper / "output" / "pred.csv").exists()
    assert (sleeper / "logs" / "container.log").read_text() == "started\n"


def test_a_second_run_of_the_same_workspace_is_refused(sleeper: Path, docker_client: Any) -> None:
    process = _start(sleeper)
    eventually(lambda: _containers(docker_client, sleeper.name))
    code, answer = _command("run", str(sleeper))
    assert (code, answer["error"]["code"]) == (2, "CONFLICT")
    assert len(_containers(docker_client, sleeper.name)) == 1, "the first run must go on undisturbed"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)


def test_the_reaper_leaves_the_living_and_strangers_alone(docker_client: Any, busybox: str, settings: Settings) -> None:
    """Only containers with our name AND labels whose owner is dead or whose deadline passed are removed."""
    mine = ProcessIdentity.current().text
    dead = mine.rpartition("|")[0] + "|1"
    later, past = str(int(time.time()) + 900), str(int(time.time()) - 1)
    cases = {
        "alive": (NAME + "aaaa1", {"run": "aaaa1", "owner": mine, "deadline": later}, False),
        "dead": (NAME + "aaaa2", {"run": "aaaa2", "owner": dead, "deadline": later}, True),
        "late": (NAME + "aaaa3", {"run": "aaaa3", "owner": mine, "deadline": past}, True),
        "elsewhere": (NAME + "aaaa4", {"run": "aaaa4", "owner": "other-host|b|1|1|1", "deadline": later}, False),
        "other-name": ("somebodys-own", {"run": "aaaa5", "owner": dead, "deadline": past}, False),
        "no-labels": (NAME + "aaaa6", {}, False),
    }
    made = {}
    try:
        for key, (name, labels, _) in cases.items():
            made[key] = docker_client.create_container(
                busybox, ["true"], name=name, labels={LABEL + label: value for label, value in labels.items()}
            )["Id"]
        done = reap(settings)
        left = {container["Id"] for container in docker_client.containers(all=True)}
        assert {key for key, id_ in made.items() if id_ not in left} == {key for key, case in cases.items() if case[2]}
        assert done.problems == []
    finally:
        for id_ in made.values():
            subprocess.run(["docker", "rm", "-f", id_], capture_output=True)


def test_an_engine_that_is_away_is_ours(
    make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = make_workspace(container={"image": "x", "cmd": ["true"]})
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    code, answer = _command("run", str(root), "--backend", "docker")
    assert (code, answer["error"]["code"]) == (3, "BACKEND_UNAVAILABLE")
    assert "Docker Engine" in answer["error"]["message"]
    result = result_of(root)
    assert result["error"]["code"] == "BACKEND_UNAVAILABLE"
    assert set(os.listdir(root / ".autoscorer")) <= {"lock", "artifacts"}
