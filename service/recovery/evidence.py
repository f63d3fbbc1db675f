"""Finding out what ``decide`` must know of a flow run, from the files on this host and from what Prefect says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...core.flowruns import FlowRunFiles
from ...core.provenance import Owner
from ...core.workspace import Workspace
from .policy import ClaimStatus, RunObservation, Timeouts

__all__ = ["age", "claim_status", "observe_run", "recovery_lock", "timeouts"]

Json = dict[str, Any]


@contextlib.contextmanager
def recovery_lock(settings: Settings) -> Iterator[bool]:
    """Be the one process of this installation that settles lost runs; gives False when another one is."""
    settings.home.mkdir(parents=True, exist_ok=True)
    fd = os.open(settings.home / "recover.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def timeouts(settings: Settings) -> Timeouts:
    """How long what is waited for, as configured."""
    stuck = settings.service.stuck_after
    return Timeouts(stuck=stuck, crashed=min(Timeouts.crashed, stuck), longest=settings.security.limits.timeout)


def observe_run(files: FlowRunFiles, run: Json | None) -> RunObservation:
    """What is known of a flow run at this moment.

    Args:
        files: Its files.
        run: The flow run as Prefect gave it just now; None when Prefect does not know it.
    """
    claim = files.read_claim()
    found = ClaimStatus.NONE if claim is None else claim_status(claim.worker, dead=files.is_lost(claim))
    if run is None:
        return RunObservation(state=None, claim=found)
    state = run["state"]
    seconds, since = age(state), _moment(state["timestamp"])
    claimed_at, ended_at = _written(files, "claim.json"), files.outcome_saved_at()
    # A claim is laid after the state was made PENDING: an older one is an earlier attempt's, and whoever took the run
    # since is about to lay its own.
    stale = state["type"] == "PENDING" and claimed_at is not None and claimed_at < since
    # The same for an outcome: the run was sent off again after it.
    started = run["start_time"]
    begun = claimed_at if claimed_at is not None else _moment(started) if started else None
    outcome_age = time.time() - ended_at if ended_at is not None and (begun is None or ended_at >= begun) else None
    return RunObservation(
        state=state["type"],
        seconds=seconds,
        claim=ClaimStatus.NONE if stale else found,
        outcome_age=outcome_age,
        busy=_busy(run),
        deployed=run["deployment_id"] is not None,
        infrastructure=run["infrastructure_pid"] is not None,
    )


def claim_status(owner: Owner, *, dead: bool) -> ClaimStatus:
    """What is to be seen of a worker that has taken a run, and of which ``has_died`` is known."""
    if dead:
        return ClaimStatus.DEAD
    return ClaimStatus.ALIVE if owner.is_in_sight else ClaimStatus.OUT_OF_SIGHT


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
