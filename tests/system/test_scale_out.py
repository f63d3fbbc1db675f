"""Scale-out by configuration alone: PostgreSQL, Redis, two Prefect servers behind one address, two workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from autoscorer.core.config import load_settings
from autoscorer.service.prefect.client import PrefectApi, PrefectAway

from ..support.calls import call
from ..support.installation import Installation
from ..support.ports import free_port
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.prefect_server import QUIET, eventually, server_command
from ..support.processes import Processes, clean_environment
from ..support.processes import processes as processes
from ..support.workspaces import result_of

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

RUNS = 40
COMPOSE = Path(__file__).parents[2] / "deployments" / "compose.yaml"


class Balancer:
    """One address for several servers: each new connection goes to the next of them that takes it."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._turn = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open = [self._listener]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                self._open.append(near)
                self._turn += 1
                for step in range(len(self.ports)):
                    port = self.ports[(self._turn + step) % len(self.ports)]
                    with contextlib.suppress(OSError):
                        far = socket.create_connection(("127.0.0.1", port))
                        break
                else:
                    near.close()
                    continue
                self._open.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        # Both ways at once: a server that was killed must be felt by its client.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    one = Balancer([free_port(), free_port()])
    yield one
    one.close()


def start_redis(processes: Processes) -> int:
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(processes.folder)]
    processes.start("redis", "redis-server", *options)
    eventually(lambda: answers(port))
    return port


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
        return True
    return False


def ready(url: str) -> bool:
    with contextlib.suppress(OSError):
        return call(url + "/api/ready", timeout=30).status == 200
    return False


def server_environment(folder: Path, database: str, redis: int) -> dict[str, str]:
    """What compose.yaml tells its servers, with this test's addresses in place of its own."""
    told: dict[str, str] = yaml.safe_load(COMPOSE.read_text())["x-server-environment"]
    here = {
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
        "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
        "PREFECT_REDIS_MESSAGING_PORT": str(redis),
        "PREFECT_SERVER_DOCKET_URL": f"redis://127.0.0.1:{redis}/1",
    }
    assert set(here) <= set(told)
    return {
        **clean_environment(),
        **QUIET,
        **told,
        **here,
        "PREFECT_HOME": str(folder / "prefect"),
    }


def test_two_servers_and_two_workers_share_the_load_and_one_server_may_die(
    processes: Processes, own_postgres: Postgres, balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, redis = own_postgres.url, start_redis(processes)
    environment = server_environment(processes.folder, database, redis)
    processes.run(sys.executable, "-m", "autoscorer.deployments.prepare_database", environment=environment)
    ports = balancer.ports
    servers = [
        processes.start(
            f"server-{port}",
            *server_command(port, "--no-services"),
            environment=environment,
        )
        for port in ports
    ]
    processes.start("services", sys.executable, "-m", "prefect", "server", "services", "start", environment=environment)
    for port, server in zip(ports, servers, strict=True):
        eventually(
            lambda port=port, server=server: ready(f"http://127.0.0.1:{port}") or server.poll() is not None, within=240
        )
        assert server.poll() is None, processes.log(f"server-{port}")[-3000:]

    # The clients know one address, and nothing of what is behind it.
    maker = Installation(processes.folder)
    here = {
        "AUTOSCORER_HOME": str(maker.home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(maker.root),
        "PREFECT_API_URL": balancer.url + "/api",
        "PREFECT_HOME": str(processes.folder / "client"),
    }
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    clients = {**os.environ, **here}
    autoscorer = [sys.executable, "-m", "autoscorer"]
    processes.run(*autoscorer, "deploy", environment=clients)
    workers = {
        name: processes.start(name, *autoscorer, "worker", "--name", name, "--limit", "2", environment=clients)
        for name in ("left", "right")
    }
    spaces = [maker.workspace(f"ws-{number}") for number in range(RUNS)]

    async def work() -> dict[str, Any]:
        async with PrefectApi(load_settings()) as api:

            async def ask(question: Any) -> Any:
                # A request that was under way when its server died is asked again, as all our processes do.
                for _ in range(50):
                    with contextlib.suppress(PrefectAway):
                        return await question()
                    await asyncio.sleep(0.2)
                raise AssertionError("the servers do not answer")

            deployment = await ask(lambda: api.deployment("score-only", "score"))
            runs = [{"parameters": {"workspace": str(space)}, "idempotency_key": space.name} for space in spaces]
            made = await ask(lambda: api.create_flow_runs(deployment["id"], runs))
            ids = [each["flow_run_id"] for each in made]
            killed = False
            deadline = time.monotonic() + 240
            while True:
                assert time.monotonic() < deadline, processes.log("left")[-3000:] + processes.log("right")[-3000:]
                found: dict[str, Any] = await ask(lambda: api.flow_runs(ids))
                ended = [run for run in found.values() if run["state_type"] not in ("SCHEDULED", "PENDING", "RUNNING")]
                if not killed and len(ended) >= RUNS // 4:
                    servers[0].kill()
                    killed = True
                if len(ended) == RUNS:
                    assert killed
                    return found
                await asyncio.sleep(0.05)

    found = asyncio.run(work())
    assert {run["state_type"] for run in found.values()} == {"COMPLETED"}
    # Once each: one attempt, one Result, written for that very run, and none before it.
    assert {run["run_count"] for run in found.values()} == {1}
    by_workspace = {run["parameters"]["workspace"]: run["id"] for run in found.values()}
    assert len(by_workspace) == RUNS
    for space in spaces:
        result = result_of(space)
        assert result["summary"]["score"] == 1.0
        assert result["versioning"]["flow_run_id"] == by_workspace[str(space)]
        assert not (space / "output" / "history").exists()

    # Both worked on them.
    counts = {}
    for name, worker in workers.items():
        worker.terminate()
        worker.wait(60)
        output = processes.log(name)
        answer = json.JSONDecoder().raw_decode(output[output.index('{\n  "status"') :])[0]
        counts[name] = answer["data"]["runs"]
    assert sum(counts.values()) == RUNS
    assert min(counts.values()) > 0
