"""A live installation: `autoscorer up` with real servers, workers and API. Tests import the fixture ``installation``.

It is started once, in folders of its own, on free ports, with a token for each role. It ends with the last file that
uses it, and nothing of it may be left: that is checked here. ``running`` starts others, for tests that break theirs.
"""

from __future__ import annotations

import contextlib
import json as json_module
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .calls import call
from .ports import free_port
from .prefect_database import put_database
from .prefect_server import ask_prefect, eventually
from .processes import clean_environment, processes_with
from .shared import until_unneeded
from .workspaces import TRUTH, write_workspace

__all__ = ["Installation", "installation", "running"]

# It takes ten seconds. A machine with ten times as much to do as it has processors took four minutes.
START = 600.0
# In order: API, workers, server.
STOP = 75.0


class Installation:
    """Where it is, and questions to it.

    Args:
        folder: Where its home and its workspaces are made.
        arguments: Of ``autoscorer up``; free ports are added.
        environment: Variables stronger than its own.
    """

    def __init__(self, folder: Path, arguments: tuple[str, ...] = (), environment: Mapping[str, str] = {}) -> None:
        self.home = folder / "home"
        self.root = folder / "workspaces"
        self.root.mkdir(parents=True, exist_ok=True)
        self._tokens = {role: secrets.token_hex(16) for role in ("submit", "admin")}
        self.environment = {
            **clean_environment(),
            "AUTOSCORER_HOME": str(self.home),
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "AUTOSCORER_API_TOKENS": ",".join(f"{role}:{token}" for role, token in self._tokens.items()),
            # Receivers of callbacks are on loopback here.
            "AUTOSCORER_CALLBACKS__ALLOW_PRIVATE": "true",
            **environment,
        }
        self._arguments = arguments
        self.process: subprocess.Popen[str] | None = None
        self.said: list[str] = []
        self.url = ""
        self.prefect_url = ""

    @property
    def roots(self) -> tuple[Path, ...]:
        return (self.root,)

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        if "PREFECT_HOME" not in self.environment:
            put_database(self.home / "prefect")
        # Not 0, for any: the kernel could give those to somebody else before the servers, which take long, have them.
        ports = ["--api-port", str(free_port()), "--prefect-port", str(free_port())]
        with (self.home / "up.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "autoscorer", "up", *ports, *self._arguments],
                env=self.environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.said = []
        reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        reader.start()
        eventually(lambda: self.answer is not None or not self.is_up, within=START)
        answer = self.answer
        assert answer is not None and answer["status"] == "success", f"{''.join(self.said)}\n{self.errors}"
        self.url, self.prefect_url = answer["data"]["api"], answer["data"]["prefect"] + "/api"

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.said.append(line)

    @property
    def answer(self) -> dict[str, Any] | None:
        """What it said on stdout; None before it said anything whole."""
        with contextlib.suppress(ValueError):
            return dict(json_module.loads("".join(self.said)))
        return None

    @property
    def errors(self) -> str:
        """What it and its children wrote."""
        texts = [(self.home / "up.err").read_text(errors="replace")]
        texts += [
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in sorted(self.home.glob("logs/*.log"))
        ]
        return "\n".join(texts)

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does, and check that nothing of it is left; its exit code."""
        assert self.process is not None
        if self.is_up:
            self.process.send_signal(number)
        try:
            code = self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop within {STOP} s\n{self.errors}") from None
        self.check_gone()
        return code

    def kill(self) -> None:
        """kill -9 of ``autoscorer up`` itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def check_gone(self) -> None:
        """No process of it lives."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.processes())
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}\n{self.errors}"

    def processes(self) -> dict[int, str]:
        """Every living process that was started with this home, whoever its parent is."""
        return processes_with(AUTOSCORER_HOME=self.home)

    def pids(self) -> dict[str, list[int]]:
        """The processes: up, server, api, workers. One that is being restarted is left out."""
        found: dict[str, list[int]] = {"up": [], "server": [], "api": [], "workers": []}
        with contextlib.suppress(OSError, ValueError):
            state = json_module.JSONDecoder().raw_decode((self.home / "up.lock").read_text())[0]
            found["up"].append(state["pid"])
            for name, child in state["children"].items():
                kind = "workers" if name.startswith("worker") else name
                if kind in found and Path(f"/proc/{child['pid']}").exists():
                    found[kind].append(child["pid"])
        return found

    def token(self, role: str) -> str:
        """The token of ``submit`` or ``admin``."""
        return self._tokens[role]

    def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        role: str | None = "submit",
        headers: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> tuple[int, dict[str, Any]]:
        """One request to the API: status and envelope. ``role`` None sends no token."""
        token = None if role is None else self.token(role)
        answer = call(self.url + path, method, json, token=token, headers=headers, timeout=timeout)
        return answer.status, answer.json or {}

    def person(self, role: str = "submit") -> dict[str, str]:
        """The environment of another user's shell: an address, a token, and nothing else."""
        own = {"AUTOSCORER_API_URL": self.url, "AUTOSCORER_API_TOKEN": self.token(role), "PYTHONUNBUFFERED": "1"}
        return {**clean_environment(), **own}

    def begin(self, *arguments: str, role: str = "submit") -> subprocess.Popen[str]:
        """Start ``autoscorer`` with these arguments there."""
        return subprocess.Popen(
            [sys.executable, "-m", "autoscorer", *arguments],
            env=self.person(role),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str, role: str = "submit") -> tuple[int, dict[str, Any], str]:
        """Run it to its end: exit code, envelope, and what it said on stderr."""
        process = self.begin(*arguments, role=role)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        return process.returncode, json_module.loads(out), err

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        with contextlib.suppress(OSError, ValueError):
            return self.call("GET", "/readyz", role=None)[0] == 200
        return False

    def prefect(self, method: str, path: str, body: Any = None) -> Any:
        """One request to Prefect's API."""
        return ask_prefect(self.prefect_url, method, path, body)

    @contextlib.contextmanager
    def with_prefect_hanging(self) -> Iterator[None]:
        """Prefect's server takes connections and answers nothing, inside."""
        (server,) = self.pids()["server"]
        os.kill(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    @contextlib.contextmanager
    def without_prefect(self) -> Iterator[None]:
        """There is no server of Prefect, inside; it was killed, and is started again afterwards."""
        ((up,), (server,)) = self.pids()["up"], self.pids()["server"]
        os.kill(up, signal.SIGSTOP)
        try:
            os.kill(server, signal.SIGKILL)
            yield
        finally:
            os.kill(up, signal.SIGCONT)

    def finished(self, task_id: str, *, within: float = 600.0) -> dict[str, Any]:
        """The task, once it has ended."""

        def look() -> dict[str, Any] | None:
            with contextlib.suppress(OSError):  # the API may be away: some tests kill it
                status, envelope = self.call("GET", f"/tasks/{task_id}")
                assert status in (200, 503), envelope
                if status == 200 and envelope["data"]["state"] in ("completed", "failed", "cancelled"):
                    return dict(envelope["data"])
            return None

        found = eventually(look, within=within)
        assert found is not None
        return found

    def workspace(self, name: str, *, truth: str | None = None, pred: str | None = None, **meta: Any) -> Path:
        """A small workspace under the root that scores 1.0 at once; keywords go into meta.json.

        Args:
            name: Its folder under the root.
            truth: Content of input/gt.csv.
            pred: Content of output/pred.csv; an empty text for none.
        """
        pred = None if pred == "" else pred or truth or TRUTH
        return write_workspace(self.root, name, truth=truth or TRUTH, pred=pred, **meta)


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Iterator[Installation]:
    """A further installation, for a test that breaks it; it is stopped and checked in the end."""
    one = Installation(folder, arguments, environment)
    one.start()
    try:
        yield one
    finally:
        if one.is_up:
            one.stop()
        one.check_gone()


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation for all tests of the session that use it."""
    with contextlib.ExitStack() as ending:
        one = ending.enter_context(running(tmp_path_factory.mktemp("installation")))

        def check() -> None:
            assert one.is_up, one.errors
            # Whoever broke something in it has mended it.
            eventually(one.is_ready, within=300)

        ending.callback(check)
        until_unneeded("installation", ending.close)
        yield one
