"""Putting a flow run back into its queue after infrastructure failed it, or ending it when that was tried often enough.

``COMPLETED``, ``FAILED`` and ``CANCELLED`` are never changed. Everything that is forced here is decided on what Prefect
says at that moment, not on what the caller saw a while ago.
"""

from __future__ import annotations

from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError
from .prefect_api import PrefectApi

__all__ = ["end", "requeue", "tell"]

Json = dict[str, Any]


async def requeue(
    prefect: PrefectApi,
    settings: Settings,
    run: Json,
    reason: str,
    *,
    counted: bool = True,
    only_if: str | None = None,
) -> bool:
    """Put a flow run back, to be attempted again; the claim that lies there is released with it.

    The caller has seen to it that the last attempt's process and containers are gone. A run in CANCELLING ends as
    CANCELLED instead, one that was tried ``service.max_attempts`` times as FAILED; both with a Result that says so.

    Args:
        prefect: The server.
        settings: The configuration.
        run: The flow run as Prefect gave it, however long ago.
        reason: A sentence for people: what happened to the last attempt.
        counted: Whether the last attempt counts; it does not when the worker was told to stop.
        only_if: Do nothing unless this is still the id of the run's state.

    Returns:
        Whether the run is queued now.

    Raises:
        PrefectAway: The server does not answer; nothing was lost, ask again.
    """
    raise NotImplementedError


async def end(prefect: PrefectApi, settings: Settings, run: Json, error: AutoScorerError) -> None:
    """End a flow run whose process can't do it any more: CANCELLED for that code, else FAILED.

    The workspace's result.json says so, unless a Result of this flow run lies there; the ending is saved; Prefect is
    told; the claim is released.

    Raises:
        PrefectAway: The server does not answer; the ending is saved all the same.
    """
    raise NotImplementedError


async def tell(prefect: PrefectApi, settings: Settings, run: Json) -> bool:
    """Tell Prefect the ending that was saved for a flow run, and release its claim.

    Returns:
        Whether there was one to tell.

    Raises:
        PrefectAway: The server does not answer.
    """
    raise NotImplementedError
