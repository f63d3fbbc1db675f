"""Equal calls that are under way at the same time share one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Flights"]

T = TypeVar("T")


@dataclass
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class Flights(Generic[T]):
    """Calls under way, by key. One that nobody waits for any more is cancelled; no one who waits ends it for others."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[T]] = {}

    def is_under_way(self, key: bytes) -> bool:
        """Whether a call would be shared now."""
        return key in self._flights

    async def join(self, key: bytes, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What the call of a key gives, made now unless it is under way.

        Args:
            key: Equal for equal calls.
            call: Makes it.

        Returns:
            What it gave, and whether it was made for this caller.

        Raises:
            Exception: What the call raised.
        """
        flight = self._flights.get(key)
        mine = flight is None
        if flight is None:
            task = asyncio.ensure_future(_run(call))
            flight = self._flights[key] = _Flight(task)
            task.add_done_callback(lambda done: self._ended(key, done))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), mine
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                # A caller that comes from here on begins anew.
                self._forget(key, flight.task)
                flight.task.cancel()

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: bytes, task: asyncio.Task[T]) -> None:
        self._forget(key, task)
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()  # seen, also where all who waited have gone

    def _forget(self, key: bytes, task: asyncio.Task[T]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]


async def _run(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
