"""AutoScorer in a container of the engine that runs its models, as in compose and in a Docker work pool.

It is then in a PID namespace of its own, and sees of a model's processes only what the host's mounted /proc shows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..support.markdown import BASE_IMAGE as BASE

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
SOCKET = "/var/run/docker.sock"
# As the Dockerfile has it.
USER = 10001
HOST = ["-v", "/proc:/host/proc:ro", "-v", "/sys/fs/cgroup:/host/sys/fs/cgroup:ro"]
REQUIRED = ["-e", "AUTOSCORER_EXECUTORS__DOCKER__REQUIRE_FULL_WATCH=true"]

# Each file stays under the limit of a single one, and is gone from its folder before it grows.
DELETED = (
    "cd /workspace/output; "
    + "".join(f"exec {n}>x{n}; rm x{n}; dd if=/dev/zero bs=1M count=15 >&{n} 2>/dev/null; " for n in range(3, 8))
    + "sleep %d; echo 1 > pred.csv"
)
# The same by a process that nobody but root may look into.
HIDDEN = (
    "import ctypes, os, time\n"
    "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
    "f = open('/workspace/output/x', 'wb'); os.unlink('/workspace/output/x'); f.write(bytes(15_000_000)); f.flush()\n"
    "time.sleep(%d)\n"
    "open('/workspace/output/pred.csv', 'w').close()\n"
)

Contained = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def contained(docker_client: Any, tmp_path: Path, home: Path) -> Contained:
    """Run an `autoscorer` command in a container, with this checkout's code; returns its exit code and its answer."""
    version = subprocess.run(
        ["docker", "run", "--rm", "--network=none", BASE, "python3", "-c", "import sys; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
    )
    if version.returncode != 0 or version.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip(f"{BASE} (scripts/build-base-image) and this Python are not of one version: {version.stdout}")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    program = (
        f"import site, sys; site.addsitedir({packages!r}); sys.argv[0] = 'autoscorer'; "
        "from autoscorer.cli.main import main; sys.exit(main())"
    )

    def run(*command: str, options: list[str], user: int = USER) -> tuple[int, dict[str, Any]]:
        for folder in (tmp_path, home):
            subprocess.run(["chown", "-R", f"{user}:{user}", folder], check=True)
        shared = [argument for path in (tmp_path, home) for argument in ("-v", f"{path}:{path}")]
        code = [argument for path in (ROOT, Path(packages)) for argument in ("-v", f"{path}:{path}:ro")]
        arguments = [
            *("docker", "run", "--rm", "--init", "--network=none", f"--user={user}:{user}"),
            *(() if user == 0 else ("--cap-drop=ALL",)),
            *("--security-opt=no-new-privileges", f"--group-add={os.stat(SOCKET).st_gid}", "-v", f"{SOCKET}:{SOCKET}"),
            *("-e", f"AUTOSCORER_HOME={home}", *shared, *code, *options, BASE, "python3", "-c", program, *command),
        ]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def _report(root: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((root / "logs" / "run_info.json").read_text())
    return report


def _watch_check(answer: dict[str, Any]) -> dict[str, Any]:
    (check,) = [check for check in answer["data"]["checks"] if check["name"] == "watch"]
    found: dict[str, Any] = check
    return found


def _model(make_workspace: Callable[..., Path], image: str, *command: str, name: str = "contained") -> Path:
    resources = {"memory": "64Mi", "disk": "20Mi"}
    return make_workspace(name, container={"image": image, "cmd": list(command)}, resources=resources, timeout=40)


def test_with_the_hosts_proc_the_limits_hold_and_use_is_measured(
    contained: Contained, make_workspace: Callable[..., Path], busybox: str
) -> None:
    attack = _model(make_workspace, busybox, "sh", "-c", DELETED % 30, name="attack")
    code, answer = contained("run", str(attack), options=HOST + REQUIRED)
    assert (code, answer["error"]["code"]) == (1, "RESOURCE_ERROR")
    assert answer["error"]["details"]["resource"] == "disk"

    bomb = _model(make_workspace, busybox, "sh", "-c", "while true; do sleep 60 & done", name="bomb")
    code, answer = contained("run", str(bomb), options=HOST + REQUIRED)
    assert answer["error"]["details"]["resource"] == "processes"

    honest = _model(
        make_workspace, busybox, "sh", "-c", "sleep 0.5; echo 1 > /workspace/output/pred.csv", name="honest"
    )
    code, _ = contained("run", str(honest), options=HOST + REQUIRED)
    report = _report(honest)
    assert code == 0
    assert report["resources"]["peak_memory_bytes"] > 0 and report["resources"]["cpu_seconds"] > 0
    assert report["unwatched"] == report["notes"] == []

    code, answer = contained("doctor", options=HOST + REQUIRED)
    assert (code, _watch_check(answer)["state"]) == (0, "ok")


def test_without_it_the_result_and_doctor_say_which_limits_are_not_held(
    contained: Contained, make_workspace: Callable[..., Path], busybox: str
) -> None:
    root = _model(make_workspace, busybox, "sh", "-c", DELETED % 3)
    code, _ = contained("run", str(root), options=[])
    report = _report(root)
    assert code == 0, "nobody can hold the limit here; if somebody does, the promise is better than this test"
    assert report["unwatched"] == ["deleted_files", "refused_processes"]
    assert "resources.disk" in report["notes"][0] and "processes that it was refused" in report["notes"][0]
    # The engine's own figures.
    assert report["resources"]["peak_memory_bytes"] > 0 and report["resources"]["cpu_seconds"] > 0

    code, answer = contained("doctor", options=[])
    check = _watch_check(answer)
    assert (code, check["state"]) == (0, "warn")
    assert "deleted files" in check["detail"] and "/host/proc" in check["advice"]


def test_where_the_full_watch_is_required_no_model_runs_without_it(
    contained: Contained, make_workspace: Callable[..., Path], busybox: str, docker_client: Any
) -> None:
    root = _model(make_workspace, busybox, "sh", "-c", "sleep 30")
    code, answer = contained("run", str(root), options=REQUIRED)
    assert (code, answer["error"]["code"]) == (3, "BACKEND_UNAVAILABLE")
    assert "/host/proc" in answer["error"]["message"] and "require_full_watch" in answer["error"]["message"]
    assert not docker_client.containers(all=True, filters={"label": "io.autoscorer.workspace=contained"})
    code, answer = contained("doctor", options=REQUIRED)
    assert (code, _watch_check(answer)["state"]) == (3, "fail")


def test_a_model_that_hides_its_open_files_is_ended_where_the_full_watch_is_required(
    contained: Contained, make_workspace: Callable[..., Path]
) -> None:
    root = _model(make_workspace, BASE, "python3", "-c", HIDDEN % 30)
    code, answer = contained("run", str(root), options=HOST + REQUIRED)
    assert (code, answer["error"]["code"]) == (1, "RESOURCE_ERROR")
    assert "PR_SET_DUMPABLE" in answer["error"]["message"]

    root = _model(make_workspace, BASE, "python3", "-c", HIDDEN % 4, name="told")
    code, _ = contained("run", str(root), options=HOST)
    assert code == 0
    assert _report(root)["unwatched"] == ["deleted_files"], "what was not seen must be told"


def test_root_in_a_container_is_told_what_it_lacks_to_watch_models_of_another_user(
    contained: Contained, make_workspace: Callable[..., Path], busybox: str
) -> None:
    root = _model(make_workspace, busybox, "sleep", "3")
    for options, unwatched, state in (
        (HOST, ["deleted_files"], "warn"),
        ([*HOST, "--cap-add=SYS_PTRACE"], [], "ok"),
    ):
        code, answer = contained("run", str(root), options=options, user=0)
        assert code == 0, answer
        assert _report(root)["unwatched"] == unwatched
        _, answer = contained("doctor", options=options, user=0)
        check = _watch_check(answer)
        assert check["state"] == state
    assert not check["advice"]
