"""A second Docker Engine, which a test may kill and freeze; the one that the other tests share is left in peace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["OwnEngine", "own_engine"]


class OwnEngine:
    """``dockerd`` with folders, a socket and a containerd of its own, without networks.

    Args:
        folder: Where everything of it lies; the path must be short, because sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` has to be."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it, or start it again, and wait until it answers."""
        config = self.folder / "daemon.json"
        config.write_text("{}")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # A network of its own: an engine without a bridge removes docker0, which is the shared one's.
                    *(
                        "unshare",
                        "--net",
                        "dockerd",
                        "--config-file",
                        str(config),
                        "--data-root",
                        str(self.folder / "root"),
                    ),
                    *("--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid")),
                    *("--host", self.host, "--bridge=none", "--iptables=false", "--ip6tables=false", *options),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(600):
            if self.docker("version", check=False).returncode == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.1)
        raise AssertionError("the engine did not start")

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the docker command on it."""
        command = ["docker", "--host", self.host, *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=300)

    def end(self, number: int) -> None:
        """Send it a signal that ends it, and wait for that; its containerd dies with it, a moment later."""
        if self._process is None:
            return
        pidfile = self.folder / "exec" / "containerd" / "containerd.pid"
        containerd = Path("/proc", pidfile.read_text())
        self._process.send_signal(number)
        self._process.wait(300)
        self._process = None
        for _ in range(600):
            if not containerd.exists() or "Z" in (containerd / "stat").read_text().rpartition(")")[2].split()[:1]:
                # The next one would take a zombie, which some init processes leave for a while, for one that lives.
                pidfile.unlink(missing_ok=True)
                return
            time.sleep(0.1)
        raise AssertionError("the engine's containerd lives on")


@contextlib.contextmanager
def own_engine(folder: Path, image: str) -> Iterator[OwnEngine]:
    """An engine that runs and has an image of the shared one; afterwards nothing of it is left."""
    engine = OwnEngine(folder)
    engine.start()
    try:
        saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
        subprocess.run(["docker", "--host", engine.host, "load"], input=saved, check=True, capture_output=True)
        yield engine
    finally:
        engine.end(signal.SIGKILL)
        engine.start()  # without live-restore: ends whatever still runs
        engine.docker("rm", "--force", *engine.docker("ps", "--all", "--quiet").stdout.split(), check=False)
        engine.end(signal.SIGTERM)
        for shim in _shims(folder):  # a containerd that was killed at a bad moment has forgotten them
            os.kill(shim, signal.SIGKILL)
        for mount in Path("/proc/self/mounts").read_text().splitlines():
            place = mount.split()[1]
            if place.startswith(str(folder) + os.sep):
                subprocess.run(["umount", "--lazy", place], capture_output=True)


def _shims(folder: Path) -> list[int]:
    """The processes that stand between containers and a containerd in this folder."""
    address = str(folder / "exec" / "containerd" / "containerd.sock").encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and address in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
