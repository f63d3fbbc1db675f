"""A global concurrency limit of Prefect: how many calls are under way at a time, over all hosts.

Its slots are leased from Prefect's server by two small requests, and kept for a moment after their use, so that calls
which follow each other take the same one. Prefect takes back the slots of a process that was killed when their leases
run out. Prefect's own client is not used: it costs seconds of import, and serves those who wait one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from ...core.backoff import delays, periodic
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.prefect_address import prefect_headers, prefect_url

if TYPE_CHECKING:
    import aiohttp

__all__ = ["GlobalLimit"]

logger = logging.getLogger(__name__)

# Seconds of a lease, which Prefect lets last no shorter; between two renewals; that a slot is kept after its use.
_LEASE, _RENEW, _KEPT = 60.0, 20.0, 0.5
# Seconds between two tries to get a slot, at first and at most: Prefect's own answer is by minutes, calls take seconds.
_FIRST, _MOST = 0.05, 1.0
# Seconds between two tries to reach a server that is away, at first and at most.
_AWAY = (0.5, 5.0)
_TIMEOUT = 30.0
# No slot is free, or the server is busy: SQLite has one writer.
_LATER = frozenset({423, 429, 502, 503, 504})


class GlobalLimit:
    """The slots of one limit that this process has.

    Args:
        settings: The configuration, which says where Prefect's server is.
        name: Of the limit.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._url, self._headers, self._name = prefect_url(settings), prefect_headers(settings), name
        self._session: aiohttp.ClientSession | None = None
        self._leases: set[str] = set()
        self._kept: deque[tuple[str, float]] = deque()
        self._freed = asyncio.Event()
        self._queue = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None
        self._away = False

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, behind all of this process who wait already, and have it inside.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` where there is no such limit, or it is refused.
        """
        async with self._queue:
            lease = await self._next()
        try:
            yield
        finally:
            self._kept.append((lease, _now()))
            self._freed.set()

    async def close(self) -> None:
        """Give the slots back."""
        if self._tending is not None:
            self._tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tending
        if self._session is not None:
            with contextlib.suppress(Exception):  # they run out by themselves
                await asyncio.gather(*map(self._give_back, list(self._leases)))
            await self._session.close()

    async def _next(self) -> str:
        waits, aways = delays(_FIRST, _MOST, factor=1.5), delays(*_AWAY)
        while True:
            while self._kept:
                lease, _ = self._kept.pop()
                if lease in self._leases:
                    return lease
            self._freed.clear()
            status, answer = await self._ask(
                "POST",
                "/v2/concurrency_limits/increment-with-lease",
                {"names": [self._name], "slots": 1, "mode": "concurrency", "lease_duration": _LEASE},
            )
            if status == 200:
                return self._leased(answer)
            if status in _LATER:
                wait = next(waits)
            elif status is None:
                self._say_away()
                wait = next(aways)
            else:
                raise self._unusable(f"Prefect's server answered with status {status}")
            with contextlib.suppress(TimeoutError):
                # Not all hosts at the same moment.
                async with asyncio.timeout(wait * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret
                    await self._freed.wait()

    def _leased(self, answer: Any) -> str:
        self._away = False
        if not answer["limits"]:
            # Prefect leases a slot of nothing where there is no such limit: it would hold nobody back.
            raise self._unusable("Prefect's server knows no such limit")
        lease = str(answer["lease_id"])
        self._leases.add(lease)
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend())
        return lease

    def _unusable(self, why: str) -> AutoScorerError:
        return AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The global concurrency limit {self._name!r}, which a profile's global_limit names, can't be used: {why}. "
            f"Make it by `prefect gcl create {self._name} --limit N`, or remove the setting.",
            stage=Stage.CONFIG,
        )

    def _say_away(self) -> None:
        if not self._away:
            self._away = True
            logger.warning(
                "Calls to judges wait for Prefect's server, which does not answer. It gives slots of %r.",
                self._name,
            )

    async def _tend(self) -> None:
        """Renew what is had, and give back what nobody uses."""
        renewed = _now()

        async def look() -> None:
            nonlocal renewed
            now = _now()
            while self._kept and self._kept[0][1] <= now - _KEPT:
                await self._give_back(self._kept.popleft()[0])
            if now - renewed >= _RENEW:
                renewed = now
                await asyncio.gather(*map(self._renew, list(self._leases)))

        await periodic("global-limit", look, _KEPT / 2)

    async def _renew(self, lease: str) -> None:
        body = {"lease_duration": _LEASE}
        status, _ = await self._ask("POST", f"/v2/concurrency_limits/leases/{lease}/renew", body)
        if status is not None and 400 <= status < 500 and status not in _LATER:
            # It ran out, or the server has forgotten it. The call that has it goes on; the next one takes another.
            self._leases.discard(lease)

    async def _give_back(self, lease: str) -> None:
        self._leases.discard(lease)
        await self._ask("POST", "/v2/concurrency_limits/decrement-with-lease", {"lease_id": lease})

    async def _ask(self, method: str, path: str, body: Any) -> tuple[int | None, Any]:
        """Status and answer; None in place of the status where there was none."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={**self._headers, "Content-Type": "application/json"},
                # Before the server gives an idle connection up, after 5 s.
                connector=aiohttp.TCPConnector(keepalive_timeout=3),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT),
                trust_env=False,
            )
        try:
            async with self._session.request(method, self._url + path, data=msgspec.json.encode(body)) as response:
                raw = await response.read()
                return response.status, msgspec.json.decode(raw) if raw else None
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            return None, None


def _now() -> float:
    return asyncio.get_running_loop().time()
