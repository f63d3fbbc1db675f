"""The image of the Dockerfile at the root, built and run by the very commands of the README."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..docs.test_seed_config import SAMPLE
from ..support.calls import call
from ..support.checkout import image_commands, sh
from ..support.markdown import BASE_IMAGE, READMES, blocks_of, read
from ..support.prefect_server import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow]

DATA = "/srv/autoscorer"
# The machine may be busy with everything else.
PATIENCE = 400.0


def _commands() -> list[str]:
    """The two commands of the README, which the other README and the page of the service have as well."""
    (block,) = [block for block in blocks_of(read("README.md")) if any("docker run" in line for line in block.lines)]
    for name in (*READMES, "docs/service.md"):
        assert block in blocks_of(read(name)), name
    build, run = block.lines
    assert image_commands()[-1].replace(f" --build-arg BASE_IMAGE={BASE_IMAGE}", "") == build
    return [build, run]


class Container:
    """One container, started as the README says, on a free port and on a volume that has a name."""

    def __init__(self, image: str, folder: Path, volume: str) -> None:
        run = _commands()[1].replace("autoscorer:latest", image).replace("-p 8000:8000", "-p 127.0.0.1::8000")
        run = run.replace("docker run", f"docker run -v {volume}:{DATA}")
        self.id = sh("sh", "-c", run, cwd=folder)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(sh("docker", "inspect", "--format", "{{json .State}}", self.id))
        return found

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True)
        return done.stdout + done.stderr

    def wait_until_healthy(self) -> None:
        def healthy() -> bool:
            state = self.state()
            assert state["Running"], f"{state}\n{self.logs()}"
            return bool(state["Health"]["Status"] == "healthy")

        eventually(healthy, within=PATIENCE)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        address = sh("docker", "port", self.id, "8000/tcp").splitlines()[0]
        token = sh("docker", "exec", self.id, "cat", f"{DATA}/home/api-token")
        method = "GET" if body is None else "POST"
        return call(f"http://{address}{path}", method, body, token=token, timeout=PATIENCE).data

    def remove(self) -> None:
        sh("docker", "rm", "--force", self.id, code=None)


@pytest.fixture
def start(root_image: str, tmp_path: Path) -> Iterator[Callable[[], Container]]:
    (tmp_path / "config.yaml").write_text(SAMPLE)
    volume = f"autoscorer-test-{uuid.uuid4().hex[:12]}"
    started: list[Container] = []

    def begin() -> Container:
        started.append(Container(root_image, tmp_path, volume))
        return started[-1]

    yield begin
    for container in started:
        container.remove()
    sh("docker", "volume", "rm", "--force", volume)


def test_it_serves_runs_a_model_stops_in_order_and_goes_on(
    start: Callable[[], Container], make_workspace: Callable[..., Path], busybox: str
) -> None:
    first = start()
    first.wait_until_healthy()
    # The configuration that was mounted, and what must be known of it.
    assert "security.allowed_images is empty" in first.logs() and "Prefect is the queue" in first.logs()
    assert "api-token" in first.logs(), "how to read the token"
    assert sh("docker", "exec", first.id, "cat", f"{DATA}/home/api-token") not in first.logs()

    model = (
        "cp input/data/x.csv /dev/null && printf 'id,label\\na,SECRET-TRUTH-1\\nb,SECRET-TRUTH-2\\n' > output/pred.csv"
    )
    root = make_workspace("flowers", container={"image": busybox, "cmd": ["sh", "-c", model]})
    sh("docker", "cp", root, f"{first.id}:{DATA}/workspaces/")
    task = first.ask("/pipeline?wait=300", {"workspace": "flowers"})
    assert (task["state"], (task["outcome"] or {}).get("score")) == ("completed", 1.0), task
    result = first.ask("/result?workspace=flowers")
    assert result["summary"]["score"] == 1.0

    sh("docker", "stop", "-t", "120", first.id)
    assert first.state()["ExitCode"] == 0, first.logs()

    second = start()
    second.wait_until_healthy()
    again = second.ask(f"/tasks/{task['id']}")
    assert (again["state"], (again["outcome"] or {}).get("score")) == ("completed", 1.0), again
    assert second.ask("/score?wait=300", {"workspace": "flowers"})["state"] == "completed"
    # Everything of it is alive below an init process that takes what its parents left.
    assert sh("docker", "exec", second.id, "cat", "/proc/1/comm") == "dumb-init"


def test_a_wrong_configuration_is_told_in_words_and_the_container_ends(
    start: Callable[[], Container], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("securty: {}\n")
    container = start()
    assert sh("docker", "wait", container.id) == "2"
    assert "did you mean 'security'" in container.logs() and "Traceback" not in container.logs()
