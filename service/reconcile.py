"""Noticing what nobody else would: runs that are stuck, crashed, or final in Prefect with a container still there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.config import Settings
from .prefect_api import PrefectApi

__all__ = ["Reconciler"]

Json = dict[str, Any]


class Reconciler:
    """Looks again and again; what was dear to find out is remembered between two looks.

    Args:
        settings: The configuration.
        prefect: The server.
    """

    def __init__(self, settings: Settings, prefect: PrefectApi) -> None:
        self._settings = settings
        self._prefect = prefect

    async def look(self, active: Mapping[str, Json]) -> list[str]:
        """Settle what is stuck. Call it every few seconds.

        Args:
            active: The flow runs of the tasks that have not ended, as Prefect gave them a moment ago, by id.

        Returns:
            One line for each thing done, for the log.

        Raises:
            PrefectAway: The server does not answer.
        """
        raise NotImplementedError
