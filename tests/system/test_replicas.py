"""Several APIs with one ledger in PostgreSQL: any of them answers for all, and one may die at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.calls import Answer, call
from ..support.ports import free_port
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.prefect_cluster import Balancer
from ..support.prefect_server import PrefectServer, eventually, running_server
from ..support.processes import Processes, clean_environment
from ..support.processes import processes as processes
from ..support.workspaces import result_of, write_workspace

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

AUTOSCORER = [sys.executable, "-m", "autoscorer"]

# Seconds: between two probes of the balancer's, after which one has failed, and in which it has to notice.
BETWEEN, PATIENCE, DRAIN = 0.2, 2, 5


class Replicas:
    """Three APIs and a worker of one installation, each with a home of its own, as on hosts of their own."""

    def __init__(self, processes: Processes, server: PrefectServer, ledger_url: str) -> None:
        self._processes = processes
        self.root = processes.folder / "workspaces"
        self.root.mkdir()
        self._environment = {
            **clean_environment(),
            **server.environment,
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "AUTOSCORER_LEDGER_URL": ledger_url,
            "AUTOSCORER_API_TOKENS": "admin:secret",
            "AUTOSCORER_API__DRAIN": str(DRAIN),
        }
        processes.run(*AUTOSCORER, "deploy", environment=self._on("deploying"))
        self.ports = [free_port() for _ in range(3)]
        self.apis = [self._serve(port) for port in self.ports]
        self.worker = self.start_worker()
        for number in range(3):
            eventually(lambda number=number: self.is_there(number), within=300)

    def _serve(self, port: int) -> subprocess.Popen[bytes]:
        return self._processes.start(
            f"api-{port}", *AUTOSCORER, "serve", "--port", str(port), "--json", environment=self._on(f"api-{port}")
        )

    def _on(self, host: str) -> dict[str, str]:
        return {**self._environment, "AUTOSCORER_HOME": str(self._processes.folder / f"home-{host}")}

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._processes.start("worker", *AUTOSCORER, "worker", "--limit", "2", environment=self._on("worker"))

    def is_there(self, number: int) -> bool:
        assert self.apis[number].poll() is None, self._processes.log(f"api-{self.ports[number]}")[-3000:]
        try:
            return self.ask(number, "GET", "/healthz").status == 200
        except OSError:
            return False

    def ask(self, number: int, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.ports[number]}{path}"
        return call(url, method, body, token="secret", headers=headers)

    def workspace(self, name: str) -> Path:
        return write_workspace(self.root, name)

    def submit(self, number: int, name: str, **more: Any) -> Answer:
        return self.ask(number, "POST", "/submit", {"workspace": name, "action": "score", **more})

    def ended(self, number: int, task_id: str, state: str) -> dict[str, Any]:
        """A task as one of them tells it, once it has ended."""
        final = ("completed", "failed", "cancelled")

        def told() -> dict[str, Any] | None:
            task: dict[str, Any] = self.ask(number, "GET", f"/tasks/{task_id}").data
            return task if task["state"] in final else None

        found = eventually(told, within=300)
        assert found is not None and found["state"] == state, found
        return found

    def restart(self, number: int) -> None:
        """Stop one in order, if it lives, and start it anew."""
        if self.apis[number].poll() is None:
            self.apis[number].terminate()
            assert self.apis[number].wait(60) == 0
        self.apis[number] = self._serve(self.ports[number])
        eventually(lambda: self.is_there(number), within=300)

    def leader(self) -> int:
        """Which of them hands tasks over now."""

        def led() -> list[int]:
            return [
                number
                for number, port in enumerate(self.ports)
                if self.apis[number].poll() is None and "hands tasks to Prefect" in self._processes.log(f"api-{port}")
            ]

        (number,) = eventually(led, within=300)
        return number


class LoadBalancer(Balancer):
    """Sends requests to those replicas that say that they take tasks; to any of them, while none says so."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(list(ports))
        self._takes = dict.fromkeys(ports, True)
        self._over = threading.Event()
        # Each by itself: one that is slow to answer must not delay what is heard of another.
        for port in ports:
            threading.Thread(target=self._watch, args=(port,), daemon=True).start()

    def _watch(self, port: int) -> None:
        while not self._over.wait(BETWEEN):
            try:
                status = call(f"http://127.0.0.1:{port}/readyz?for=submit", timeout=PATIENCE).status
            except OSError:
                status = 0
            self._takes[port] = status == 200
            self.ports = [each for each, takes in self._takes.items() if takes] or list(self._takes)

    def close(self) -> None:
        self._over.set()
        super().close()


