"""AutoScorer in a container whose home and workspaces lie on a volume: the engine knows them by another path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.executors.docker.host_paths import engine_paths, own_container

from ..support.markdown import BASE_IMAGE as BASE

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
SOCKET = "/var/run/docker.sock"
DATA = "/srv/autoscorer"


def docker(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def volume(docker_client: Any) -> Iterator[str]:
    name = f"autoscorer-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


@pytest.fixture
def packages(python_image: str) -> Path:
    version = docker("run", "--rm", "--network=none", BASE, "python3", "-c", "import sys; print(sys.version_info[:2])")
    if version != str(sys.version_info[:2]):
        pytest.skip(f"{BASE} and this Python are not of one version: {version}")
    return next(Path(path) for path in sys.path if path.endswith("site-packages"))


@pytest.mark.parametrize("options", [[], ["--hostname=elsewhere", "--network=none"]], ids=["plain", "another hostname"])
def test_a_model_runs_on_a_workspace_that_lies_on_a_volume(
    volume: str, packages: Path, busybox: str, make_workspace: Callable[..., Path], options: list[str]
) -> None:
    command = ["sh", "-c", "cp input/data/x.csv output/pred.csv; cat /proc/self/mountinfo"]
    root = make_workspace("secret-name", container={"image": busybox, "cmd": command})
    docker("run", "--rm", "-v", f"{root}:/from:ro", "-v", f"{volume}:{DATA}", BASE,
           "sh", "-c", f"mkdir {DATA}/home {DATA}/workspaces; cp -r /from {DATA}/workspaces/secret-name")  # fmt: skip
    program = (
        f"import site, sys; site.addsitedir({str(packages)!r}); sys.argv[0] = 'autoscorer'; "
        "from autoscorer.cli.main import main; sys.exit(main())"
    )
    code = [argument for path in (ROOT, packages) for argument in ("-v", f"{path}:{path}:ro")]
    answer = json.loads(
        docker(
            *("run", "--rm", *options, "-v", f"{SOCKET}:{SOCKET}", "-v", f"{volume}:{DATA}", *code),
            *("-e", f"AUTOSCORER_HOME={DATA}/home", BASE, "python3", "-c", program),
            *("run", f"{DATA}/workspaces/secret-name"),
        )
    )
    assert answer["status"] == "success", answer
    read = ["run", "--rm", "-v", f"{volume}:{DATA}", BASE, "cat"]
    assert docker(*read, f"{DATA}/workspaces/secret-name/output/pred.csv") == "id,x\na,1\nb,2"
    # Where it lies is not for the model, here as elsewhere.
    assert "secret-name" not in docker(*read, f"{DATA}/workspaces/secret-name/logs/container.log")


def test_a_path_is_translated_by_the_nearest_mount_and_left_alone_where_there_is_none(
    docker_client: Any, volume: str, busybox: str, tmp_path: Path
) -> None:
    container = docker("create", "-v", f"{volume}:{DATA}", "-v", f"{tmp_path}:{DATA}/workspaces", busybox, "true")
    try:
        place = engine_paths(docker_client, container)
        on_host = Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume))
        assert place(Path(DATA)) == on_host
        assert place(Path(DATA, "home", "stage")) == on_host / "home" / "stage"
        assert place(Path(DATA, "workspaces", "a")) == tmp_path / "a"
        assert place(Path("/var/tmp/autoscorer-1")) == Path("/var/tmp/autoscorer-1")
        assert place(Path(DATA + "-other")) == Path(DATA + "-other")
    finally:
        docker("rm", container)
    # One of another engine, which this one does not know; and none at all.
    for other in ("0" * 64, None):
        assert engine_paths(docker_client, other)(Path(DATA)) == Path(DATA)


def test_a_container_is_known_by_what_the_engine_mounts_into_it(
    docker_client: Any, busybox: str, tmp_path: Path
) -> None:
    container = docker("create", "--hostname=elsewhere", busybox, "cat", "/proc/self/mountinfo")
    try:
        (tmp_path / "mountinfo").write_text(docker("start", "--attach", container))
        assert own_container(tmp_path / "mountinfo") == container
    finally:
        docker("rm", container)
    assert own_container(tmp_path / "nothing") is None
    if not os.path.exists("/.dockerenv"):
        assert own_container() is None
