"""Hosts that share a database and a folder of workspaces, and nothing else; one may vanish, stand still, or be cut off.

Each is a set of namespaces: processes, name, machine's id, mounts with a ``/tmp`` of its own. They share one Docker
Engine, so what vanishes with a host that loses its power is removed by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from .prefect_server import eventually
from .processes import processes_with
from .relay import Relay

__all__ = ["Host", "Wire"]

CHECKOUT = Path(__file__).parents[2]

_BE = """
hostname "$2"
mount --bind "$1/machine-id" /etc/machine-id
mount --bind "$1/boot-id" /proc/sys/kernel/random/boot_id
own="$1/tmp"
shift 2
# What lies below the /tmp of this machine and is every host's: the test's folder, perhaps the checkout.
while [ "$1" != -- ]; do
    mkdir -p "$own$1"
    mount --bind "$1" "$own$1"
    shift
done
mount --rbind "$own/tmp" /tmp
shift
exec "$@"
"""
# Starts what it is told, and ends with it: the host's first process, with which all others end.
_INIT = """
import json, os, subprocess, sys
commands = json.loads(os.environ["HOST_RUNS"])
logs = os.environ["HOST_LOGS"]
running = [
    subprocess.Popen([sys.executable, "-m", "autoscorer", *command], stdout=open(f"{logs}/{name}.log", "ab"), stderr=2)
    for name, command in commands.items()
]
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


class Wire(Relay):
    """A way to a port of loopback that can be cut: what is sent then arrives nowhere, until it is mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._whole = threading.Event()
        self._whole.set()
        super().__init__()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def reach(self) -> socket.socket:
        self._whole.wait()
        return socket.create_connection(("127.0.0.1", self._target))

    def hold(self) -> None:
        self._whole.wait()

    def close(self) -> None:
        self._whole.set()
        super().close()


class Host:
    """A host that runs an API and a worker.

    Args:
        folder: The test's, which every host sees under the same path.
        name: Its hostname.
        environment: Of its processes, beside the home.
        api_port: Of its API.
    """

    def __init__(self, folder: Path, name: str, environment: dict[str, str], api_port: int) -> None:
        self.name, self.api_port = name, api_port
        self._shared = folder
        self.folder = folder / name
        (self.folder / "tmp" / "tmp").mkdir(parents=True)
        (self.folder / "machine-id").write_text(uuid4().hex + "\n")
        (self.folder / "boot-id").write_text(f"{uuid4()}\n")
        self.home = self.folder / "home"
        self._environment = {**environment, "AUTOSCORER_HOME": str(self.home)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        runs = {
            "api": ["serve", "--port", str(self.api_port), "--json"],
            "worker": ["worker", "--name", self.name, "--limit", "3", "--json"],
        }
        spaces = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        everywhere = [path for path in (self._shared, CHECKOUT, Path(sys.prefix)) if path.is_relative_to("/tmp")]
        be = ["sh", "-ec", _BE, "be", str(self.folder), self.name, *map(str, everywhere), "--"]
        be += [sys.executable, "-c", _INIT]
        told = {"HOST_RUNS": json.dumps(runs), "HOST_LOGS": str(self.folder)}
        with (self.folder / "errors").open("ab") as errors:
            self.process = subprocess.Popen(
                [*spaces, *be],
                env={**self._environment, **told},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """The end of what its processes wrote."""
        names = ("errors", "api.log", "worker.log")
        texts = [(self.folder / name).read_text(errors="replace") for name in names if (self.folder / name).exists()]
        return f"--- {self.name}\n" + "\n".join(text[-6000:] for text in texts)

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes, whoever's children they are."""
        for pid in processes_with(AUTOSCORER_HOME=self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """All of it at once, never to return."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        eventually(lambda: not processes_with(AUTOSCORER_HOME=self.home), within=300)

    def containers(self, client: Any) -> list[str]:
        """The containers that its processes have started, by the engine that all hosts share."""
        found = client.containers(all=True, filters={"label": "io.autoscorer.owner"})
        return [each["Id"] for each in found if each["Labels"]["io.autoscorer.owner"].startswith(self.name + "|")]

    def stop(self) -> None:
        if self.is_up:
            self.signal(signal.SIGCONT)
            self.kill()
