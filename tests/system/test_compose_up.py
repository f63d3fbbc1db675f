"""deployments/compose.yaml brought up for real, by the commands of docs/service.md: it works, and a server may die."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.calls import call
from ..support.checkout import checkout, fill_wheels, sh
from ..support.compose import OVERRIDE, docker_compose, services_image
from ..support.markdown import BASE_IMAGE, ROOT
from ..support.ports import free_port
from ..support.prefect_server import eventually
from ..support.work_pools import QUICK, WAITING, block_of, containers, go, write_model

__all__ = ["docker_compose", "services_image"]

pytestmark = [pytest.mark.docker, pytest.mark.prefect, pytest.mark.slow]

USER = 10001
# Everything starts at once, and the machine may be busy with everything else.
PATIENCE = 600.0


class Composed:
    """What stands after ``docker compose up``.

    Args:
        folder: Its data.
        context: The checkout that it is started in.
        plugin: Variables with which ``docker compose`` is there.
    """

    def __init__(self, folder: Path, context: Path, plugin: dict[str, str]) -> None:
        self.project = f"autoscorer-test-{uuid.uuid4().hex[:8]}"
        self.data, self.context = folder / "srv", context
        self.port = free_port()
        exports, self._up = block_of("docs/service.md", "## Compose, and more than one of each")
        assert exports.startswith("export POSTGRES_PASSWORD=… AUTOSCORER_API_TOKENS=submit:…,admin:… DOCKER_GID=$(stat")
        self.environment = {
            **os.environ,
            **plugin,
            "POSTGRES_PASSWORD": uuid.uuid4().hex,
            "AUTOSCORER_API_TOKENS": "submit:of-a-team,admin:of-the-operator",
            "DOCKER_GID": str(os.stat("/var/run/docker.sock").st_gid),
            # What the file says that can be set.
            "AUTOSCORER_DATA": str(self.data),
            "AUTOSCORER_IMAGE": "autoscorer-test-compose",
            "AUTOSCORER_PORT": str(self.port),
            "PREFECT_PORT": str(free_port()),
            "BASE_IMAGE": BASE_IMAGE,
            "COMPOSE_PROJECT_NAME": self.project,
            # The builder of `docker build` here, whose layers the other tests' image has.
            "DOCKER_BUILDKIT": "0",
        }

    def sh(self, command: str, *, check: bool = True) -> str:
        file = "-f deployments/compose.yaml"
        assert file in command
        command = command.replace(file, f"{file} -f {OVERRIDE.relative_to(ROOT)}")
        done = subprocess.run(
            command, shell=True, cwd=self.context, env=self.environment,
            capture_output=True, text=True, timeout=2 * PATIENCE,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{self.logs()}"
        return done.stdout

    def up(self) -> None:
        self.sh(self._up)

    def down(self) -> None:
        self.sh("docker compose -f deployments/compose.yaml down --volumes", check=False)

    def logs(self) -> str:
        command = ["docker", "compose", "logs", "--no-color", "--tail", "25"]
        done = subprocess.run(command, cwd=self.context, env=self.environment, capture_output=True, text=True)
        return done.stdout[-12000:] + done.stderr[-2000:]

    def containers(self, service: str | None = None) -> list[str]:
        """Those of a service that run, or all that there are."""
        labels = [f"label=com.docker.compose.project={self.project}"]
        if service is not None:
            labels += [f"label=com.docker.compose.service={service}", "status=running"]
        return sh("docker", "ps", "--all", "--quiet", *(part for each in labels for part in ("--filter", each))).split()

    def submit(self, name: str, image: str, command: str = QUICK) -> str:
        """Put a workspace under the root and submit it; the task's id."""
        root = write_model(self.data / "workspaces", name, image, command)
        for path in (root, *root.rglob("*")):
            shutil.chown(path, USER, USER)
        return str(self.ask("/submit", {"workspace": name})["id"])

    def scored(self, task_id: str) -> dict[str, Any]:
        """The task, once it has ended; it must have scored 1.0."""

        def ended() -> dict[str, Any] | None:
            found = self.ask(f"/tasks/{task_id}")
            return found if found["state"] in ("completed", "failed", "cancelled") else None

        task = eventually(ended, within=PATIENCE)
        assert task is not None
        assert (task["state"], (task["outcome"] or {}).get("score")) == ("completed", 1.0), f"{task}\n{self.logs()}"
        return task

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        method = "GET" if body is None else "POST"
        return call(f"http://127.0.0.1:{self.port}{path}", method, body, token="of-a-team").data


@pytest.fixture(scope="module")
def composed(
    root_image: str, services_image: str, docker_compose: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("compose")
    context = checkout(folder / "checkout")
    fill_wheels(context)
    one = Composed(folder, context, docker_compose)
    try:
        one.up()
        yield one
    finally:
        one.down()
        sh("docker", "rmi", one.environment["AUTOSCORER_IMAGE"], code=None)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to the user of the containers")
def test_it_runs_pipelines_also_after_a_server_was_killed_and_leaves_nothing(composed: Composed, busybox: str) -> None:
    task = composed.scored(composed.submit("team-a", busybox))
    result = composed.data / "workspaces" / "team-a" / "output" / "result.json"
    assert json.loads(result.read_text())["versioning"]["flow_run_id"] == task["flow_run_id"]
    assert result.stat().st_uid == USER

    # Prefect's page, by the one address of both servers.
    with urllib.request.urlopen(f"http://127.0.0.1:{composed.environment['PREFECT_PORT']}/", timeout=120) as page:
        assert b"<title>Prefect" in page.read()

    first, second = composed.containers("prefect-server")
    sh("docker", "kill", first)
    composed.scored(composed.submit("team-b", busybox))
    assert composed.containers("prefect-server") == [second]

    # Any of the APIs answers for all, and one of them is enough.
    apis = composed.containers("api")
    assert len(apis) == 3
    waiting = composed.submit("team-d", busybox, WAITING)
    for each in apis[:2]:
        sh("docker", "kill", each)
    go(composed.data / "workspaces" / "team-d")
    composed.scored(waiting)

    # The API has no engine: what a killed run left is removed by its next attempt.
    task_id = composed.submit("team-c", busybox, WAITING)
    flow_run = eventually(lambda: composed.ask(f"/tasks/{task_id}")["flow_run_id"])
    eventually(lambda: containers(flow_run), within=PATIENCE)
    log = composed.data / "workspaces" / "team-c" / "logs" / "container.log"
    eventually(lambda: log.is_file() and "ready" in log.read_text(), within=PATIENCE)
    sh("docker", "kill", *sh("docker", "ps", "--quiet", "--filter", f"label=io.prefect.flow-run-id={flow_run}").split())
    go(composed.data / "workspaces" / "team-c")
    assert composed.scored(task_id)["attempts"] == 2
    assert containers(flow_run) == []

    composed.down()
    mine = f"label=com.docker.compose.project={composed.project}"
    assert composed.containers() == []
    for kind in ("network", "volume"):
        assert sh("docker", kind, "ls", "--quiet", "--filter", mine) == ""
    # Flow runs' containers, and those of models, mount these folders.
    assert sh("docker", "ps", "--all", "--quiet", "--filter", f"volume={composed.data}") == ""
