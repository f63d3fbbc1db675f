"""Finishing what a dead worker of this installation left: its children, its containers, its flow runs."""

from __future__ import annotations

from ..core.config import Settings
from .prefect_api import PrefectApi

__all__ = ["recover"]


async def recover(prefect: PrefectApi, settings: Settings) -> list[str]:
    """Look at every flow run with a claim whose worker is certainly dead, and settle each.

    A child that outlived its worker is killed first, then containers and staged folders go, and only then the run is
    put back, or told as the ending that was saved says. Costs a glance at one folder when there is nothing to do. Only
    one process of an installation does it at a time; the others answer at once.

    Args:
        prefect: The server.
        settings: The configuration.

    Returns:
        One line for each flow run that was settled, for the log.

    Raises:
        PrefectAway: The server does not answer. Children and containers of dead workers are gone all the same.
    """
    raise NotImplementedError
