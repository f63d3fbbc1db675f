"""Asking once: an answer comes from the cache, from an equal call that is under way, or from a call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from ...core.errors import AutoScorerError
from .cache import Cache
from .failures import failure, reason_of
from .flights import Flights

__all__ = ["Once", "until"]


class Once:
    """Answers by what they depend on.

    Args:
        cache: Answers of earlier calls; None where none are kept.
    """

    def __init__(self, cache: Cache | None) -> None:
        self.cache = cache
        self._flights: Flights[bytes] = Flights()

    async def get(self, key: bytes, call: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The answer of a key.

        Args:
            key: What the answer depends on.
            call: Asks for it; charged to whoever gave it.

        Returns:
            The answer, and whether it was asked for here.

        Raises:
            AutoScorerError: What the call raised.
        """
        if self.cache is not None and (known := await self.cache.get(key)) is not None:
            return known, False
        return await self.shared(key, call)

    async def shared(self, key: bytes, call: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The same without a look into the cache."""
        while True:
            joined = self._flights.is_under_way(key)
            try:
                return await self._flights.join(key, call)
            except AutoScorerError as error:
                # That somebody else has spent all of a budget says nothing of mine.
                if not (joined and reason_of(error) == "budget"):
                    raise

    async def close(self) -> None:
        """End what is under way, and close the cache."""
        await self._flights.close()
        if self.cache is not None:
            await self.cache.close()


@contextlib.asynccontextmanager
async def until(deadline: float, *, profile: str, model: str) -> AsyncIterator[None]:
    """Do something until a moment of the loop's clock.

    Raises:
        AutoScorerError: ``JUDGE_ERROR`` for the reason ``deadline``.
    """
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:  # its own: those of calls have been mapped
        raise failure("deadline", profile=profile, model=model) from None
