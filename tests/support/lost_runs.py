"""Flow runs that nobody works on: made at a real Prefect server, taken by real processes that are then killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.core.processes import ProcessIdentity
from autoscorer.service.prefect.client import PrefectApi

from .prefect_server import PrefectServer

__all__ = ["Runs", "Taken", "ask", "dead_owner", "of_another_container", "runs", "settings_with", "take"]

T = TypeVar("T")

# A worker: it claims the flow run for itself and for its child, says so, and lives on. The child holds the workspace,
# runs its model, and does not notice the worker's death.
_WORKER = """
import subprocess, sys
from pathlib import Path
from autoscorer.core.config import load_settings
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.processes import ProcessIdentity
child = subprocess.Popen([sys.executable, "-c", sys.argv[3], *sys.argv[1:3]], stdout=subprocess.PIPE, text=True)
files = FlowRunFiles(load_settings().home, sys.argv[1])
files.claim(Claim(ProcessIdentity.current(), ProcessIdentity(child.stdout.readline().strip()), child.pid))
print(child.stdout.readline().strip(), child.pid, flush=True)
sys.stdin.read()
"""
_CHILD = """
import sys
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.provenance import current_flow_run
print(ProcessIdentity.current().text, flush=True)
from autoscorer.executors.base import SilentObserver
from autoscorer.tasks.run import run_workspace
class Tell(SilentObserver):
    def log(self, line):
        print("under-way", flush=True)
current_flow_run.set(sys.argv[1])
run_workspace(sys.argv[2], observer=Tell(), labels={"flow_run": sys.argv[1]}, backend="docker")
"""


class Runs:
    """Makes flow runs of our flows, and looks at them."""

    def __init__(self, server: PrefectServer) -> None:
        self._call = server.call
        self.pool = f"pool-{uuid.uuid4().hex[:8]}"
        self._call("POST", "/work_pools/", {"name": self.pool, "type": "process"})

    def make(self, workspace: Path | None, *, flow: str = "pipeline", **parameters: Any) -> str:
        """A scheduled run; its id."""
        flow_id = self._call("POST", "/flows/", {"name": flow})["id"]
        deployment = self._call(
            "POST",
            "/deployments/",
            {"name": self.pool, "flow_id": flow_id, "work_pool_name": self.pool, "enforce_parameter_schema": False},
        )
        if workspace is not None:
            parameters["workspace"] = str(workspace)
        run = self._call("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def undeployed(self, workspace: Path) -> str:
        """A run of somebody's own process, as --track makes it."""
        flow_id = self._call("POST", "/flows/", {"name": "pipeline"})["id"]
        body = {"flow_id": flow_id, "parameters": {"workspace": str(workspace)}}
        return str(self._call("POST", "/flow_runs/", body)["id"])

    def set(self, flow_run_id: str, *types: str, message: str | None = None) -> str:
        """Force states; the id of the last one."""
        for kind in types:
            state = {"type": kind, "message": message}
            body = {"state": state, "force": True}
            answer = self._call("POST", f"/flow_runs/{flow_run_id}/set_state", body)
            assert answer["status"] == "ACCEPT"
        return str(answer["state"]["id"])

    def label(self, flow_run_id: str, **labels: str) -> None:
        self._call("PATCH", f"/flow_runs/{flow_run_id}/labels", labels)

    def heartbeat(self, worker: str) -> None:
        self._call("POST", f"/work_pools/{self.pool}/workers/heartbeat", {"name": worker})

    def send_heartbeat(self, flow_run_id: str) -> None:
        """As the process of the run sends one."""
        run = self.get(flow_run_id)
        flow = self._call("GET", f"/flows/{run['flow_id']}")
        related = [
            {
                "prefect.resource.id": f"prefect.flow.{flow['id']}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow["name"],
            }
        ]
        if run["deployment_id"]:
            deployment = f"prefect.deployment.{run['deployment_id']}"
            related.append({"prefect.resource.id": deployment, "prefect.resource.role": "deployment"})
        event = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}"},
            "related": related,
            "id": str(uuid.uuid4()),
        }
        self._call("POST", "/events", [event])

    def get(self, flow_run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self._call("GET", f"/flow_runs/{flow_run_id}")
        return run

    def state(self, flow_run_id: str) -> tuple[str, str]:
        """Type and name of its state."""
        state = self.get(flow_run_id)["state"]
        return state["type"], state["name"]

    def names(self, flow_run_id: str) -> list[str]:
        """The names of all its states, in order."""
        states = self._call("GET", f"/flow_run_states/?flow_run_id={flow_run_id}")
        return [state["name"] for state in sorted(states, key=lambda state: str(state["timestamp"]))]

    def delete_pool(self) -> None:
        self._call("DELETE", f"/work_pools/{self.pool}")

    def delete(self, flow_run_id: str) -> None:
        self._call("DELETE", f"/flow_runs/{flow_run_id}")


@pytest.fixture
def runs(server: PrefectServer) -> Runs:
    return Runs(server)


class Taken:
    """A flow run that a worker's child works on."""

    def __init__(self, flow_run_id: str, worker: subprocess.Popen[str], child: int) -> None:
        self.flow_run_id = flow_run_id
        self.worker = worker
        self.child = child

    def kill_worker(self) -> None:
        self.worker.kill()
        self.worker.wait()

    @property
    def child_lives(self) -> bool:
        try:
            return Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False


@pytest.fixture
def take(busybox: str) -> Iterator[Callable[[str, Path], Taken]]:
    """Let a worker take a flow run; returns when the model runs in its container."""
    started: list[Taken] = []

    def take_run(flow_run_id: str, workspace: Path) -> Taken:
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, flow_run_id, str(workspace), _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        said = worker.stdout.readline().split()
        assert said[:1] == ["under-way"], said
        started.append(Taken(flow_run_id, worker, int(said[1])))
        return started[-1]

    yield take_run
    for taken in started:
        if taken.child_lives:
            subprocess.run(["kill", "-9", str(taken.child)], check=False)
        taken.kill_worker()
        taken.worker.communicate()


def dead_owner() -> ProcessIdentity:
    """A process that has lived and is dead."""
    code = "from autoscorer.core.processes import ProcessIdentity; print(ProcessIdentity.current().text)"
    return ProcessIdentity(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    )


def of_another_container(owner: ProcessIdentity) -> ProcessIdentity:
    """What a process of a container that was restarted since is to the one that runs in it now."""
    host, boot, _, *rest = owner.text.split("|")
    return ProcessIdentity("|".join([host, boot, "4026530000", *rest]))


def settings_with(**service: Any) -> Settings:
    """The configuration with other settings of the service."""
    settings = load_settings()
    return settings.model_copy(update={"service": settings.service.model_copy(update=service)})


def ask(settings: Settings, work: Callable[[PrefectApi], Coroutine[Any, Any, T]]) -> T:
    """Do something with a connection to the server."""

    async def with_connection() -> T:
        async with PrefectApi(settings) as prefect:
            return await work(prefect)

    return asyncio.run(with_connection())


def outcome_of(settings: Settings, flow_run_id: str) -> dict[str, Any] | None:
    return FlowRunFiles(settings.home, flow_run_id).read_outcome()
