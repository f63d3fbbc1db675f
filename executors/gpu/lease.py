"""Who has which GPU: a run has its devices alone, from before its model starts until after it has ended.

A device is held by a lock on a file that all homes of this host share, and the kernel gives it back when the holder
dies. A run that asks for several takes all of them or none, so that runs which wait for each other can't come about.
What a lock can't say is asked of others: whether a container of a run that died has the device yet, and whether
somebody else's process computes on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, suggest
from ...core.locks import acquire, is_at, open_shared_lock, try_lock, unlock
from ...core.processes import is_in_container
from ...core.storage import writing_home
from ..base import Gpu, Observer, RunLimits
from .inventory import Inventory, take_inventory
from .nvml import NoNvml, compute_processes, nvml

__all__ = ["Leased", "lease_folder", "leased_gpus"]

# Seconds between two attempts: short at first, then calmer.
_FIRST, _MOST = 0.02, 0.5
# Seconds after which a run that waits looks anew at which devices there are.
LOOK_AGAIN = 10.0
# Seconds to wait for devices that no run has and that others compute on: nobody says when they will end.
STRANGERS_PATIENCE = 60.0


@dataclass(frozen=True)
class Leased:
    """The devices of a run, and the seconds that it waited for them; None where it asked for none."""

    gpus: tuple[Gpu, ...] = ()
    waited: float | None = None


@contextlib.contextmanager
def leased_gpus(
    settings: Settings,
    executor: str,
    limits: RunLimits,
    cancelled: Callable[[], bool],
    observer: Observer,
    held_by_containers: Callable[[], frozenset[str]] = frozenset,
) -> Iterator[Leased]:
    """Wait for the GPUs that a run asks for, and have them inside.

    Args:
        settings: The configuration.
        executor: ``docker``, ``process`` and the like; with ``kubernetes`` the cluster gives the devices.
        limits: How many of which kind the run gets.
        cancelled: Asked again and again while it waits.
        observer: Told of the stage ``wait``, if it has to.
        held_by_containers: UUIDs of the devices that containers have, of whatever home and whether or not their owners
            live.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where this host can't give what is asked for, or others compute on
            it; ``CANCELLED`` while it waited; ``STORAGE_FULL``.
    """
    if limits.gpu == 0 or executor == "kubernetes":
        yield Leased()
        return
    started = time.monotonic()
    pause = _FIRST
    with contextlib.ExitStack() as session:
        nv: Any = None
        with contextlib.suppress(NoNvml):
            nv = session.enter_context(nvml())  # once: where nobody else keeps a driver awake, this takes seconds
        taker = _Taker(settings, limits, held_by_containers, nv)
        while (held := taker.take()) is None:
            if pause == _FIRST:
                observer.stage("wait", f"for {_asked(limits)}")
            if cancelled():
                raise AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled while it waited for a GPU.")
            # Not all at the same moment, and none always behind another.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(1.5 * pause, _MOST)
    gpus, locks = held
    try:
        yield Leased(gpus, time.monotonic() - started)
    finally:
        _let_go(locks)


def lease_folder(settings: Settings) -> Path:
    """Where the locks lie: one folder for all homes and users of this host, or the operator's.

    By the folder's mode and not by what this process may do: all users must come to the same. In a container it would
    be that container's alone, so the locks lie in the home, which containers of one installation share.
    """
    configured = settings.executors.gpu.lease_dir
    if configured is not None:
        return configured
    if is_in_container():
        return settings.home / "slots"
    usual = Path("/run/lock")
    with contextlib.suppress(OSError):
        # For everybody, and nobody removes what others made.
        if usual.stat().st_mode & 0o1002 == 0o1002:
            return usual
    return Path("/dev/shm")


class _Taker:
    """Takes what one run asks for, at the first attempt at which all of it is free."""

    def __init__(
        self, settings: Settings, limits: RunLimits, held_by_containers: Callable[[], frozenset[str]], nv: Any
    ) -> None:
        self._settings, self._limits, self._nv = settings, limits, nv
        self._held_by_containers = held_by_containers
        self._folder = lease_folder(settings)
        if self._folder.is_relative_to(settings.home):
            with writing_home(settings.home):
                self._folder.mkdir(parents=True, exist_ok=True)
        self._inventory: Inventory | None = None
        self._looked = 0.0
        # Devices that containers had at the last look; and why a device was not taken that no run has.
        self._left: frozenset[str] = frozenset()
        self._occupied: dict[str, str] = {}
        self._since: float | None = None

    def take(self) -> tuple[tuple[Gpu, ...], list[int]] | None:
        """The devices, and the locks that hold them; None where they are not free.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` where they never will be.
        """
        if self._inventory is None or time.monotonic() > self._looked + LOOK_AGAIN:
            self._inventory, self._looked = take_inventory(self._settings), time.monotonic()
        inventory = self._inventory
        candidates = _candidates(inventory, self._limits, self._settings)
        if self._left:
            self._left = self._held_by_containers()
        self._occupied.clear()
        with contextlib.ExitStack() as stack:
            locks: list[int] = []
            stack.callback(_let_go, locks)
            with contextlib.ExitStack() as choosing:
                # One run at a time chooses: two could each take what the other one lacks, again and again.
                gate = self._open("choosing")
                choosing.callback(_let_go, [gate])
                if not try_lock(gate):
                    return None
                is_taken = False
                for group in candidates:
                    gpus, others = self._take_of(group, locks)
                    is_taken = is_taken or others
                    if gpus is not None:
                        break
                else:
                    self._judge(is_taken)
                    return None
            # Last, because its owner may have died at this moment: the lock is free, the container is there.
            left = self._held_by_containers()
            if left & {gpu.uuid for gpu in gpus}:
                self._left = left
                return None
            stack.pop_all()
            return gpus, locks

    def _take_of(self, group: Sequence[Gpu], locks: list[int]) -> tuple[tuple[Gpu, ...] | None, bool]:
        """Devices of one type, or None; and whether a run has what is missing."""
        number = self._limits.gpu
        taken: list[Gpu] = []
        mine: list[int] = []
        is_taken = False
        with contextlib.ExitStack() as stack:
            stack.callback(_let_go, mine)
            if not self._take_places(group[0].type, mine):
                return None, True
            for gpu in group:
                if len(taken) == number:
                    break
                before = len(mine)
                if not self._lock(gpu, mine):
                    is_taken = True
                    continue
                pids = compute_processes(self._nv, gpu.uuid) if self._nv is not None else []
                if gpu.uuid in self._left:
                    self._occupied[gpu.uuid] = "a container that has outlived its run (`autoscorer reap` removes it)"
                elif pids and not self._settings.security.allow_shared_gpu:
                    self._occupied[gpu.uuid] = f"processes of others ({', '.join(map(str, pids))})"
                else:
                    taken.append(replace(gpu, shared=gpu.shared or "processes of others") if pids else gpu)
                    continue
                _let_go(mine[before:])
                del mine[before:]
            if len(taken) < number:
                return None, is_taken
            stack.pop_all()
        locks.extend(mine)
        return tuple(taken), is_taken

    def _take_places(self, name: str | None, locks: list[int]) -> bool:
        """Places among those that ``max_per_type`` gives this home."""
        most = self._settings.executors.gpu.max_per_type.get(name or "")
        if most is None:
            return True
        folder = self._settings.home / "slots"
        with writing_home(folder.parent):
            folder.mkdir(parents=True, exist_ok=True)
            got = 0
            for index in range(most):
                if got == self._limits.gpu:
                    break
                if (fd := acquire(folder / f"gpu.{quote(name or '', safe='')}.{index}")) is not None:
                    locks.append(fd)
                    got += 1
        return got == self._limits.gpu

    def _lock(self, gpu: Gpu, locks: list[int]) -> bool:
        """Lock a device: a slice also shares the lock of its GPU, which as a whole nobody can have then."""
        before = len(locks)
        for uuid, shared in ((gpu.parent, True), (gpu.uuid, False)):
            if uuid is None:
                continue
            fd = self._open(uuid)
            locks.append(fd)
            # Whoever made the file may have removed it.
            if not try_lock(fd, shared=shared) or not is_at(fd, self._path(uuid)):
                _let_go(locks[before:])
                del locks[before:]
                return False
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"autoscorer-gpu.{quote(name, safe='')}"

    def _open(self, name: str) -> int:
        path = self._path(name)
        try:
            return open_shared_lock(path)
        except OSError as error:
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"The lease of a GPU can't be noted in {str(path)!r}: {error.strerror}. Set executors.gpu.lease_dir to "
                "a folder that all who share these devices may write to.",
            ) from None

    def _judge(self, is_taken: bool) -> None:
        """Wait for other runs as long as it takes, and for what is no run's a while."""
        if is_taken or not self._occupied:
            self._since = None
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= STRANGERS_PATIENCE:
            told = "; ".join(f"{uuid} has {what}" for uuid, what in self._occupied.items())
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"No run has the GPUs that are asked for, and they are in use all the same: {told}. End these, or take "
                "the devices out of executors.gpu.devices.",
                details={"occupied": self._occupied},
            )


def _candidates(inventory: Inventory, limits: RunLimits, settings: Settings) -> list[list[Gpu]]:
    """The devices that will do, a list for each type: a run gets devices of one type alone.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where there are not enough of any, whoever has them.
    """
    if not inventory.is_seen and (limits.gpu_types or limits.gpu_memory):
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            "The job says which type or memory its GPUs must have, and without NVML nothing here knows that of its "
            "devices. Install its module (pip install 'autoscorer[gpu]').",
        )
    most = settings.executors.gpu.max_per_type
    fit = [
        gpu
        for gpu in inventory.gpus
        if (not limits.gpu_types or gpu.type in limits.gpu_types)
        and (gpu.memory or 0) >= limits.gpu_memory
        # CUDA gives a program one slice, however many it has: several are given to those alone who name them.
        and (limits.gpu == 1 or gpu.parent is None or gpu.type in limits.gpu_types)
    ]
    groups: dict[str | None, list[Gpu]] = {}
    for gpu in fit:  # in the order of the inventory, the smallest first
        groups.setdefault(gpu.type, []).append(gpu)
    enough = [
        group for name, group in groups.items() if limits.gpu <= min(len(group), most.get(name or "", limits.gpu))
    ]
    if not enough:
        raise _never(inventory, limits, fit, settings)
    return enough


def _never(inventory: Inventory, limits: RunLimits, fit: Sequence[Gpu], settings: Settings) -> AutoScorerError:
    types = sorted({gpu.type for gpu in inventory.gpus if gpu.type is not None})
    has = [f"{sum(gpu.type == name for gpu in inventory.gpus)} × {name}" for name in types]
    here = ", ".join(has) or f"{len(inventory.gpus)}"
    near = "".join(suggest(name, types) for name in limits.gpu_types if name not in types)
    maxima = {name: most for name, most in settings.executors.gpu.max_per_type.items() if name in types}
    told = f" executors.gpu.max_per_type: {', '.join(f'{name}: {most}' for name, most in maxima.items())}."
    left_out = f" Not given: {'; '.join(inventory.left_out)}." if inventory.left_out else ""
    return AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"The job asks for {_asked(limits)}, and this host has never so many to give (GPUs: {here}{near})."
        f"{told if maxima else ''}{left_out} Ask for what there is, or run it on another host.",
        details={"asked": limits.gpu, "fit": len(fit), "left_out": list(inventory.left_out)},
    )


def _asked(limits: RunLimits) -> str:
    number = "a GPU" if limits.gpu == 1 else f"{limits.gpu} GPUs"
    kind = f" of type {' or '.join(limits.gpu_types)}" if limits.gpu_types else ""
    memory = f" with {limits.gpu_memory / 1024**3:.4g} GiB" if limits.gpu_memory else ""
    return number + kind + memory


def _let_go(locks: Sequence[int]) -> None:
    for fd in locks:
        with contextlib.suppress(OSError):
            unlock(fd)
        os.close(fd)
