"""Who is served without tokens: the server's own user, and nobody who comes through a proxy or is somebody else.

Real servers, a real nginx in front of them, real other users; where whose a connection is can't be told, a token is
made and kept in the home.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .facade import facade, facade_settings, write_workspace
from .prefect_server import eventually

# Debian's user of web servers, and of nginx here.
OTHER = 33
SUBMIT_UNSEALED = {"workspace": "team-a", "backend": "process"}
_OTHERS = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]


@dataclass
class Served:
    """A real ``autoscorer serve``."""

    url: str
    home: Path
    environment: dict[str, str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def said(self) -> str:
        """What it has written so far."""
        return self.log.read_text()


def root_command() -> list[str]:
    """What makes a command root's; skips the test where nothing does."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    pytest.skip("only root can become another user")


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        return int(listener.getsockname()[1])


def curl(url: str, *options: str, before: tuple[str, ...] | list[str] = ()) -> tuple[int, Any]:
    """Status and JSON of what curl gets."""
    command = [*before, "curl", "-s", "-g", "--noproxy", "*", "-w", "\n%{http_code}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    body, _, status = done.stdout.rpartition("\n")
    try:
        return int(status), json.loads(body)
    except ValueError:
        return int(status), body


def as_json(body: Any) -> tuple[str, ...]:
    return "-H", "Content-Type: application/json", "-d", json.dumps(body)


@contextmanager
def serving(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    before: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Iterator[Served]:
    """``autoscorer serve`` as a process of its own, without Prefect: what it accepts is on disk.

    Args:
        folder: Holds its home and its workspaces, also those of a former start.
        host: Address it listens on.
        before: A command that starts it.
        environment: Further variables.
    """
    root, home = folder / "workspaces", folder / "home"
    root.mkdir(exist_ok=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AUTOSCORER_", "PREFECT_"))}
    variables = {
        **clean,
        "AUTOSCORER_HOME": str(home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        "AUTOSCORER_PREFECT__API_URL": "http://127.0.0.1:9/api",
        **(environment or {}),
    }
    port = free_port(host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log = folder / "serve.log"
    command = [*before, sys.executable, "-m", "autoscorer", "serve", "--host", host, "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=variables, cwd=root, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or _answers(host, port), within=60)
        assert process.poll() is None, log.read_text()
        yield Served(url, home, variables, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def proxy(folder: Path, target: str) -> Iterator[str]:
    """nginx as it comes, with a plain ``proxy_pass``: a master of root, workers of another user, no header of its own."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed")
    sudo = root_command()
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""
        user www-data; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {target}; }} }}
        }}
        """
    )
    process = subprocess.Popen([*sudo, "/usr/sbin/nginx", "-e", f"{folder}/nginx.log", "-c", str(configuration)])
    try:
        eventually(lambda: process.poll() is not None or _answers("127.0.0.1", port), within=30)
        assert process.poll() is None, (folder / "nginx.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        pid = (folder / "nginx.pid").read_text().strip()
        subprocess.run([*sudo, "kill", pid], check=True)
        process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One without tokens."""
    folder = tmp_path_factory.mktemp("served")
    write_workspace(folder / "workspaces", "team-a")
    with serving(folder) as running:
        yield running


def refusal(status: int, envelope: Any) -> str:
    """What a stranger is told."""
    assert status == 403, (status, envelope)
    assert envelope["error"]["code"] == "FORBIDDEN"
    assert "AUTOSCORER_API_TOKENS" in envelope["error"]["message"]
    return str(envelope["error"]["message"])


def test_a_plain_proxy_in_front_of_a_server_without_tokens_gives_nobody_anything(
    served: Served, tmp_path: Path
) -> None:
    with proxy(tmp_path, served.url) as outside:
        refusal(*curl(outside + "/submit", *as_json(SUBMIT_UNSEALED)))
        _, document = curl(served.url + "/openapi.json")
        routes = [(method, path) for path, operations in document["paths"].items() for method in operations]
        for method, path in (*routes, *(("get", path) for path in ("/", "/records", "/static/records.js", "/nowhere"))):
            body = as_json({}) if method == "post" else ()
            refusal(*curl(outside + path.replace("{", "").replace("}", ""), "-X", method.upper(), *body))


def test_another_user_of_the_machine_is_told_to_set_tokens(served: Served) -> None:
    before = [*root_command(), *_OTHERS]
    message = refusal(*curl(served.url + "/submit", *as_json(SUBMIT_UNSEALED), before=before))
    assert "user" in message
    refusal(*curl(served.url + "/healthz", before=before))


def test_the_users_own_curl_is_served_as_the_readme_writes_it(served: Served) -> None:
    status, envelope = curl(served.url + "/submit", *as_json(SUBMIT_UNSEALED))
    assert status == 202 and envelope["ok"] is True, envelope
