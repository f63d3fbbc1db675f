"""Of several processes with one ledger, one at a time hands tasks over, follows them, and settles what got stuck.

It holds a lease in the ledger. Who could not renew it stops before it is over. Should two go on for a moment all the
same, they do each other no harm: every write asks whether the row is still as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from ...core.errors import AutoScorerError
from ..ledger.ledger import Ledger

__all__ = ["Leadership"]

logger = logging.getLogger(__name__)

_NAME = "sync"
# Seconds that a lease lasts, between two renewals, between two looks of who waits for it, and of a lease that are left
# when its work is stopped because it could not be renewed.
_LASTS, _RENEW, _LOOK, _MARGIN = 15.0, 5.0, 1.0, 3.0


class Leadership:
    """Does the work while it leads: always where the ledger is its alone, else while it holds the lease.

    Args:
        ledger: Where the lease is.
        work: Runs until it is cancelled.
    """

    def __init__(self, ledger: Ledger, work: Callable[[], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._work = work
        self._holder = uuid4().hex
        self.leads = False

    async def run(self) -> None:
        """Lead whenever it can, until cancelled; a fault of the work is logged, and it is begun anew."""
        try:
            while True:
                if not self._ledger.is_shared or await self._take():
                    await self._lead()
                await asyncio.sleep(_LOOK)
        finally:
            if self._ledger.is_shared:
                with contextlib.suppress(AutoScorerError):
                    await self._ledger.drop_lease(_NAME, self._holder)

    async def _lead(self) -> None:
        until = time.monotonic() + _LASTS
        if self._ledger.is_shared:
            logger.info("This process hands tasks to Prefect and follows them now.")
        self.leads = True
        work = asyncio.ensure_future(self._work())
        try:
            while not work.done():
                await asyncio.wait([work], timeout=_RENEW)
                if not self._ledger.is_shared or work.done():
                    continue
                asked = time.monotonic()
                if await self._take():
                    until = asked + _LASTS
                elif time.monotonic() > until - _MARGIN - _RENEW:
                    logger.warning("The lease could not be renewed; another process may hand tasks over now.")
                    break
        finally:
            self.leads = False
            work.cancel()
            (fault,) = await asyncio.gather(work, return_exceptions=True)
        if isinstance(fault, Exception):
            logger.error("what hands tasks over and follows them failed and is begun anew", exc_info=fault)

    async def _take(self) -> bool:
        try:
            async with asyncio.timeout(_RENEW):
                return await self._ledger.take_lease(_NAME, self._holder, _LASTS)
        except (AutoScorerError, TimeoutError):
            return False
