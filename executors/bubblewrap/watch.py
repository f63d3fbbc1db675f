"""What a run uses where it has no control group: its processes are looked at again and again, and their sum counts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..base import KillReason, RunLimits
from ..cgroup import PROC

__all__ = ["TreeWatch"]

# Seconds between two looks, at least: each reads a file of every process of the run.
_PAUSE = 0.02
_KIB = 1024


class TreeWatch:
    """Looks at the processes of one PID namespace.

    Args:
        first: The namespace's first process, as this host numbers it.
        limits: What the run may use.
        proc: The process file system.
    """

    def __init__(self, first: int, limits: RunLimits, proc: Path = PROC) -> None:
        self._proc, self._limits = proc, limits
        self._namespace = _namespace(proc / str(first))
        self._next = 0.0
        self.peak_memory: int | None = None
        self.exceeds: KillReason | None = None
        self.is_out_of_memory = False
        """Whether all of them together have held more memory than the run may."""

    def processes(self) -> Iterator[Path]:
        """The run's processes, each as its folder in the process file system."""
        if self._namespace is None:
            return
        for name in os.listdir(self._proc):
            if name.isdigit() and _namespace(self._proc / name) == self._namespace:
                yield self._proc / name

    def look(self) -> None:
        """See what they use now, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        processes = [*self.processes()]
        memory, threads = _total(processes, "status", ("RssAnon", "RssShmem", "VmSwap")), 0
        for process in processes:
            with contextlib.suppress(OSError):
                threads += len(os.listdir(process / "task"))
        if memory > self._limits.memory:
            # What processes have in common since a fork was counted for each. The shares take longer to read.
            memory = _total(processes, "smaps_rollup", ("Pss_Anon", "Pss_Shmem", "SwapPss"))
        self.peak_memory = max(self.peak_memory or 0, memory)
        self.is_out_of_memory = self.is_out_of_memory or memory > self._limits.memory
        if threads > self._limits.pids:
            self.exceeds = KillReason.PROCESSES
        # A tenth of the time at most goes into looking.
        self._next = time.monotonic() + max(_PAUSE, 10 * (time.monotonic() - now))


def _namespace(process: Path) -> int | None:
    try:
        return os.stat(process / "ns" / "pid").st_ino
    except OSError:
        return None


def _total(processes: list[Path], file: str, names: tuple[str, ...]) -> int:
    """Bytes of all processes together. Pages of files are left out: they are the disk's, and others have them, too."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError, ValueError):
            fields = _fields(process / file)
            total += sum(fields.get(name, 0) for name in names) * _KIB
    return total


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a status file; sizes are in KiB."""
    found = {}
    for line in path.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        first = value.split()
        if first and first[0].isdigit():
            found[name] = int(first[0])
    return found
