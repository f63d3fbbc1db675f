"""Scorer files that were loaded through other hosts: in this home before a run needs them."""

from __future__ import annotations

import asyncio
import logging

from ..core.errors import AutoScorerError
from ..service.flow_runs import FlowRuns
from ..service.scorers.shared import SharedManifest

__all__ = ["SharedScorers"]

logger = logging.getLogger(__name__)

# Seconds that a run waits for the ledger's answer; it goes on with what the home has then.
_PATIENCE = 5.0


class SharedScorers:
    """Keeps this home as the ledger is that homes share; does nothing where this home is alone. Made in an event loop.

    Args:
        runs: Has the ledger.
    """

    def __init__(self, runs: FlowRuns) -> None:
        self._manifest: SharedManifest | None = None
        if runs.ledger is not None:
            self._manifest = SharedManifest(runs.settings.home, runs.ledger, asyncio.get_running_loop())
        # One thread at a time waits for the database: the others have work to do.
        self._looking = asyncio.Lock()
        self._is_away = False

    async def up_to_date(self) -> None:
        """Have the home know every scorer that was loaded anywhere before this was called.

        A ledger that does not answer is not waited for: what the home has is a second old at most, and the Result says
        which bytes scored.
        """
        if self._manifest is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                if await self._manifest.is_behind():
                    async with self._looking:
                        await asyncio.to_thread(self._manifest.take_over)
        except (AutoScorerError, OSError) as error:  # TimeoutError is one
            if not self._is_away:
                logger.warning("Scorers of other hosts can't be looked for: %s", str(error) or "no answer")
            self._is_away = True
        else:
            self._is_away = False
