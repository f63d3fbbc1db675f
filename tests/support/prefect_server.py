"""A real Prefect server on a temporary SQLite database, and questions to it. Tests import the fixture ``server``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .calls import Answer, call
from .ports import free_port
from .prefect_database import put_database
from .processes import clean_environment
from .relay import Relay
from .shared import until_unneeded

__all__ = [
    "QUIET",
    "Gate",
    "PrefectServer",
    "Refused",
    "ask_prefect",
    "end_services",
    "eventually",
    "running_server",
    "server",
    "server_command",
]

T = TypeVar("T")

# As of an installation: a machine with far too much to do takes minutes.
START = 600.0
# Of every process of Prefect's: nothing is told to others, and logs come soon.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.2",
}

_shared: PrefectServer | None = None


def eventually(look: Callable[[], T], *, within: float = 600.0) -> T:
    """Ask until the answer is true, soon again at first; what it is then."""
    deadline, pause = time.monotonic() + within, 0.01
    while not (answer := look()):
        assert time.monotonic() < deadline, f"still {answer!r} after {within} s"
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return answer


class Refused(OSError):
    """Prefect's server answered with an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status}: {answer.body[:2000]!r}")
        self.answer = answer


def ask_prefect(api_url: str, method: str, path: str, body: Any = None) -> Any:
    """One request to Prefect's API; what it answers.

    Raises:
        Refused: It answers with an error.
        OSError: It does not answer.
    """
    answer = call(api_url + path, method, body, timeout=60)
    if answer.status >= 300:
        raise Refused(answer)
    return answer.json


def server_command(port: int, *options: str) -> list[str]:
    """Starts a Prefect server on a port of loopback."""
    where = ("--host", "127.0.0.1", "--port", str(port))
    return [sys.executable, "-m", "prefect", "server", "start", *where, *options]


class PrefectServer:
    """A server, its address, and what it has recorded."""

    def __init__(self, api_url: str, environment: dict[str, str], process: subprocess.Popen[bytes]) -> None:
        self.api_url = api_url
        self.environment = environment
        self.process = process

    def call(self, method: str, path: str, body: Any = None) -> Any:
        for _ in range(20):
            try:
                return ask_prefect(self.api_url, method, path, body)
            except Refused as refused:
                # SQLite is locked for a moment while the server writes events.
                if refused.answer.status != 503:
                    raise
            time.sleep(0.1)
        return ask_prefect(self.api_url, method, path, body)

    def flow_runs(self, name: str) -> list[Any]:
        """Runs of that name, newest first."""
        body = {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC"}
        return self.call("POST", "/flow_runs/filter", body)

    def flow_run(self, name: str) -> Any:
        """The newest run of that name."""
        return eventually(lambda: self.flow_runs(name))[0]

    def task_runs(self, flow_run_id: str, count: int) -> dict[str, Any]:
        """Task runs by name, once ``count`` of them are final."""
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}}

        def look() -> dict[str, Any]:
            runs = self.call("POST", "/task_runs/filter", body)
            final = [run for run in runs if run["end_time"]]
            return {run["name"]: run for run in runs} if len(final) == count else {}

        return eventually(look)

    def logs(self, flow_run_id: str, wanted: str) -> str:
        """The run's log as text, once it contains ``wanted``."""
        body = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_ASC"}

        def look() -> str:
            text = "\n".join(record["message"] for record in self.call("POST", "/logs/filter", body))
            return text if wanted in text else ""

        return eventually(look)

    def artifacts(self, flow_run_id: str) -> dict[str, Any]:
        """The run's artifacts by key."""
        body = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
        return {item["key"]: item for item in self.call("POST", "/artifacts/filter", body)}

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The server takes connections and answers nothing, as one that hangs does."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


class Gate(Relay):
    """A way to the server that can be cut."""

    def __init__(self, server: PrefectServer) -> None:
        host, port = server.api_url.removeprefix("http://").split("/")[0].split(":")
        self._target = (host, int(port))
        super().__init__()
        self.api_url = f"http://127.0.0.1:{self.port}/api"

    def reach(self) -> socket.socket:
        return socket.create_connection(self._target)

    def cut(self) -> None:
        """End every connection and take no new one."""
        self.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server for all tests of the session that use it; this process and its children talk to it."""
    global _shared
    if _shared is not None:
        # Each module that imports this fixture has one of its own, for pytest; a second server would take half a
        # minute, and Prefect's services in this process stay with the first.
        yield _shared
        return
    with contextlib.ExitStack() as ending:
        running = ending.enter_context(running_server(tmp_path_factory.mktemp("prefect")))
        patch = ending.enter_context(pytest.MonkeyPatch.context())
        for key, value in {**running.environment, "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}.items():
            patch.setenv(key, value)
        from prefect.settings import temporary_settings

        # Prefect reads the environment once, when it is imported: another test may have done that before.
        home = Path(running.environment["PREFECT_HOME"])
        ending.enter_context(temporary_settings({"api.url": running.api_url, "home": home}))
        # Prefect's background services would try for a minute, at exit, to reach a server that is gone.
        ending.callback(end_services)
        _shared = running
        until_unneeded("server", ending.close)
        yield running
    _shared = None


@contextlib.contextmanager
def running_server(folder: Path, **environment: str) -> Iterator[PrefectServer]:
    """A Prefect server of one's own, on a free port and a database in ``folder``, until it is left.

    Args:
        folder: Where its state and its log lie.
        environment: Variables of the server's process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str(folder / "server"), "PREFECT_SERVER_UI_API_URL": api_url, **environment}
    put_database(Path(own["PREFECT_HOME"]))
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            server_command(port),
            env={**clean_environment(), **QUIET, **own},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    client = {**QUIET, "PREFECT_HOME": str(folder / "client"), "PREFECT_API_URL": api_url}
    running = PrefectServer(api_url, client, process)
    try:
        eventually(lambda: _healthy(running, folder / "server.log"), within=START)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(running: PrefectServer, log: Path) -> bool:
    assert running.process.poll() is None, log.read_text(errors="replace")[-2000:]
    with contextlib.suppress(OSError):
        return running.call("GET", "/health") is True
    return False


def end_services() -> None:
    """End what Prefect's engine began in the background of this process; the next flow begins it anew.

    What it still holds is sent. Its connection for events is pinged with numbers of the generator that all of Python
    shares, and Hypothesis fails a test, whosever it is, in which another thread draws from that.
    """
    if "prefect.events.worker" not in sys.modules:
        return  # no flow ran here, and importing Prefect takes seconds
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=20)
