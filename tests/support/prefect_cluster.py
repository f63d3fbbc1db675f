"""Prefect scaled out: several servers on PostgreSQL and Redis behind one address."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .calls import call
from .ports import free_port
from .postgres import Postgres
from .prefect_server import QUIET, eventually, server_command
from .processes import Processes, clean_environment
from .relay import Relay

__all__ = ["Balancer", "start_servers"]

COMPOSE = Path(__file__).parents[2] / "deployments" / "compose.yaml"


class Balancer(Relay):
    """One address for several servers: each new connection goes to the next of them that takes it."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._turns = itertools.count(1)
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def reach(self) -> socket.socket:
        ports, turn = self.ports, next(self._turns)
        for step in range(len(ports)):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", ports[(turn + step) % len(ports)]))
        raise ConnectionRefusedError


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
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"redis://127.0.0.1:{redis}/2",
    }
    assert set(here) <= set(told)
    return {
        **clean_environment(),
        **QUIET,
        **told,
        **here,
        "PREFECT_HOME": str(folder / "prefect"),
    }


def start_servers(processes: Processes, postgres: Postgres, ports: list[int]) -> list[subprocess.Popen[bytes]]:
    """Servers on these ports, with one set of services beside them; they answer when this returns."""
    environment = server_environment(processes.folder, postgres.url, start_redis(processes))
    processes.run(sys.executable, "-m", "autoscorer.deployments.prepare_database", environment=environment)
    servers = [
        processes.start(f"server-{port}", *server_command(port, "--no-services"), environment=environment)
        for port in ports
    ]
    processes.start("services", sys.executable, "-m", "prefect", "server", "services", "start", environment=environment)
    for port, server in zip(ports, servers, strict=True):
        eventually(
            lambda port=port, server=server: ready(f"http://127.0.0.1:{port}") or server.poll() is not None, within=300
        )
        assert server.poll() is None, processes.log(f"server-{port}")[-3000:]
    return servers
