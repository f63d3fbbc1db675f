"""Watching a container from wherever AutoScorer runs: beside the engine, in a container of it, or on another host.

A container's processes and its control group are seen through ``/proc`` and ``/sys/fs/cgroup``. A process that is in a
container itself sees its own PID namespace there, and nothing of its neighbours; it needs the host's, mounted under
``executors.docker.host_mount``. Whether the right container is seen is known for certain: the process that the engine
names must be in a control group that carries the container's id.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ..base import Usage, Watched
from ..cgroup import CGROUPS, PROC, CgroupReader, container_groups, container_processes
from ..deleted_files import DeletedFiles
from .engine import engine_exceptions, knock, socket_of

__all__ = ["BLIND_ADVICE", "DockerWatch", "unwatched_here"]

BLIND_ADVICE = (
    "Where AutoScorer runs in a container, mount the host's /proc and /sys/fs/cgroup into it, read-only, as "
    "/host/proc and /host/sys/fs/cgroup (executors.docker.host_mount), and run it as a user that is not root, which "
    "its models then are, too, or with the capability SYS_PTRACE. An engine on another host can't be watched: run "
    "AutoScorer there."
)
EVERYTHING = frozenset(Watched)
CAP_SYS_PTRACE = 19
# Containers that are looked at to learn what can be seen from here.
SAMPLE = 20
# Seconds that a container's first process has to become one that can be looked into: the engine is still starting it.
STARTING = 1.0
# Seconds in which an engine notices that a container has ended.
ENDING = 2.0
# Seconds between two looks at the engine's own figures.
STATS_FIRST, STATS_MOST = 0.1, 1.0


class DockerWatch:
    """What is seen of one container that was just started.

    Args:
        client: The Engine's client.
        settings: The configuration.
        container: The container's id.
    """

    def __init__(self, client: Any, settings: Settings, container: str) -> None:
        self._required = settings.executors.docker.require_full_watch
        self._usage = Usage()
        self._reader: CgroupReader | None = None
        self._deleted: DeletedFiles | None = None
        self._stats: _EngineStats | None = None
        self._blind: frozenset[Watched] = frozenset()
        pid = _pid(client, container)
        if pid is None:
            return  # it has ended, and holds nothing any more
        if _is_local(client):
            self._reader, self._deleted = _look(pid, container, settings)
        blind = _blind(self._reader, self._deleted)
        if blind and _is_local(client) and _ends(client, container):
            return  # it ended meanwhile, and that is why
        self._blind = blind
        self._usage = self.usage()
        if self._usage.peak_memory is None or self._usage.cpu_seconds is None:
            self._stats = _EngineStats(client, container)

    @property
    def unwatched(self) -> frozenset[Watched]:
        """What is not seen of this container."""
        if self._deleted is not None and self._deleted.hiding:
            return self._blind | {Watched.DELETED_FILES}
        return self._blind

    @property
    def hides(self) -> bool:
        """Whether the model hides its deleted files where the operator requires the full watch."""
        return self._required and self._deleted is not None and self._deleted.hiding

    def usage(self) -> Usage:
        """The newest usage; after the end, what was seen last."""
        if self._reader is not None:
            self._usage = self._reader.read(self._usage)
        if self._stats is None:
            return self._usage
        peak, cpu = self._stats.peak_memory, self._stats.cpu_seconds
        return Usage(
            peak_memory=peak if self._usage.peak_memory is None else self._usage.peak_memory,
            cpu_seconds=cpu if self._usage.cpu_seconds is None else self._usage.cpu_seconds,
            forks_denied=self._usage.forks_denied,
        )

    def hidden_bytes(self, device: int) -> int:
        """Bytes on a device in files that the container has deleted and still holds."""
        return self._deleted.bytes_on(device) if self._deleted is not None else 0

    def stop(self) -> None:
        """Look no more."""
        if self._stats is not None:
            self._stats.stop()


def unwatched_here(client: Any, settings: Settings) -> frozenset[Watched]:
    """What can't be watched from here, without running a model: judged by the containers that run already.

    Where none runs, by whether the engine's own process is seen; what a run then finds decides.
    """
    if not _is_local(client):
        return EVERYTHING
    found = []
    for container in client.containers()[:SAMPLE]:
        if (pid := _pid(client, container["Id"])) is not None:
            # Others' containers are of other users; whether a model's files may be looked at is asked apart.
            blind = _blind(*_look(pid, container["Id"], settings, open_files=False))
            # One that ended meanwhile shows nothing.
            if not blind or _pid(client, container["Id"]) is not None:
                found.append(blind)
    if not found:  # its listener's PID is 0 for those in whose PID namespace it is not
        found = [frozenset() if _engine_pid(client) else EVERYTHING]
    blind = min(found, key=len)
    return blind if _may_trace() else blind | {Watched.DELETED_FILES}


def _may_trace() -> bool:
    """Whether a model's open files may be looked at: root runs it as another user, and everybody else as themselves."""
    if os.geteuid() != 0:
        return True
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> CAP_SYS_PTRACE & 1)


