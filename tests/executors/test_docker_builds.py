"""Building a stranger's Dockerfile on a real engine: what it can't reach, and the limits that hold meanwhile."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.workspace_templates import write_workspace
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import DockerExecutor, Executors, Images, ResourceLimits, Security
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.meta import load_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import Image, SilentObserver
from autoscorer.executors.docker.engine import connect
from autoscorer.executors.docker.images import DockerImages

pytestmark = pytest.mark.docker

Mi = 1024**2


class Log(SilentObserver):
    """Remembers the lines of a build, and calls back at each."""

    def __init__(self, at_line: Callable[[str], None] | None = None) -> None:
        self.lines: list[str] = []
        self._at_line = at_line

    def log(self, line: str) -> None:
        self.lines.append(line)
        if self._at_line is not None:
            self._at_line(line)


@pytest.fixture
def build(docker_client: Any, settings: Settings, make_workspace: Callable[..., Path]) -> Iterator[Callable[..., Any]]:
    """Build a Dockerfile as a submission's, without network; the image is gone afterwards."""
    made: list[str] = []

    def run(dockerfile: str, log: Log | None = None, *, root: Path | None = None, **sections: Any) -> Image:
        space = Workspace(root or make_workspace(f"ws-{uuid.uuid4().hex}", container={}))
        if root is None:
            (space.root / "Dockerfile").write_text(dockerfile)
        values = {"images": Images(build_network="none", pull_policy="never"), **sections}
        images = DockerImages(docker_client, settings.model_copy(update=values))
        image = images.resolve(space, load_job(space), log or Log())
        made.append(image.reference)
        return image

    yield run
    for tag in made:
        docker_client.remove_image(tag, force=True)


@pytest.fixture
def loopback() -> Iterator[tuple[str, list[str]]]:
    """A service on the host's loopback, as an API without tokens is one, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"secret")

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def refused(build: Callable[..., Any], dockerfile: str, **sections: Any) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        build(dockerfile, **sections)
    return caught.value


@pytest.mark.parametrize(
    "step",
    [
        "ADD {0}/errors.csv /",
        "ARG URL={0}/errors.csv\nADD $URL /",
        "FROM {1} AS next\nONBUILD ADD {0}/errors.csv /\nFROM next",
        "# x\nadd \\\n  {0}/errors.csv /",
    ],
)
def test_nothing_is_fetched_from_the_hosts_loopback(
    build: Any, busybox: str, loopback: tuple[str, list[str]], step: str
) -> None:
    address, asked = loopback
    error = refused(build, f"FROM {busybox}\n" + step.format(address, busybox))
    assert error.code is ErrorCode.IMAGE_NOT_ALLOWED and error.exit_code == 1
    assert asked == []


def test_an_operator_who_trusts_the_dockerfiles_may_allow_anything(
    build: Any, busybox: str, loopback: tuple[str, list[str]]
) -> None:
    address, asked = loopback
    build(f"# syntax=docker/dockerfile:1\nFROM {busybox}\nADD {address}/x /\n", security=Security(dockerfiles="any"))
    assert "/x" in asked


def test_files_of_another_image_are_out_of_reach(build: Any, busybox: str, docker_client: Any) -> None:
    identity = docker_client.inspect_image(busybox)["Id"]
    for source in (busybox, identity, identity.removeprefix("sha256:")[:12], "0"):
        error = refused(build, f"FROM {busybox} AS a\nCOPY --from={source} /bin/busybox /stolen\n")
        assert error.code is ErrorCode.IMAGE_NOT_ALLOWED
        assert error.details["line"] == 2
    for policy in ("never", "ifnotpresent"):
        for begin in (identity, identity.removeprefix("sha256:")[:12], identity[:12]):
            error = refused(build, f"FROM {begin}\n", images=Images(build_network="none", pull_policy=policy))
            assert error.code is ErrorCode.IMAGE_NOT_ALLOWED and error.details["line"] == 1


def test_triggers_of_a_base_image_are_judged_before_they_run(
    build: Any, busybox: str, docker_client: Any, loopback: tuple[str, list[str]]
) -> None:
    address, asked = loopback
    trap = build(f"FROM {busybox}\nONBUILD ADD {address}/x /\n", security=Security(dockerfiles="any"))
    error = refused(build, f"FROM {trap.reference}\nRUN true\n")
    assert error.code is ErrorCode.IMAGE_NOT_ALLOWED and "ONBUILD" in error.message and error.details["line"] == 1
    assert asked == []
    honest = build(f"FROM {busybox}\nONBUILD RUN echo triggered\n")
    log = Log()
    build(f"FROM {honest.reference}\n", log)
    assert "triggered" in log.lines


def test_what_was_checked_is_what_it_begins_with(build: Any, busybox: str, docker_client: Any) -> None:
    """A tag could be moved between the check and the build; an id can't."""
    log = Log()
    step = f"RUN echo {uuid.uuid4().hex} > /x"
    build(f"ARG NAME={busybox}\nFROM $NAME AS one\n{step}\nFROM scratch\nCOPY --from=one /x /\n", log)
    assert any(f"FROM {docker_client.inspect_image(busybox)['Id']} AS one" in line for line in log.lines)


