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


def _inside(image: str, script: str, *options: str) -> str:
    return sh("docker", "run", "--rm", *options, "--entrypoint", "sh", image, "-c", script)


def test_nothing_is_in_the_image_that_nobody_runs_there(root_image: str) -> None:
    tools = _inside(root_image, "for name in cc gcc g++ ld make pip git; do command -v $name; done; true")
    # A base from a registry brings a pip of its own, which knows nothing of the environment that everything runs in.
    assert [path for path in tools.splitlines() if not path.endswith("/pip") or path.startswith("/opt/")] == []
    packages = r"/opt/autoscorer -regex '.*/site-packages/\(joblib\|numpy\|pandas\|scipy\|sklearn\)/.*'"
    assert _inside(root_image, f"find {packages} -type d -name tests") == ""
    ours = "/opt/autoscorer/lib/python3*/site-packages/autoscorer"
    assert _inside(root_image, f"cd {ours} && ls -d tests benchmarks docs .git .venv 2>/dev/null; true") == ""
    assert _inside(root_image, "find / -xdev \\( -name .cache -o -name '*.whl' -o -path '*/secrets/*.env' \\)") == ""
    # The interpreter need not compile what a read-only root could not keep.
    assert int(_inside(root_image, f"find {ours} -name '*.pyc' | wc -l")) > 100


def test_it_works_as_somebody_special_to_nobody_on_a_read_only_root(root_image: str) -> None:
    """As the pods of deployments/kubernetes run it."""
    sealed = ["--user", "10001:10001", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    sealed += ["--tmpfs", "/tmp", "--env", "HOME=/tmp", "--env", "PREFECT_HOME=/tmp/prefect", "--network", "none"]
    version = _inside(root_image, "autoscorer --version && id -u && ! touch /opt/autoscorer/x 2>/dev/null", *sealed)
    assert version.splitlines()[-1] == "10001"
    modules = "autoscorer.worker.worker, autoscorer.api.app, autoscorer.executors.kubernetes.api, sklearn, pandas"
    imported = f"import {modules}, prefect_kubernetes, prefect_docker, prefect_redis, prefect.server.api.server"
    assert _inside(root_image, f'python -W ignore -c "{imported}; print(1)"', *sealed).splitlines()[-1] == "1"
