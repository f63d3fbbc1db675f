"""Prefect's own notice of runs that fell silent: those of plain Prefect workers, whose processes we can't see."""

from __future__ import annotations

from .prefect_api import PrefectApi

__all__ = ["HEARTBEAT", "SILENCE", "ensure_crash_automation"]

# Seconds between two heartbeats of a flow run (PREFECT_FLOWS_HEARTBEAT_FREQUENCY where plain workers run flows), and
# seconds without any after which the server marks the run Crashed.
HEARTBEAT = 30
SILENCE = 90


async def ensure_crash_automation(prefect: PrefectApi) -> None:
    """Create the automation that marks a silent flow run Crashed, or bring it up to date.

    Raises:
        PrefectAway: The server does not answer.
        PrefectRefused: The server has no automations, or refuses this one.
    """
    raise NotImplementedError