def test_a_base_image_of_the_operators_needs_no_name_that_patterns_allow(build: Any, busybox: str) -> None:
    build(
        "ARG BASE_IMAGE=python:3.12\nFROM ${BASE_IMAGE}\nRUN true\n",
        images=Images(build_args={"BASE_IMAGE": busybox}, build_network="none"),
        security=Security(allowed_images=("team/*",), allow_build=True),
    )


def test_what_init_writes_builds(build: Any, busybox: str, tmp_path: Path) -> None:
    write_workspace(str(tmp_path / "job"), "classification")
    build("", root=tmp_path / "job", images=Images(build_args={"BASE_IMAGE": busybox}, build_network="none"))


def test_a_build_has_limits(build: Any, busybox: str) -> None:
    log = Log()
    look = " && ".join(
        f"(cat /sys/fs/cgroup/{old} || cat /sys/fs/cgroup/{new}) 2>/dev/null | sed 's/^/{new}=/'"
        for old, new in [
            ("cpu/cpu.cfs_quota_us", "cpu.max"),
            ("memory/memory.limit_in_bytes", "memory.max"),
        ]
    )
    limits = ResourceLimits(cpu=0.5, memory=64 * Mi, nofile=512, pids=40)
    run = f"{look}; (cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes || echo {64 * Mi}) | sed 's/^/swap=/'"
    build(
        f"FROM {busybox}\nRUN {run}; echo nofile=$(ulimit -n) core=$(ulimit -c) # {uuid.uuid4().hex}\n",
        log,
        security=Security(limits=limits),
    )
    seen = {word for line in log.lines for word in line.split() if "=" in word}
    assert {f"memory.max={64 * Mi}", f"swap={64 * Mi}", "nofile=512", "core=0"} <= seen
    assert "cpu.max=50000" in seen


def test_a_fork_bomb_in_a_build_is_stopped(build: Any, busybox: str) -> None:
    """At most 300 sleepers, should the limit fail; the limit comes some hundredths of a second after the start."""
    log = Log()
    bomb = f"i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep 8 & usleep 10000; echo begun=$i; done # {uuid.uuid4().hex}"
    limits = ResourceLimits(pids=40, memory=256 * Mi)
    with pytest.raises(AutoScorerError) as caught:
        build(f"FROM {busybox}\nRUN {bomb}\n", log, security=Security(limits=limits))
    assert caught.value.code is ErrorCode.IMAGE_BUILD_FAILED
    words = " ".join(log.lines).split()
    begun = [int(word.removeprefix("begun=")) for word in words if re.fullmatch("begun=[0-9]+", word)]
    assert 10 < max(begun) <= 40, "the limit of processes did not hold"


def test_the_limit_is_for_containers_of_the_build_alone(build: Any, busybox: str, docker_client: Any) -> None:
    """A Dockerfile may write whatever it likes into its log, such as the id of somebody's container."""
    other = docker_client.create_container(busybox, ["sleep", "60"], network_disabled=True)["Id"]
    try:
        docker_client.start(other)
        build(f"FROM {busybox}\nRUN echo ' ---> Running in {other[:12]}'; sleep 1\n")
        assert not docker_client.inspect_container(other)["HostConfig"]["PidsLimit"]
    finally:
        docker_client.remove_container(other, force=True, v=True)


class Relay:
    """Stands between a client and the engine's socket, and can cut the connections that follow its events."""

    def __init__(self, path: Path) -> None:
        self._events: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self.address = f"unix://{path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect("/var/run/docker.sock")
            back = threading.Thread(target=self._copy, args=(engine, client, False), daemon=True)
            back.start()
            self._copy(client, engine, True)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if from_client and b"/events" in data[:100]:
                    self._events += [source, target]
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut_events(self) -> None:
        for end in self._events:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def test_a_build_that_cannot_be_limited_is_ended(
    busybox: str, docker_client: Any, settings: Settings, make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    """Without the engine's events nobody learns of a new container, so none may go on."""
    relay = Relay(tmp_path / "engine.sock")
    mark = uuid.uuid4().hex
    through = settings.model_copy(
        update={
            "executors": Executors(docker=DockerExecutor(base_url=relay.address)),
            "images": Images(build_network="none"),
        }
    )
    client = connect(through)
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo begun; sleep 60 # {mark}\n")
    log = Log(lambda line: relay.cut_events() if line == "begun" else None)
    try:
        with pytest.raises(AutoScorerError) as caught:
            DockerImages(client, through).resolve(Workspace(root), load_job(Workspace(root)), log)
    finally:
        client.close()
        relay.close()
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE and "processes of a build" in caught.value.message
    assert not [container for container in docker_client.containers() if mark in str(container["Command"])]


def test_a_platform_may_be_named(build: Any, busybox: str, docker_client: Any) -> None:
    architecture = docker_client.inspect_image(busybox)["Architecture"]
    build(f"FROM --platform=linux/{architecture} {busybox}\nRUN true\n")
