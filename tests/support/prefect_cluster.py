"""Prefect scaled out: several servers on PostgreSQL and Redis behind one address."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from .calls import call
from .ports import free_port
from .postgres import Postgres
from .prefect_server import QUIET, eventually, server_command
from .processes import Processes, clean_environment

__all__ = ["Balancer", "start_servers"]

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
            lambda port=port, server=server: ready(f"http://127.0.0.1:{port}") or server.poll() is not None, within=240
        )
        assert server.poll() is None, processes.log(f"server-{port}")[-3000:]
    return servers
