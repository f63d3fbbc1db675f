"""Two APIs and a worker with a home each, as on three hosts: they have the ledger and the workspaces in common."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from autoscorer.service.callbacks import verify

from ..api.test_api_scorers import write
from ..support.calls import Answer, call
from ..support.ports import free_port
from ..support.postgres import Postgres
from ..support.postgres import postgres as postgres
from ..support.prefect_server import PrefectServer, eventually, running_server
from ..support.processes import Processes, clean_environment
from ..support.processes import processes as processes
from ..support.receiver import Receiver
from ..support.receiver import receiver as receiver
from ..support.workspaces import result_of, write_workspace

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

AUTOSCORER = [sys.executable, "-m", "autoscorer"]


class Hosts:
    """The APIs ``a`` and ``b``, and a worker."""

    def __init__(self, processes: Processes, server: PrefectServer, ledger_url: str) -> None:
        self._processes = processes
        self.root = processes.folder / "workspaces"
        self.root.mkdir()
        self._common = {
            **clean_environment(),
            **server.environment,
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "AUTOSCORER_LEDGER_URL": ledger_url,
            "AUTOSCORER_API_TOKENS": "admin:secret",
            "AUTOSCORER_CALLBACKS__ALLOW_PRIVATE": "true",
        }
        processes.run(*AUTOSCORER, "deploy", environment=self._environment("a"))
        self._ports = {name: free_port() for name in "ab"}
        self._apis = {
            name: processes.start(
                name, *AUTOSCORER, "serve", "--port", str(port), "--json", environment=self._environment(name)
            )
            for name, port in self._ports.items()
        }
        processes.start("worker", *AUTOSCORER, "worker", "--limit", "2", environment=self._environment("worker"))
        for name in self._ports:
            eventually(lambda name=name: self._is_there(name), within=300)

    def _environment(self, name: str) -> dict[str, str]:
        return {**self._common, "AUTOSCORER_HOME": str(self.home(name))}

    def _is_there(self, name: str) -> bool:
        assert self._apis[name].poll() is None, self._processes.log(name)[-3000:]
        try:
            return self.ask(name, "GET", "/healthz").status == 200
        except OSError:
            return False

    def home(self, name: str) -> Path:
        return self._processes.folder / f"home-{name}"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def ask(self, name: str, method: str, path: str, body: Any = None) -> Answer:
        return call(self.url(name) + path, method, body, token="secret")

    def scored(self, name: str, workspace: str, **more: Any) -> dict[str, Any]:
        """Score a workspace with the scorer ``shared``; the task as it has ended."""
        wanted = {"workspace": workspace, "action": "score", "scorer": "shared", **more}
        asked = self.ask(name, "POST", "/submit", wanted)
        assert asked.status == 202, asked.body

        def ended() -> dict[str, Any] | None:
            task: dict[str, Any] = self.ask(name, "GET", f"/tasks/{asked.data['id']}").data
            return task if task["state"] in ("completed", "failed", "cancelled") else None

        task = eventually(ended, within=300)
        assert task is not None and task["state"] == "completed", (task, self._processes.log("worker")[-3000:])
        return task


@pytest.fixture
def hosts(processes: Processes, postgres: Postgres, tmp_path: Path) -> Iterator[Hosts]:
    with running_server(tmp_path / "prefect") as server:
        yield Hosts(processes, server, postgres.ledger_url())
        processes.stop()


def test_scorers_links_and_callbacks_are_the_installations(hosts: Hosts, receiver: Receiver, tmp_path: Path) -> None:
    write_workspace(hosts.root, "team")
    file = write(tmp_path / "scorers" / "shared.py", "shared", value=0.25)
    loaded = hosts.ask("a", "POST", "/scorers/load", {"path": str(file), "watch": False})
    assert loaded.status == 200, loaded.body
    # At once: the worker looks when it takes a run.
    hosts.scored("a", "team")
    result = result_of(hosts.root / "team")
    assert result["summary"]["score"] == 0.25
    assert result["versioning"]["scorer_sha256"] == loaded.data["scorers"][0]["sha256"]
    eventually(lambda: hosts.ask("b", "GET", "/scorers/shared").status == 200)

    write(file, "shared", value=0.75, version="2.0.0")
    reloaded = hosts.ask("b", "POST", "/scorers/reload", {"id": "shared"})
    assert reloaded.status == 200 and reloaded.data["changes"][0]["change"] == "new version", reloaded.body
    task = hosts.scored("b", "team", callback_url=receiver.url)
    result = result_of(hosts.root / "team")
    assert (result["summary"]["score"], result["versioning"]["scorer_version"]) == (0.75, "2.0.0")
    assert result["versioning"]["scorer_sha256"] == reloaded.data["changes"][0]["sha256"]
    eventually(lambda: hosts.ask("a", "GET", "/scorers/shared").data["version"] == "2.0.0")

    # What one signs the other knows.
    link = hosts.ask("a", "POST", f"/tasks/{task['id']}/links", {"artifact": "report.html"})
    assert link.status == 200, link.body
    opened = call(hosts.url("b") + urlsplit(link.data["url"]).path)
    assert opened.status == 200 and b"<html" in opened.body, opened.body[:200]
    eventually(lambda: receiver.requests, within=300)
    headers, body = receiver.requests[0]
    secrets = [(hosts.home(name) / "callback-secret").read_bytes().strip() for name in "ab"]
    assert secrets[0] == secrets[1] and verify(secrets[0], headers["x-autoscorer-signature"], body)

    assert hosts.ask("b", "DELETE", "/scorers/shared").status == 200
    eventually(lambda: hosts.ask("a", "GET", "/scorers/shared").status == 404)
