"""One process that is bubblewrap and then the model: started, heard, ended."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.processes import has_exited, kill_processes
from . import launch

__all__ = ["Plan", "Sandbox", "kill_by_name", "memory_file", "process_name"]

# Seconds that bubblewrap has to say that the model's first process is there.
_STARTS = 60.0
_HEARD = 4096


@dataclass(frozen=True)
class Plan:
    """What the launcher is told beside bubblewrap's options; see ``launch.py``."""

    run_id: str
    bubblewrap: str
    mounts: tuple[tuple[str, str], ...] = ()
    user: tuple[int, int] | None = None
    groups: tuple[Path, ...] = ()
    limits: tuple[tuple[int, int], ...] = ()
    cpus: int | None = None


class Sandbox:
    """Starts one.

    Args:
        plan: How.
        options: What bubblewrap is told.
        command: The model's command.
        files: Descriptors that bubblewrap inherits.
        info: The two ends of the pipe that it tells its first process to; both are closed.
        on_log: Takes stdout and stderr as they come, from another thread.
    """

    def __init__(
        self,
        plan: Plan,
        options: Sequence[str],
        command: Sequence[str],
        files: Sequence[int],
        info: tuple[int, int],
        on_log: Callable[[bytes], None],
    ) -> None:
        if any("\0" in each for each in (*options, *command)):
            # What comes here was checked before; a NUL would end an option, and what follows would be the next one.
            raise ValueError("an option holds a NUL")
        reader, writer = info
        # By a descriptor: what is on its command line, every user of the host can read.
        told = memory_file("\0".join([*options, ""]).encode())
        argv = [process_name(plan.run_id), "--args", str(told), "--", *command]
        text = json.dumps(
            {
                "parent": os.getpid(),
                "user": plan.user,
                "mounts": plan.mounts,
                "groups": [str(path) for path in plan.groups],
                "limits": plan.limits,
                "cpus": plan.cpus,
                "command": [plan.bubblewrap, *argv],
            }
        )
        given = memory_file(text.encode())
        self._heard = b""
        self._on_log = on_log
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", "-S", launch.__file__, str(given)],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(*files, writer, told, given),
            )
        finally:
            for fd in (writer, told, given):
                os.close(fd)
        self._reader = threading.Thread(target=self._pump, name="autoscorer-log", daemon=True)
        self._reader.start()
        try:
            self.first = _first_process(reader)
        finally:
            os.close(reader)
        self._rusage: resource.struct_rusage | None = None
        self._code: int | None = None

    def _pump(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self.process.stdout.fileno(), 65536):
                self._heard = (self._heard + data)[:_HEARD] if len(self._heard) < _HEARD else self._heard
                self._on_log(data)

    @property
    def heard(self) -> str:
        """The first of what was written to stdout and stderr."""
        return self._heard.decode("utf-8", "replace")

    def has_ended(self, seconds: float) -> bool:
        """Wait at most so long for its end; it stays a zombie until ``end``."""
        if self._code is not None:
            return True
        until = time.monotonic() + seconds
        while not has_exited(self.process.pid):
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, 0.005))
        return True

    def kill(self) -> None:
        """End it with all that it has started: the kernel ends a PID namespace with its first process."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        if self.first is not None:
            _end_first(self.first)

    def end(self) -> int:
        """Its exit code, once it has ended; that of a shell where a signal ended it."""
        if self._code is None:
            _, status, self._rusage = os.wait4(self.process.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._code = self.process.returncode = code if code >= 0 else 128 - code
            self._reader.join(5)
        return self._code

    @property
    def cpu_seconds(self) -> float | None:
        """Of all its processes together; known after the end."""
        return self._rusage.ru_utime + self._rusage.ru_stime if self._rusage is not None else None

    def close(self) -> None:
        """Let go of its output."""
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


def process_name(run_id: str) -> str:
    """What bubblewrap's processes are called, outside and inside; ``kill_by_name`` finds them by it."""
    return f"autoscorer-init-{run_id}"


def kill_by_name(run_id: str) -> None:
    """Kill what a run left whose starter has died."""
    name = process_name(run_id).encode()
    kill_processes(lambda entry: (entry / "cmdline").read_bytes().split(b"\0")[0] == name)


def memory_file(data: bytes) -> int:
    """A descriptor of a file in memory, at its beginning."""
    fd = os.memfd_create("autoscorer")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _first_process(reader: int) -> int | None:
    """PID of the model's namespace's first process; None when bubblewrap ended before there was one."""
    said = b""
    until = time.monotonic() + _STARTS
    while select.select([reader], [], [], max(until - time.monotonic(), 0))[0] and (data := os.read(reader, 4096)):
        said += data
    with contextlib.suppress(ValueError):
        answer: Any = json.loads(said)
        return int(answer["child-pid"])
    return None


def _end_first(pid: int) -> None:
    """Wait until the namespace's first process is gone, and with it all others."""
    for _ in range(200):
        try:
            if (Path("/proc", str(pid)) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except (OSError, IndexError):
            return
        time.sleep(0.005)