def _look(
    pid: int, container: str, settings: Settings, *, open_files: bool = True
) -> tuple[CgroupReader | None, DeletedFiles | None]:
    host = settings.executors.docker.host_mount
    for proc, own, other in (
        (PROC, CGROUPS, host / CGROUPS.relative_to("/")),
        (host / PROC.relative_to("/"), host / CGROUPS.relative_to("/"), CGROUPS),
    ):
        reader = CgroupReader.of(pid, container, proc, (own, other))
        if container_groups(proc / str(pid), container):
            # A control group lists processes only to those in whose PID namespace they are.
            members = reader.members if reader is not None and proc == PROC else None
            deleted = DeletedFiles(functools.partial(container_processes, container, members, proc))
            return reader, deleted if not open_files or _may_look(proc, pid) else None
    return None, None


def _may_look(proc: Path, pid: int) -> bool:
    """Whether the open files of the container's first process may be looked at: those of a stranger's user may not."""
    end = time.monotonic() + STARTING
    while True:
        try:
            os.listdir(proc / str(pid) / "fd")
        except PermissionError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
            continue
        except OSError:
            pass  # it has ended
        return True


def _blind(reader: CgroupReader | None, deleted: DeletedFiles | None) -> frozenset[Watched]:
    blind = set()
    if deleted is None:
        blind.add(Watched.DELETED_FILES)
    if reader is None or not reader.counts_refused_forks():
        blind.add(Watched.REFUSED_PROCESSES)
    return frozenset(blind)


def _pid(client: Any, container: str) -> int | None:
    """A running container's first process as its host numbers it; None when it has ended."""
    import docker.errors

    try:
        state = client.inspect_container(container)["State"]
    except docker.errors.NotFound:
        return None
    return state.get("Pid") or None


def _ends(client: Any, container: str) -> bool:
    """Whether it has ended, or the engine is only late to say so of one whose processes are gone."""
    end = time.monotonic() + ENDING
    while _pid(client, container) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _is_local(client: Any) -> bool:
    return socket_of(client) is not None


def _engine_pid(client: Any) -> int:
    """PID of the process that listens on the engine's socket, or 0 when it is in no PID namespace seen from here."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(socket_of(client) or "")
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


class _EngineStats:
    """The engine's own figures, for want of the control group: memory and CPU time, seen about once a second.

    Args:
        client: The Engine's client.
        container: The container's id.
    """

    def __init__(self, client: Any, container: str) -> None:
        self._client, self._container = client, container
        self._stopped = threading.Event()
        self.peak_memory: int | None = None
        self.cpu_seconds: float | None = None
        self._thread = threading.Thread(target=self._watch, name="autoscorer-stats", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(5)

    def _watch(self) -> None:
        pause = STATS_FIRST
        while True:
            # It may be gone, or the engine for a moment: the next look will show.
            with contextlib.suppress(*engine_exceptions(), ValueError):
                knock(self._client)
                self._take(self._client.stats(self._container, stream=False, one_shot=True))
            if self._stopped.wait(pause):
                return
            pause = min(2 * pause, STATS_MOST)

    def _take(self, stats: dict[str, Any]) -> None:
        memory = stats.get("memory_stats") or {}
        seen = memory.get("max_usage") or memory.get("usage")  # version 2 knows no peak: the most that was seen
        if isinstance(seen, int):
            self.peak_memory = max(self.peak_memory or 0, seen)
        cpu = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
        if isinstance(cpu, int) and cpu:
            self.cpu_seconds = max(self.cpu_seconds or 0, cpu / 1e9)
