"""What was written for the first system, line by line: it works as it is written, and does what ours does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .markdown import ROOT

TOKENS = "submit:seed-submit,admin:seed-admin"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(home: Path, root: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTOSCORER_", "PREFECT_"))}
    return {
        **kept,
        "AUTOSCORER_HOME": str(home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        # Nothing listens there: a Prefect server that is away.
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        **more,
    }


@contextlib.contextmanager
def started(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=log.parent)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ask(port: int, path: str, process: subprocess.Popen[bytes], log: Path, *, token: str | None = None) -> Any:
    """The status and body of one route, once somebody listens."""
    deadline = time.monotonic() + 120
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


# --- the API's two commands --------------------------------------------------------------------------------------

UVICORN = [sys.executable, "-m", "uvicorn", "autoscorer.api.server:app"]
# As pip writes the script of `autoscorer-api`.
SCRIPT = "import sys; sys.argv[0] = 'autoscorer-api'; from {module} import {name}; sys.exit({name}())"


def autoscorer_api() -> list[str]:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["autoscorer-api"]
    module, _, name = entry.partition(":")
    return [sys.executable, "-c", SCRIPT.format(module=module, name=name)]


@pytest.mark.parametrize("command", ["uvicorn", "autoscorer-api"])
def test_the_api_starts_as_the_first_system_was_started(command: str, home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    line = [*(UVICORN if command == "uvicorn" else autoscorer_api()), "--host", "0.0.0.0", "--port", str(port)]
    env = environment(home, tmp_path, AUTOSCORER_API_TOKENS=TOKENS)
    with started(line, env, log) as process:
        assert ask(port, "/healthz", process, log)[0] == 200
        assert ask(port, "/scorers?of=seed-secret", process, log)[1]["error"]["code"] == "UNAUTHORIZED"
        status, body = ask(port, "/tasks?of=seed-secret", process, log, token="seed-submit")
        # Of the ledger, which is there once the application's lifespan has begun.
        assert (status, body["data"]["tasks"]) == (200, [])
        process.send_signal(signal.SIGTERM)
        # uvicorn raises the signal again at its end.
        assert process.wait(60) in (0, -signal.SIGTERM)
    # What stands in a query is not for the log.
    assert "/tasks" in log.read_text() and "seed-secret" not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "Set AUTOSCORER_API_TOKENS (role:token"),
        ({"AUTOSCORER_API_TOKENS": TOKENS, "AUTOSCORER_NONESUCH": "1"}, "AUTOSCORER_NONESUCH is no setting"),
        ({"AUTOSCORER_API_TOKENS": "root:x"}, "entry 1 is not of the form role:token"),
    ],
)
@pytest.mark.parametrize("command", ["uvicorn", "autoscorer-api"])
def test_an_api_that_is_wrongly_configured_ends_with_a_line(
    command: str, variables: dict[str, str], says: str, home: Path, tmp_path: Path
) -> None:
    line = [*(UVICORN if command == "uvicorn" else autoscorer_api()), "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(
        line, env=environment(home, tmp_path, **variables), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    told = done.stdout + done.stderr
    assert says in told and "Traceback" not in told
    assert done.returncode == (3 if command == "uvicorn" else 2)


def test_uvicorn_ends_with_a_line_where_another_api_has_the_home(home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    env = environment(home, tmp_path, AUTOSCORER_API_TOKENS=TOKENS)
    with started([*UVICORN, "--port", str(port)], env, log) as process:
        assert ask(port, "/healthz", process, log)[0] == 200
        second = subprocess.run([*UVICORN, "--port", "0"], env=env, capture_output=True, text=True, timeout=120)
        assert second.returncode == 3
        assert "AutoScorer can't start. CONFLICT" in second.stderr and "Traceback" not in second.stderr


def test_importing_the_application_reads_and_makes_nothing(home: Path) -> None:
    code = "import autoscorer.api.server as s, sys; assert s.app._app is None; assert 'prefect' not in sys.modules"
    env = {**os.environ, "AUTOSCORER_HOME": str(home), "AUTOSCORER_NONESUCH": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=120)
    assert list(home.iterdir()) == []
