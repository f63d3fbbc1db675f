"""Podman's Docker-compatible socket is refused with the reason, before anything is run on it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.docker.executor import DockerExecutor

# As Podman 4.3 answered on a socket of an ordinary user, shortened.
ANSWERS: dict[str, Any] = {
    "version": {"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Components": [{"Name": "Podman Engine"}]},
    "info": {
        "SecurityOptions": ["name=seccomp,profile=default"],
        "DefaultRuntime": "crun",
        "ServerVersion": "4.3.1",
        "NCPU": 2,
        "Rootless": True,
    },
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = json.dumps(ANSWERS[self.path.rpartition("/")[2]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "test"  # a socket's file has none

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A socket that answers as Podman's does."""
    path = tmp_path_factory.mktemp("s") / "podman"
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


def test_podman_is_refused_with_what_to_use_instead(podman: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman)
    executor = DockerExecutor(load_settings())
    with pytest.raises(AutoScorerError) as caught:
        executor.check()
    executor.close()
    assert caught.value.code == "BACKEND_UNAVAILABLE"
    assert "Podman" in caught.value.message and "bubblewrap" in caught.value.message


@pytest.mark.docker
def test_docker_is_not_taken_for_podman(docker_client: Any, tmp_path: Path) -> None:
    executor = DockerExecutor(load_settings())
    assert "Docker Engine" in executor.check()
    executor.close()
