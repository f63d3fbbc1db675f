"""What a container uses, read from its control group while it runs (versions 1 and 2).

The Engine's own statistics come once a second and, under version 2, without the peak; a quick model would be over
before the first. The group vanishes with the container, so the last reading is what remains.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .base import Usage

__all__ = ["CgroupReader"]

_ROOT = Path("/sys/fs/cgroup")


class CgroupReader:
    """Reads one group.

    Args:
        memory_peak: File with the peak memory in bytes.
        cpu: File with the CPU time.
        pids_events: File that counts refused processes; the list of processes lies beside it.
    """

    def __init__(self, memory_peak: Path, cpu: Path, pids_events: Path) -> None:
        self._memory_peak, self._cpu, self._pids_events = memory_peak, cpu, pids_events
        self._processes = pids_events.with_name("cgroup.procs")

    @classmethod
    def of(cls, pid: int, container: str) -> CgroupReader | None:
        """The reader for the group of a process, or None when it can't be seen from here.

        Args:
            pid: A process of the container, as this host numbers it.
            container: The container's id; a group without it is not the container's (an engine in a virtual machine
                has PIDs of its own).
        """
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            return None
        groups: dict[str, str] = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if container in path:
                for controller in controllers.split(","):
                    groups[controller] = path.lstrip("/")
        if "memory" in groups:
            return cls(
                _ROOT / "memory" / groups["memory"] / "memory.max_usage_in_bytes",
                _ROOT / "cpuacct" / groups.get("cpuacct", "?") / "cpuacct.usage",
                _ROOT / "pids" / groups.get("pids", "?") / "pids.events",
            )
        if "" in groups:
            group = _ROOT / groups[""]
            return cls(group / "memory.peak", group / "cpu.stat", group / "pids.events")
        return None

    def read(self, last: Usage) -> Usage:
        """The newest usage; what can't be read any more stays as in ``last``."""
        peak = _number(self._memory_peak)
        forks = _field(self._pids_events, "max")
        if self._cpu.name == "cpu.stat":
            microseconds = _field(self._cpu, "usage_usec")
            cpu = None if microseconds is None else microseconds / 1e6
        else:
            nanoseconds = _number(self._cpu)
            cpu = None if nanoseconds is None else nanoseconds / 1e9
        return Usage(
            peak_memory=last.peak_memory if peak is None else peak,
            cpu_seconds=last.cpu_seconds if cpu is None else cpu,
            forks_denied=last.forks_denied if forks is None else forks,
        )

    def deleted_bytes(self, device: int) -> int:
        """Bytes on a device in files that the group's processes have deleted and still hold open or mapped.

        What this process may not look at counts as nothing: root sees everything, the model's own user nearly so.

        Args:
            device: ``st_dev`` of the device.
        """
        found: dict[int, int] = {}
        try:
            processes = self._processes.read_text().split()
        except OSError:
            return 0
        for pid in processes:
            for inode, size in (*_deleted_open(pid, device), *_deleted_mapped(pid, device)):
                found[inode] = max(found.get(inode, 0), size)
        return sum(found.values())


def _deleted_open(pid: str, device: int) -> Iterator[tuple[int, int]]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if status.st_dev == device and status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
            yield status.st_ino, max(status.st_size, status.st_blocks * 512)


def _deleted_mapped(pid: str, device: int) -> Iterator[tuple[int, int]]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        if not line.endswith(" (deleted)"):
            continue
        addresses, _, offset, where, inode = line.split(maxsplit=5)[:5]
        major, minor = (int(part, 16) for part in where.split(":"))
        if os.makedev(major, minor) == device:
            start, end = (int(part, 16) for part in addresses.split("-"))
            yield int(inode), int(offset, 16) + end - start


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        return None
    return None
