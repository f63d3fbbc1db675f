"""Three hosts with one database and one folder of workspaces: each of them may vanish, stand still, or be cut off.

Every task that was accepted ends, once; what a host says that was taken for dead, and comes back, is not heard.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ..support.calls import Answer, call
from ..support.hosts import Host, Wire
from ..support.machines import needs_root
from ..support.ports import free_port
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.prefect_cluster import Balancer, start_servers
from ..support.prefect_server import eventually
from ..support.processes import Processes, clean_environment
from ..support.processes import processes as processes
from ..support.workspaces import TRUTH, write_workspace

pytestmark = [pytest.mark.prefect, pytest.mark.docker, pytest.mark.slow, needs_root]

PREDICTIONS = "id,label\\na,cat\\nb,dog\\nc,cat\\n"
AUTOSCORER = [sys.executable, "-m", "autoscorer"]
FINAL = ("completed", "failed", "cancelled")
# Seconds that two hundred tasks may take on a busy machine.
PATIENCE = 900.0


class Hosts:
    """Three hosts behind one address, Prefect's two servers behind another, PostgreSQL."""

    def __init__(self, processes: Processes, postgres: Postgres, prefect: Balancer, docker: Any) -> None:
        self.docker, self.postgres = docker, postgres
        self._processes, self._prefect = processes, prefect
        self.servers: list[subprocess.Popen[bytes]] = []
        self.root = processes.folder / "workspaces"
        self.root.mkdir()
        self.wires = [Wire(postgres.port) for _ in range(3)]
        ports = [free_port() for _ in range(3)]
        self.gateway = Balancer(ports)
        self._common = {
            **clean_environment(),
            "PREFECT_API_URL": prefect.url + "/api",
            "PREFECT_HOME": str(processes.folder / "client"),
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "AUTOSCORER_API_TOKENS": "admin:secret",
            "AUTOSCORER_SERVICE__RETRY_DELAY": "0.5",
        }
        self.hosts = [
            Host(processes.folder, f"host-{number}", {**self._common, **self._ledger(wire.port)}, port)
            for number, (port, wire) in enumerate(zip(ports, self.wires, strict=True))
        ]

    def _ledger(self, port: int) -> dict[str, str]:
        return {"AUTOSCORER_LEDGER_URL": self.postgres.url.replace(str(self.postgres.port), str(port))}

    def start(self) -> None:
        """Start all of it; they take tasks and work on them when this returns."""
        self.servers = start_servers(self._processes, self.postgres, self._prefect.ports)
        home = {"AUTOSCORER_HOME": str(self._processes.folder / "deploying")}
        environment = {**self._common, **self._ledger(self.postgres.port), **home}
        self._processes.run(*AUTOSCORER, "deploy", environment=environment)
        for host in self.hosts:
            host.start()
        for host in self.hosts:
            eventually(lambda host=host: self._lives(host.api_port) or not host.is_up, within=600)
            assert host.is_up, host.log()

    def _lives(self, port: int) -> bool:
        with contextlib.suppress(OSError):
            return call(f"http://127.0.0.1:{port}/readyz", timeout=10).status == 200
        return False

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One request; asked again where the replica that had it died, as a client does."""
        headers = {"Idempotency-Key": uuid4().hex} if method == "POST" else {}
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                answer = call(self.gateway.url + path, method, body, token="secret", headers=headers, timeout=15)
                if answer.status not in (502, 503, 504):
                    return answer
            assert time.monotonic() < deadline, f"nobody answers {method} {path}\n{self.logs()}"
            time.sleep(0.5)

    def submit(self, action: str, name: str, **more: Any) -> str:
        path, body = ("/batch", {"workspaces": [name], "action": "score"}) if action == "batch" else ("/submit", None)
        answer = self.ask("POST", path, body or {"action": action, "workspace": name, **more})
        assert answer.status in (200, 202), answer.body
        return str(answer.data["id"])

    def tasks(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            page = self.ask("GET", f"/tasks?limit=500{cursor}").data
            found |= {task["id"]: task for task in page["tasks"] if task["id"] in ids}
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def has(self) -> dict[str, tuple[str, int]]:
        """Which host has which flow run, and the number of the attempt, by the ledger."""
        asked = "SELECT flow_run_id, worker_name, attempt FROM autoscorer.flow_runs WHERE worker IS NOT NULL"
        return {run: (name, int(attempt)) for run, name, attempt in self.postgres.query(asked)}

    def attempts(self) -> dict[str, int]:
        """By flow run, of those that have not ended, which attempt it is."""
        asked = "SELECT flow_run_id, attempt FROM autoscorer.flow_runs"
        return {run: int(attempt) for run, attempt in self.postgres.query(asked)}

    def of(self, host: Host) -> dict[str, int]:
        return {run: attempt for run, (name, attempt) in self.has().items() if name == host.name}

    def logs(self) -> str:
        return "\n".join(host.log() for host in self.hosts)

    def close(self) -> None:
        for host in self.hosts:
            host.stop()
        for each in (self.gateway, *self.wires):
            each.close()


@pytest.fixture
def hosts(processes: Processes, own_postgres: Postgres, docker_client: Any, busybox: str) -> Iterator[Hosts]:
    prefect = Balancer([free_port(), free_port()])
    opened = Hosts(processes, own_postgres, prefect, docker_client)
    try:
        opened.start()
        yield opened
    finally:
        opened.close()
        processes.stop()
        prefect.close()


def _workspaces(hosts: Hosts, name: str, busybox: str, counts: dict[str, int]) -> dict[str, str]:
    """Workspaces, by name the action that is asked for."""
    model = {"image": busybox, "cmd": ["sh", "-c", f"sleep 6; printf '{PREDICTIONS}' > /workspace/output/pred.csv"]}
    made = {}
    for action, count in counts.items():
        for number in range(count):
            called = f"{name}-{action}-{number}"
            if action == "batch":
                for member in range(8):
                    write_workspace(hosts.root, f"{called}/{member}")
            else:
                pred = None if action in ("run", "pipeline") else TRUTH
                write_workspace(hosts.root, called, truth=TRUTH, pred=pred, container=model)
            made[called] = action
    return made


def test_every_task_ends_once_whatever_becomes_of_a_host(hosts: Hosts, busybox: str) -> None:
    gone, still, last = hosts.hosts
    counts = {"pipeline": 14, "run": 4, "validate": 12, "batch": 4, "score": 66}
    work = _workspaces(hosts, "first", busybox, counts)
    tasks = {hosts.submit(action, name): (action, name) for name, action in work.items()}
    assert len(tasks) == 100
    eventually(lambda: all(hosts.of(host) for host in hosts.hosts), within=300)

    # One loses its power for good; another stands still with all of its processes, for two minutes at most.
    left = hosts.of(gone)
    gone.kill()
    for container in gone.containers(hosts.docker):
        hosts.docker.remove_container(container, force=True)
    still.signal(signal.SIGSTOP)
    left |= (frozen := hosts.of(still))
    assert frozen

    def put_back() -> bool:
        attempts = hosts.attempts()
        # What has ended is in the ledger's tasks, and nothing is left of it here.
        return all(attempts.get(run, attempt + 1) > attempt for run, attempt in left.items())

    # The claims of a host last 60 s; the rest is for a loaded machine.
    eventually(put_back, within=300)
    # It goes on as if nothing had been: what it had is others' now, and it drops that and takes other work.
    still.signal(signal.SIGCONT)
    more = _workspaces(hosts, "second", busybox, {"pipeline": 10, "score": 60, "run": 10, "validate": 10, "batch": 2})
    tasks |= {hosts.submit(action, name): (action, name) for name, action in more.items()}
    eventually(lambda: hosts.of(still) and hosts.of(last), within=300)
    _follow_and_cancel(hosts, busybox)

    # One is cut off from the database. Prefect loses a server, and the database is restarted meanwhile.
    cut = hosts.of(last)
    hosts.wires[2].cut()
    hosts.servers[0].kill()
    hosts.postgres.stop()
    time.sleep(10)
    hosts.postgres.start()

    def ended() -> bool:
        return all(task["state"] in FINAL for task in hosts.tasks(list(tasks)).values())

    eventually(lambda: not cut.keys() & hosts.of(last).keys(), within=300)
    hosts.wires[2].mend()
    # How long two hundred tasks take is the machine's affair.
    try:
        eventually(ended, within=PATIENCE)
    except AssertionError:
        raise AssertionError(_unended(hosts, list(tasks))) from None

    views = hosts.tasks(list(tasks))
    assert len(views) == len(tasks), "accepted, and gone"
    told = {tasks[task]: (view["state"], view["reason"], view["error"]) for task, view in views.items()}
    assert Counter(view["state"] for view in views.values()) == {"completed": len(tasks)}, (told, hosts.logs())
    for task, (action, name) in tasks.items():
        if action in ("score", "pipeline"):
            _check_result(hosts.root / name, views[task])
        if action == "batch":
            _check_members(hosts, task, name)
    # Nothing of the attempts that were given up goes on, on hosts that live.
    runs = {view["flow_run_id"] for view in views.values()}
    eventually(lambda: not [each for each in _containers(hosts.docker) if each in runs], within=300)


def _unended(hosts: Hosts, tasks: list[str]) -> str:
    """What is known of the tasks that have not ended, for whoever has to find out why."""
    left = {id: view for id, view in hosts.tasks(tasks).items() if view["state"] not in FINAL}
    runs = "', '".join(str(view["flow_run_id"]) for view in left.values())
    asked = f"SELECT * FROM autoscorer.{{}} WHERE flow_run_id IN ('{runs}')"
    known = {table: hosts.postgres.query(asked.format(table)) for table in ("flow_runs", "tasks")}
    leases = hosts.postgres.query("SELECT * FROM autoscorer.leases")
    return f"{len(left)} tasks have not ended\n{left}\n{known}\n{leases}\n{hosts.logs()[-20000:]}"


def _follow_and_cancel(hosts: Hosts, busybox: str) -> None:
    """Whichever host works on it: any of them tells what its model writes, and any ends it."""
    model = {"image": busybox, "cmd": ["sh", "-c", "echo I have begun; sleep 3600"]}
    write_workspace(hosts.root, "endless", truth=TRUTH, pred=None, container=model)
    task = hosts.submit("pipeline", "endless", priority="high")
    for port in hosts.gateway.ports[1:]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/tasks/{task}/logs?follow=true", headers={"Authorization": "Bearer secret"}
        )
        with urllib.request.urlopen(request, timeout=120) as stream:
            assert any(b"I have begun" in line for line in stream)
    hosts.ask("POST", f"/tasks/{task}/cancel")
    ended = eventually(lambda: hosts.tasks([task])[task]["state"] in FINAL and hosts.tasks([task])[task], within=300)
    assert ended["state"] == "cancelled"


def _check_members(hosts: Hosts, batch: str, name: str) -> None:
    """Whichever host worked on which, and whoever put it down."""
    members = hosts.ask("GET", f"/tasks?parent={batch}&sort=name").data["tasks"]
    assert [each["workspace"] for each in members] == [f"{name}/{number}" for number in range(8)]
    for each in members:
        whole = hosts.ask("GET", f"/tasks/{each['id']}").data["result"]
        assert whole == json.loads((hosts.root / each["workspace"] / "output" / "result.json").read_text())


def _check_result(space: Path, view: dict[str, Any]) -> None:
    result = json.loads((space / "output" / "result.json").read_text())
    assert result["error"] is None and result["summary"]["score"] == 1.0
    assert result["versioning"]["flow_run_id"] == view["flow_run_id"]
    # An attempt may have come to its Result and have lost the run before it could say so. None wrote after a later one.
    history = [json.loads(each.read_text()) for each in sorted((space / "output").glob("history/*.json"))]
    attempts = [each["versioning"]["attempt"] for each in (*history, result)]
    assert attempts == sorted(set(attempts)), f"{space.name}: Results of the attempts {attempts}"


def _containers(docker: Any) -> list[str]:
    found = docker.containers(all=True, filters={"label": "io.autoscorer.flow_run"})
    return [each["Labels"]["io.autoscorer.flow_run"] for each in found]
