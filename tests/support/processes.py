"""Processes that tests start: what they are told, and which of them live."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["Processes", "clean_environment", "parent_of", "processes", "processes_with"]


def clean_environment() -> dict[str, str]:
    """This process's variables without what configures AutoScorer and Prefect."""
    ours = ("PREFECT_", "AUTOSCORER_", "SCORE_API_TOKEN")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def processes_with(**variables: object) -> dict[int, str]:
    """Every other living process with these variables, whoever its parent is: the oldest first, with its command."""
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found = {}
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            entry = Path(f"/proc/{pid}")
            if pid != os.getpid() and wanted <= {*(entry / "environ").read_bytes().split(b"\0")}:
                found[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def parent_of(pid: int) -> int:
    """The process that a process is a child of."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Processes:
    """Processes of a test's own, ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=environment or dict(os.environ),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._all.append((name, process))
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            command,
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        # In the order opposite to that of their start.
        for _, process in reversed(self._all):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    try:
        yield started
    finally:
        started.stop()
