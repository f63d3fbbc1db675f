"""What a container uses, read from its control group while it runs (versions 1 and 2).

The Engine's own statistics come once a second and, under version 2, without the peak; a quick model would be over
before the first. The group vanishes with the container, so the last reading is what remains.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .base import Usage

__all__ = ["CGROUPS", "PROC", "CgroupReader", "container_groups", "container_processes"]

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class CgroupReader:
    """Reads one group.

    Args:
        memory_peak: File with the peak memory in bytes.
        cpu: File with the CPU time.
        pids_events: File that counts refused processes; the list of processes lies beside it.
    """

    def __init__(self, memory_peak: Path, cpu: Path, pids_events: Path) -> None:
        self._memory_peak, self._cpu, self._pids_events = memory_peak, cpu, pids_events
        # The group's processes, as the reader's own PID namespace numbers them.
        self.members = pids_events.with_name("cgroup.procs")

    @classmethod
    def of(cls, pid: int, container: str, proc: Path = PROC, roots: Sequence[Path] = (CGROUPS,)) -> CgroupReader | None:
        """The reader for the group of a process, or None when it can't be seen from here.

        Args:
            pid: A process of the container, as its host numbers it.
            container: The container's id; a group without it is not the container's (an engine in a virtual machine
                has PIDs of its own, and so has the PID namespace that this process may be in).
            proc: The process file system to look in.
            roots: Where control groups may be mounted; the first that has the container's is taken.
        """
        groups = container_groups(proc / str(pid), container)
        for root in roots:
            if "memory" in groups:
                v1 = {name: _folder(root / name, groups.get(name, ""), container) for name in _V1}
                if (memory := v1["memory"]) is not None:
                    missing = root / "missing"
                    return cls(
                        memory / "memory.max_usage_in_bytes",
                        (v1["cpuacct"] or missing) / "cpuacct.usage",
                        (v1["pids"] or missing) / "pids.events",
                    )
            elif "" in groups and (group := _folder(root, groups[""], container)) is not None:
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

    def counts_refused_forks(self) -> bool:
        """Whether the count of refused processes can be read."""
        return _field(self._pids_events, "max") is not None


_V1 = ("memory", "cpuacct", "pids")


def container_groups(process: Path, container: str) -> dict[str, str]:
    """The control groups of a process that are a container's: controller (empty in version 2) to path.

    Args:
        process: Its folder in a process file system.
        container: The container's id.
    """
    try:
        lines = (process / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    groups: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if container in path:
            for controller in controllers.split(","):
                groups[controller] = path
    return groups


def container_processes(container: str, members: Path | None, proc: Path) -> Iterator[Path]:
    """A container's processes, each as its folder in a process file system.

    Args:
        container: The container's id.
        members: File that lists the group's processes, as ``proc`` numbers them; None where there is no such list. Then
            every process of the host is asked for its group.
        proc: The process file system.
    """
    try:
        if members is not None:
            for pid in members.read_text().split():
                yield proc / pid
            return
        names = os.listdir(proc)
    except OSError:
        return
    for name in names:
        if name.isdigit() and container_groups(proc / name, container):
            yield proc / name


def _folder(root: Path, group: str, container: str) -> Path | None:
    """The group's folder below a mount; looked for by the container's id where the path is another namespace's.

    A process in a cgroup namespace of its own reads paths relative to its own group (``/../<id>``).
    """
    if not group:
        return None
    if ".." not in group and (folder := root / group.lstrip("/")).is_dir():
        return folder
    for parent, names, _ in os.walk(root):
        for name in names:
            if container in name:
                return Path(parent, name)
    return None


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
