"""How many calls are under way at a time: of one profile and of all, in every process of a home together.

Each call holds one of N locked files under ``<home>/judge-slots``; the kernel gives back those of a process that is
killed. A process keeps a place that it has used for a moment, so that calls which follow each other make no system
call. Where processes compete, each leaves a mark while it waits, and whoever has places lets one go now and then.
Inside a process who came first is served first.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from ...core.config import Settings
from ...core.locks import acquire, is_locked
from ...core.storage import writing_home
from .global_limit import GlobalLimit

__all__ = ["Limits", "Places"]

# Seconds that a place is kept after its use; between two looks for others who wait; between two tries to get one.
_KEPT, _LOOK, _FIRST, _MOST = 0.2, 0.25, 0.01, 0.1
_numbers = itertools.count()


class Place(NamedTuple):
    """A locked file."""

    fd: int
    number: int


class Limits:
    """The limits of one installation, as this process sees them.

    Args:
        settings: The configuration: its home, and how many calls at a time go to all profiles together.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / "judge-slots"
        self._all = Places(self._folder, "all", settings.judge.concurrency)
        self._profiles: dict[str, Places] = {}
        self._global: dict[str, GlobalLimit] = {}

    @contextlib.asynccontextmanager
    async def place(self, name: str, number: int, over_hosts: str | None = None) -> AsyncIterator[None]:
        """Wait for the right to make a call, and have it inside.

        Args:
            name: Of the profile, with its kind.
            number: Calls at a time to it.
            over_hosts: A global concurrency limit of Prefect that it takes a slot of besides.

        Raises:
            AutoScorerError: ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage ``config`` when the home can't be written,
                or Prefect has no such limit.
        """
        places = self._profiles.get(name)
        if places is None:
            places = self._profiles[name] = Places(self._folder, name, number)
        # Always in this order: whoever waits for a profile holds nothing of the others.
        one = await places.take()
        try:
            another = await self._all.take()
            try:
                async with contextlib.nullcontext() if over_hosts is None else self._of_prefect(over_hosts).slot():
                    yield
            finally:
                self._all.give(another)
        finally:
            places.give(one)

    def _of_prefect(self, name: str) -> GlobalLimit:
        limit = self._global.get(name)
        if limit is None:
            limit = self._global[name] = GlobalLimit(self._settings, name)
        return limit

    async def close(self) -> None:
        """Give back what is kept."""
        for limit in self._global.values():
            await limit.close()
        for places in (self._all, *self._profiles.values()):
            places.close()


class Places:
    """N places that the processes of a home have in common.

    Args:
        folder: Where their files are.
        name: What they are for; a part of file names.
        number: How many there are.
    """

    def __init__(self, folder: Path, name: str, number: int) -> None:
        self._folder, self._name, self._number = folder, name, number
        self._own: set[int] = set()
        self._kept: deque[tuple[Place, float]] = deque()
        self._queue = asyncio.Lock()
        self._freed = asyncio.Event()
        self._waiters = 0
        self._mark: tuple[int, Path] | None = None
        self._looked = self._yielded_until = 0.0
        self._trimmer: asyncio.TimerHandle | None = None

    async def take(self) -> Place:
        """Wait for a place, behind all of this process who wait already."""
        if self._waiters == 0 and (place := self._at_once()) is not None:
            return place
        self._waiters += 1
        try:
            async with self._queue:
                return await self._next()
        finally:
            self._waiters -= 1
            if self._waiters == 0:
                self._unmark()

    def give(self, place: Place) -> None:
        """Give a place back. It is kept for whoever comes next in this process, unless another process waits."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            if self._others_wait():
                self._close(place)
                # Long enough for each of them to come by.
                self._yielded_until = now + 2 * _MOST
                return
        self._kept.append((place, now))
        self._freed.set()
        if self._trimmer is None:
            self._trimmer = asyncio.get_running_loop().call_later(_KEPT, self._trim)

    def close(self) -> None:
        """Give back what is kept."""
        if self._trimmer is not None:
            self._trimmer.cancel()
            self._trimmer = None
        while self._kept:
            self._close(self._kept.pop()[0])
        self._unmark()

    async def _next(self) -> Place:
        pause = _FIRST
        while (place := self._at_once()) is None:
            if pause > _FIRST and self._mark is None:
                self._mark = self._marked()
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                # Not all processes at the same moment, and none always behind another.
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret
                    await self._freed.wait()
            pause = min(1.5 * pause, _MOST)
        return place

    def _at_once(self) -> Place | None:
        if self._kept:
            return self._kept.pop()[0]
        if len(self._own) == self._number or time.monotonic() < self._yielded_until:
            return None
        with writing_home(self._folder.parent):
            self._folder.mkdir(parents=True, exist_ok=True)
            # From another one each time: the first ones would be tried in vain by everybody.
            start = random.randrange(self._number)  # noqa: S311 - no secret
            for step in range(self._number):
                index = (start + step) % self._number
                if index not in self._own and (fd := acquire(self._folder / f"{self._name}~{index}")) is not None:
                    self._own.add(index)
                    return Place(fd, index)
        return None

    def _trim(self) -> None:
        until = time.monotonic() - _KEPT
        while self._kept and self._kept[0][1] <= until:
            self._close(self._kept.popleft()[0])
        self._trimmer = asyncio.get_running_loop().call_later(_KEPT, self._trim) if self._kept else None

    def _close(self, place: Place) -> None:
        os.close(place.fd)
        self._own.discard(place.number)

    def _marked(self) -> tuple[int, Path] | None:
        path = self._folder / "waiting" / f"{self._name}~{os.getpid()}-{next(_numbers)}"
        with writing_home(self._folder.parent):
            path.parent.mkdir(exist_ok=True)
            fd = acquire(path)
        return (fd, path) if fd is not None else None

    def _unmark(self) -> None:
        if self._mark is not None:
            fd, path = self._mark
            self._mark = None
            path.unlink(missing_ok=True)
            os.close(fd)

    def _others_wait(self) -> bool:
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder / "waiting") as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith(f"{self._name}~") and (self._mark is None or path != self._mark[1]):
                    if is_locked(path):
                        return True
                    path.unlink(missing_ok=True)  # its process was killed
        return False
