"""Finding out what ``decide`` must know of a flow run, from the files on this host and from what Prefect says."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...core.flowruns import FlowRunFiles
from ...core.locks import acquire
from ...core.processes import ProcessIdentity
from ...core.workspace import Workspace
from .policy import Claimed, Patience, Situation

__all__ = ["age", "claimed", "look_at", "patience", "settling"]

Json = dict[str, Any]


@contextlib.contextmanager
def settling(settings: Settings) -> Iterator[bool]:
    """Be the one process of this installation that settles lost runs; gives False when another one is."""
    settings.home.mkdir(parents=True, exist_ok=True)
    fd = acquire(settings.home / "recover.lock")
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def patience(settings: Settings) -> Patience:
    """How long what is waited for, as configured."""
    stuck = settings.service.stuck_after
    return Patience(stuck=stuck, crashed=min(Patience.crashed, stuck), longest=settings.security.limits.timeout)


def look_at(files: FlowRunFiles, run: Json | None) -> Situation:
    """What is known of a flow run at this moment.

    Args:
        files: Its files.
        run: The flow run as Prefect gave it just now; None when Prefect does not know it.
    """
    claim = files.read_claim()
    found = Claimed.NONE if claim is None else claimed(claim.worker, dead=files.is_lost(claim))
    if run is None:
        return Situation(state=None, claim=found)
    state = run["state"]
    seconds, since = age(state), _moment(state["timestamp"])
    claimed_at, ended_at = _written(files, "claim.json"), _written(files, "ending.json")
    # A claim is laid after the state was made PENDING: an older one is an earlier attempt's, and whoever took the run
    # since is about to lay its own.
    stale = state["type"] == "PENDING" and claimed_at is not None and claimed_at < since
    # The same for an ending: the run was sent off again after it.
    started = run["start_time"]
    begun = claimed_at if claimed_at is not None else _moment(started) if started else None
    ending = time.time() - ended_at if ended_at is not None and (begun is None or ended_at >= begun) else None
    return Situation(
        state=state["type"],
        seconds=seconds,
        claim=Claimed.NONE if stale else found,
        ending=ending,
        busy=_busy(run),
        deployed=run["deployment_id"] is not None,
        infrastructure=run["infrastructure_pid"] is not None,
    )


def claimed(owner: ProcessIdentity, *, dead: bool) -> Claimed:
    """What is to be seen of a worker that has taken a run, and of which ``has_died`` is known."""
    if dead:
        return Claimed.DEAD
    return Claimed.ALIVE if owner.is_in_sight else Claimed.OUT_OF_SIGHT


def age(state: Json) -> float:
    """Seconds since a state was set."""
    return time.time() - _moment(state["timestamp"])


def _busy(run: Json) -> bool:
    workspace = (run["parameters"] or {}).get("workspace")
    if not isinstance(workspace, str):
        return False  # a batch; its workspaces are held one by one
    try:
        return Workspace(workspace).is_held()
    except (AutoScorerError, OSError):
        return False  # not to be seen from here


def _written(files: FlowRunFiles, name: str) -> float | None:
    try:
        return (files.folder / name).stat().st_mtime
    except OSError:
        return None


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
