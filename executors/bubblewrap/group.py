"""A control group of one run's own, where this process may make one: as root, with version 1 or 2.

The kernel then holds the limits for all of the run's processes together, and says which one was met.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from ..base import RunLimits
from ..cgroup import CGROUPS, PROC, CgroupReader

__all__ = ["RunGroup", "group_name", "remove_group"]

_V1 = ("memory", "pids", "cpu", "cpuacct")
_PERIOD = 100_000
# Seconds that processes which were killed have to go.
_PATIENCE = 10.0


class RunGroup:
    """The control group of a run: one folder of version 2, or one for each controller of version 1."""

    def __init__(self, folders: dict[str, Path]) -> None:
        # Controller to folder; the empty name is version 2.
        self._folders = folders
        self.is_unified = "" in folders
        one = folders.get("", Path())
        if self.is_unified:
            self.reader = CgroupReader(one / "memory.peak", one / "cpu.stat", one / "pids.events")
        else:
            memory, pids = folders["memory"], folders["pids"]
            cpu = folders.get("cpuacct", Path("/nowhere"))
            self.reader = CgroupReader(
                memory / "memory.max_usage_in_bytes", cpu / "cpuacct.usage", pids / "pids.events"
            )

    @classmethod
    def make(cls, run_id: str, limits: RunLimits, root: Path = CGROUPS, proc: Path = PROC) -> RunGroup | None:
        """Make one with a run's limits; None where this process may not, or the kernel has no such controllers.

        Args:
            run_id: The run.
            limits: What it may use.
            root: Where control groups are mounted.
            proc: The process file system.
        """
        folders: dict[str, Path] = {}
        try:
            for controller, parent in _parents(root, proc).items():
                folders[controller] = parent / group_name(run_id)
                folders[controller].mkdir()
            group = cls(folders) if folders else None
            if group is not None:
                group._hold(limits)
            return group
        except OSError:
            _remove(folders.values())
            return None

    @staticmethod
    def can_be_made(root: Path = CGROUPS, proc: Path = PROC) -> bool:
        """Whether this process may make one."""
        name = group_name(f"try-{os.getpid()}")
        try:
            parents = [parent / name for parent in _parents(root, proc).values()]
            for folder in parents:
                folder.mkdir()
                folder.rmdir()
        except OSError:
            return False
        return bool(parents)

    @property
    def joins(self) -> list[Path]:
        """Files to write a PID to, so that it belongs to the run."""
        return [folder / "cgroup.procs" for folder in self._folders.values()]

    def processes(self) -> Iterator[Path]:
        """The run's processes, each as its folder in the process file system."""
        for pid in _members(self._folders.values()):
            yield PROC / str(pid)

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has ended a process of the run for its memory."""
        one = self._folders.get("") or self._folders["memory"]
        name = "memory.events" if self.is_unified else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split() for line in (one / name).read_text().splitlines())
            return int(counts.get("oom_kill", 0)) > 0
        return False

    def kill(self) -> None:
        """End every process in it, and wait until they are gone."""
        _kill(self._folders.values())

    def remove(self) -> None:
        """Remove it, with what is still in it."""
        _remove(self._folders.values())

    def _hold(self, limits: RunLimits) -> None:
        cpu = min(limits.cpu, os.cpu_count() or 1)
        quota = max(int(cpu * _PERIOD), 1000)
        if self.is_unified:
            one = self._folders[""]
            (one / "memory.max").write_text(str(limits.memory))
            (one / "pids.max").write_text(str(limits.pids))
            (one / "cpu.max").write_text(f"{quota} {_PERIOD}")
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                (one / "memory.swap.max").write_text("0")
            return
        memory = self._folders["memory"]
        (memory / "memory.limit_in_bytes").write_text(str(limits.memory))
        with contextlib.suppress(FileNotFoundError, PermissionError):
            (memory / "memory.memsw.limit_in_bytes").write_text(str(limits.memory))
        (self._folders["pids"] / "pids.max").write_text(str(limits.pids))
        if (group := self._folders.get("cpu")) is not None:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))


def group_name(run_id: str) -> str:
    """What a run's folders among the control groups are called."""
    return f"autoscorer-{run_id}"


def remove_group(run_id: str, root: Path = CGROUPS) -> None:
    """Kill and remove what a run left among the control groups, wherever it was made."""
    name = group_name(run_id)
    found = [Path(parent, name) for parent, folders, _ in os.walk(root) if name in folders]
    _remove(found)


def _parents(root: Path, proc: Path) -> dict[str, Path]:
    """Where to make a run's group, for each controller; nothing where the kernel can't hold memory and processes."""
    if (root / "cgroup.controllers").exists():
        # Below the top and not below our own group: one with processes in it can't give controllers to another.
        top = root / "autoscorer"
        wanted = {"memory", "pids", "cpu"}
        top.mkdir(exist_ok=True)
        for each in (root, top):
            missing = wanted - {*(each / "cgroup.subtree_control").read_text().split()}
            if missing:
                (each / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(missing)))
        return {"": top}
    own = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found = {}
    for name in _V1:
        if name in own and (root / name).is_dir():
            inside = root / name / own[name].lstrip("/")
            # In a container this process' own path may be the host's, which is not to be seen here.
            found[name] = inside if ".." not in own[name] and inside.is_dir() else root / name
    return found if {"memory", "pids"} <= found.keys() else {}


def _members(folders: Collection[Path]) -> set[int]:
    found: set[int] = set()
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            found |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    return found


def _kill(folders: Collection[Path]) -> None:
    end = time.monotonic() + _PATIENCE
    while (pids := _members(folders)) and time.monotonic() < end:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _remove(folders: Collection[Path]) -> None:
    _kill(folders)
    for folder in folders:
        end = time.monotonic() + _PATIENCE
        while folder.is_dir():
            try:
                folder.rmdir()
            except OSError:
                if time.monotonic() > end:
                    break
                time.sleep(0.005)
