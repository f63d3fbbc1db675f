"""Scorer files that were loaded through other hosts: in this home before a run needs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from ..core.config import Settings
from ..core.errors import AutoScorerError

if TYPE_CHECKING:
    from ..service.ledger.ledger import Ledger
    from ..service.scorers.shared import SharedManifest

__all__ = ["SharedScorers"]

logger = logging.getLogger(__name__)

# Seconds that a run waits for the ledger's answer; it goes on with what the home has then.
_PATIENCE = 5.0


class SharedScorers:
    """Keeps this home as the ledger is that homes share; does nothing where this home is alone.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger: Ledger | None = None
        self._manifest: SharedManifest | None = None
        # One thread at a time waits for the database: the others have work to do.
        self._looking = asyncio.Lock()
        self._is_away = False

    async def up_to_date(self) -> None:
        """Have the home know every scorer that was loaded anywhere before this was called.

        A ledger that does not answer is not waited for: what the home has is a second old at most, and the Result says
        which bytes scored.
        """
        if not self._settings.has_shared_ledger:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._look()
        except (AutoScorerError, OSError) as error:  # TimeoutError is one
            if not self._is_away:
                logger.warning("Scorers of other hosts can't be looked for: %s", str(error) or "no answer")
            self._is_away = True
        else:
            self._is_away = False

    async def _look(self) -> None:
        if self._manifest is None:
            async with self._looking:
                if self._manifest is None:
                    self._manifest = await self._open()
        if await self._manifest.is_behind():
            async with self._looking:
                await asyncio.to_thread(self._manifest.take_over)

    async def _open(self) -> SharedManifest:
        # Not before it is needed: a home alone has no use for them.
        from ..service.ledger.ledger import Ledger
        from ..service.scorers.shared import SharedManifest

        self._ledger = await Ledger.open(self._settings)
        return SharedManifest(self._settings.home, self._ledger, asyncio.get_running_loop())

    async def close(self) -> None:
        """Let go of the ledger."""
        if self._ledger is not None:
            with contextlib.suppress(AutoScorerError):
                await self._ledger.close()