@pytest.fixture
def replicas(processes: Processes, own_postgres: Postgres, tmp_path: Path) -> Iterator[Replicas]:
    # A server of their own: they would take in the runs of other tests.
    with running_server(tmp_path / "prefect") as server:
        yield Replicas(processes, server, own_postgres.ledger_url())
        processes.stop()


def test_any_of_three_answers_for_all_and_the_one_that_leads_may_be_killed(
    replicas: Replicas, own_postgres: Postgres
) -> None:
    # A thousand submits of the same workspaces, wherever they come in.
    names = [f"ws-{number}" for number in range(20)]
    for name in names:
        replicas.workspace(name)
    told: list[dict[str, Any]] = []
    os.kill(replicas.worker.pid, signal.SIGSTOP)

    def submit(number: int) -> None:
        for turn in range(5):
            for name in names[turn:] + names[:turn]:
                answer = replicas.submit(number % 3, name)
                assert answer.status in (200, 202), answer.body
                told.append(answer.data)

    clients = [threading.Thread(target=submit, args=(number,)) for number in range(10)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(told) == 1000
    ids = {task["workspace"]: task["id"] for task in told}
    assert {task["id"] for task in told} == set(ids.values()) and sorted(ids) == sorted(names)
    leader = replicas.leader()
    others = [number for number in range(3) if number != leader]

    # A key, a cancel and a list are the same everywhere.
    key = {"Idempotency-Key": "once"}
    extra = replicas.workspace("extra").name
    first = replicas.ask(others[0], "POST", "/submit", {"workspace": extra, "action": "score"}, **key)
    again = replicas.ask(others[1], "POST", "/submit", {"workspace": extra, "action": "score"}, **key)
    assert first.data["id"] == again.data["id"]
    cancelled = replicas.ask(others[1], "POST", f"/tasks/{first.data['id']}/cancel")
    assert cancelled.status == 200, cancelled.body
    replicas.ended(others[0], first.data["id"], "cancelled")
    assert {replicas.ask(number, "GET", "/tasks").data["total"] for number in range(3)} == {21}

    # Work goes on, the one that leads is killed in the midst of it, and another takes over.
    os.kill(replicas.worker.pid, signal.SIGCONT)
    eventually(lambda: replicas.ask(others[0], "GET", "/tasks?state=completed").data["total"] >= 3, within=300)
    replicas.apis[leader].kill()
    ended = [replicas.ended(others[n % 2], ids[name], "completed") for n, name in enumerate(names)]
    assert {task["attempts"] for task in ended} == {1}
    runs = {task["flow_run_id"] for task in ended}
    assert len(runs) == 20 and {result_of(replicas.root / n)["versioning"]["flow_run_id"] for n in names} == runs
    # Who waits in the request is told by whichever of them it asked.
    for number in others:
        answer = replicas.ask(number, "POST", "/score?wait=60", {"workspace": extra})
        assert (answer.status, answer.data["state"]) == (200, "completed"), answer.body
    ready = replicas.ask(others[0], "GET", "/readyz")
    assert ready.status == 200 and ready.data["ledger"]["state"] == "ok", ready.body
    replicas.restart(leader)
    _restart_each_while_others_serve(replicas)
    # Without its database none of them takes tasks, and each says why.
    own_postgres.stop()
    for address in ("/readyz", "/readyz?for=submit"):
        eventually(lambda address=address: replicas.ask(0, "GET", address).status == 503)
        answer = replicas.ask(0, "GET", address)
        assert answer.error["details"]["ledger"]["state"] == "unavailable", answer.body
        assert "ledger: does not answer" in answer.error["message"], answer.body
    own_postgres.start()
    eventually(lambda: replicas.ask(0, "GET", "/readyz?for=submit").status == 200)


def _restart_each_while_others_serve(replicas: Replicas) -> None:
    """As a new version is rolled out: no request fails."""
    balancer, over = LoadBalancer(replicas.ports), threading.Event()
    statuses: list[int | str] = []

    def submit(client: int) -> None:
        name = replicas.workspace(f"rolling-{client}").name
        while not over.is_set():
            body = {"workspace": name, "action": "validate"}
            try:
                statuses.append(call(balancer.url + "/submit", "POST", body, token="secret", timeout=60).status)
            except OSError as error:
                statuses.append(repr(error))

    clients = [threading.Thread(target=submit, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    try:
        for number in range(3):
            replicas.restart(number)
    finally:
        over.set()
        for client in clients:
            client.join()
        balancer.close()
    assert len(statuses) > 50 and {*statuses} <= {200, 202}, {each for each in statuses if each not in (200, 202)}
