"""What an operator has who serves work pools with Prefect's own workers: a server, workers, and the API beside them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from autoscorer.executors.records import RunRecords

from .calls import call
from .markdown import read
from .ports import free_port
from .prefect_server import PrefectServer, eventually
from .processes import clean_environment, processes_with
from .workspaces import TRUTH, write_workspace

__all__ = ["QUICK", "WAITING", "Site", "block_of", "containers", "go", "write_model"]

# The machine may be busy with everything else.
PATIENCE = 300.0
# Models: one that ends at once, one that says `ready` and waits for a word in its input. The word is written into the
# file that is there, because the model's input is a link to it.
QUICK = f"printf {TRUTH!r} > output/pred.csv"
WAITING = f"echo ready; until [ -s input/data/word ]; do sleep 0.2; done; {QUICK}"
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def block_of(name: str, heading: str) -> list[str]:
    """The commands of the first block below a heading, continued lines joined."""
    section = read(name).partition(heading)[2]
    found = re.search(r"^```\w*\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return [line for line in found[1].replace("\\\n", " ").splitlines() if line.strip()]


class Site:
    """Home, workspaces and processes of one operator, on a Prefect server.

    Args:
        folder: Where everything lies.
        prefect: The server.
        environment: More variables of every process.
    """

    def __init__(self, folder: Path, prefect: PrefectServer, **environment: str) -> None:
        self.folder, self.server = folder, prefect
        self.home, self.root = folder / "home", folder / "workspaces"
        for each in (self.home, self.root):
            each.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **clean_environment(),
            **prefect.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AUTOSCORER_HOME": str(self.home),
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "AUTOSCORER_API_TOKENS": "admin:of-the-test",
            # Prefect's worker asks every ten seconds, which only takes time here.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            **environment,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._submitted: list[str] = []

    # --- processes ------------------------------------------------------------------------------------------

    def run(self, command: str, cwd: Path | None = None, **environment: str) -> str:
        """Run a line of a shell to its end, as the operator; what it wrote to stdout."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd or self.folder, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def start(self, name: str, command: str, cwd: Path | None = None, **environment: str) -> None:
        """Start what does not end by itself; its log has its name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=cwd or self.folder, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def start_api(self) -> None:
        """The API, which puts back what Prefect's workers leave behind; returns when it answers."""
        port = free_port()
        self.start("api", f"autoscorer serve --port {port}")

        def answers() -> bool:
            self.check("api")
            with contextlib.suppress(OSError):
                return call(f"http://127.0.0.1:{port}/healthz", timeout=30).status == 200
            return False

        eventually(answers, within=PATIENCE)

    def serves(self, name: str, pool: str) -> None:
        """Wait until the worker of that name serves the pool."""

        def online() -> bool:
            self.check(name)
            workers = self.server.call("POST", f"/work_pools/{pool}/workers/filter", {})
            return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)

        eventually(online, within=PATIENCE)

    def check(self, name: str) -> None:
        """Fail with its log where a process has ended."""
        assert self.processes[name].poll() is None, self.log(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-6000:]

    def kill(self, name: str) -> None:
        """kill -9 of one process; those that it started live on."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End everything, in the order opposite to that of its start."""
        for process in reversed(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Models that wait for a word which no test has said, where only some tests were run.
        for model in (each for flow_run_id in self._submitted for each in containers(flow_run_id)):
            subprocess.run(["docker", "rm", "--force", model], capture_output=True, check=True)
        self.processes.clear()

    def pids(self, flow_run_id: str | None = None) -> list[int]:
        """Living processes of this home, or those of one flow run among them, the oldest first."""
        run = {} if flow_run_id is None else {"PREFECT__FLOW_RUN_ID": flow_run_id}
        return [*processes_with(AUTOSCORER_HOME=self.home, **run)]

    # --- workspaces -----------------------------------------------------------------------------------------

    def workspace(self, name: str, image: str, command: str = QUICK) -> Path:
        """A workspace whose model is a line of a shell in a container, and scores 1.0."""
        return write_model(self.root, name, image, command, resources={"memory": "64Mi", "disk": "20Mi"})

    # --- flow runs ------------------------------------------------------------------------------------------

    def submit(self, deployment: str, **parameters: Any) -> str:
        """A flow run of a deployment such as ``pipeline/pipeline``; its id."""
        found = self.server.call("GET", f"/deployments/name/{deployment}")
        body = {
            "parameters": {key: str(value) if isinstance(value, Path) else value for key, value in parameters.items()}
        }
        self._submitted.append(str(self.server.call("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"]))
        return self._submitted[-1]

    def cancel(self, flow_run_id: str) -> None:
        """As Prefect's page and its command do."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.server.call("POST", f"/flow_runs/{flow_run_id}/set_state", {"state": state})

    def get(self, flow_run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.call("GET", f"/flow_runs/{flow_run_id}")
        return found

    def ended(self, flow_run_id: str, state: str, *, attempts: int | tuple[int, ...] = 1) -> dict[str, Any]:
        """The run, once it has ended; it must have ended so. A crashed one may be put back, so it is waited for."""

        def look() -> dict[str, Any] | None:
            run = self.get(flow_run_id)
            kind = run["state"]["type"]
            return run if kind in FINAL and (kind != "CRASHED" or state == "CRASHED") else None

        run = eventually(look, within=PATIENCE)
        assert run is not None
        logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self.processes)
        allowed = attempts if isinstance(attempts, tuple) else (attempts,)
        assert run["state"]["type"] == state and run["run_count"] in allowed, f"{run['state']}\n{logs}"
        return run

    def under_way(self, root: Path, flow_run_id: str) -> None:
        """Wait until the run's model says `ready` in its container."""
        log = root / "logs" / "container.log"

        def ready() -> bool:
            kind = self.get(flow_run_id)["state"]["type"]
            assert kind not in FINAL, kind
            return log.is_file() and "ready" in log.read_text() and len(containers(flow_run_id)) == 1

        eventually(ready, within=PATIENCE)

    def nothing_left(self, flow_run_id: str) -> None:
        """Wait until there is no process of the run, no container of its models and no record of them."""

        def left() -> list[Any]:
            records = [each.path for each in RunRecords(self.home).all() if each.flow_run == flow_run_id]
            return [*self.pids(flow_run_id), *containers(flow_run_id), *records]

        eventually(lambda: not left(), within=PATIENCE)


def write_model(root: Path, name: str, image: str, command: str, **meta: Any) -> Path:
    """Write such a workspace."""
    model = {"image": image, "cmd": ["sh", "-c", command]}
    # One that waits for a word may wait for as long as the tests before it take.
    folder = write_workspace(root, name, truth=TRUTH, pred=None, container=model, **{"timeout": 3600, **meta})
    (folder / "input" / "data" / "word").touch()
    return folder


def containers(flow_run_id: str) -> list[str]:
    """Containers of the run's models, of whatever state."""
    label = f"label=io.autoscorer.flow_run={flow_run_id}"
    command = ["docker", "ps", "--all", "--quiet", "--filter", label]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def go(root: Path) -> None:
    """Let a waiting model go on, and every further one of this workspace."""
    (root / "input" / "data" / "word").write_text("go")
