"""Our containers, as the service sees them: how many there are, and those that nobody needs any more."""

from __future__ import annotations

import asyncio
from uuid import UUID

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...executors.reaper import own_containers, remove_by_label
from ..prefect.client import PrefectApi
from ..prefect.model import SETTLED_TYPES
from .observations import age

__all__ = ["count_containers", "remove_ended"]


def count_containers(settings: Settings) -> int | None:
    """How many containers of runs there are on this host; None where the Docker Engine does not answer."""
    try:
        return len(own_containers(settings))
    except AutoScorerError:
        return None


async def remove_ended(prefect: PrefectApi, settings: Settings) -> list[str]:
    """Remove containers whose flow run has ended, ``service.cancel_grace`` seconds ago or more.

    A flow's process that ended its run removed its container before that. One that was cut off from the server did not
    hear of a cancellation, and its model would run on.

    Returns:
        The names of the containers that were removed.
    """
    try:
        containers = await asyncio.to_thread(own_containers, settings)
    except AutoScorerError:
        return []
    named = {container.labels.get("flow_run", "") for container in containers}
    # Those that the server does not know are another installation's.
    runs = await prefect.flow_runs([text for text in named if _is_uuid(text)])
    removed: list[str] = []
    for flow_run_id, run in runs.items():
        state = run["state"]
        if state["type"] in SETTLED_TYPES and age(state) >= settings.service.cancel_grace:
            try:
                removed += await asyncio.to_thread(remove_by_label, settings, "flow_run", flow_run_id)
            except AutoScorerError:
                break  # the engine went away; the next look finds them
    return removed


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
