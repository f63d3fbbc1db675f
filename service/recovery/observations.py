"""Finding out what ``decide`` must know of a flow run, from the files on this host and from what Prefect says."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...core.flowruns import FlowRunFiles
from ...core.locks import acquire
from ...core.processes import ProcessIdentity
from ...core.workspace import Workspace
from ...tasks.benchmarks.adding import workspace_of
from ..ledger.flow_runs import KnownRun
from ..prefect.model import FlowRun, State, seconds_of
from .policy import ClaimStatus, RunObservation

__all__ = ["age", "claim_status", "observe", "observe_run", "recovery_lock"]


@contextlib.contextmanager
def recovery_lock(settings: Settings) -> Iterator[bool]:
    """Be the one process of this installation that settles lost runs; gives False when another one is."""
    settings.home.mkdir(parents=True, exist_ok=True)
    fd = acquire(settings.home / "recover.lock")
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def observe(files: FlowRunFiles, run: FlowRun | None, known: KnownRun | None) -> RunObservation:
    """What is known of a flow run at this moment, whatever host its worker is on.

    Args:
        run: The flow run as Prefect gave it just now; None when Prefect does not know it.
        known: What its workers said in the ledger, where hosts share one.
    """
    here = observe_run(files, run)
    if known is None:
        return here
    claim = files.read_claim()
    if known.remaining is None:
        found = ClaimStatus.RELEASED if here.state == "RUNNING" else ClaimStatus.NONE
    elif known.remaining < 0:
        found = ClaimStatus.EXPIRED
    elif here.claim is ClaimStatus.DEAD and claim is not None and claim.attempt == known.attempt:
        found = ClaimStatus.DEAD
    else:
        found = ClaimStatus.ALIVE
    # Whoever holds the workspace may be a process that was stopped with its host: it is taken from it.
    busy = here.busy and found is not ClaimStatus.EXPIRED
    saved = here.outcome_age if known.outcome_age is None and found is ClaimStatus.DEAD else known.outcome_age
    return replace(here, claim=found, busy=busy, outcome_age=saved)


def observe_run(files: FlowRunFiles, run: FlowRun | None) -> RunObservation:
    """What is known of a flow run at this moment on this host.

    Args:
        run: The flow run as Prefect gave it just now; None when Prefect does not know it.
    """
    claim = files.read_claim()
    found = ClaimStatus.NONE if claim is None else claim_status(claim.worker, dead=files.is_lost(claim))
    if run is None:
        return RunObservation(state=None, claim=found)
    state = run["state"]
    claimed_at, saved_at = _claimed_at(files), files.outcome_saved_at()
    # A claim is laid after the state was made PENDING: an older one is an earlier attempt's, and whoever took the run
    # since is about to lay its own.
    stale = state["type"] == "PENDING" and claimed_at is not None and claimed_at < seconds_of(state["timestamp"])
    # The same for an outcome: the run was sent off again after it.
    begun = claimed_at if claimed_at is not None else seconds_of(run["start_time"])
    is_of_this_attempt = saved_at is not None and (begun is None or saved_at >= begun)
    return RunObservation(
        state=state["type"],
        seconds=age(state),
        claim=ClaimStatus.NONE if stale else found,
        outcome_age=time.time() - saved_at if saved_at is not None and is_of_this_attempt else None,
        busy=_busy(run),
        deployed=run["deployment_id"] is not None,
        infrastructure=run["infrastructure_pid"] is not None,
    )


def claim_status(owner: ProcessIdentity, *, dead: bool) -> ClaimStatus:
    """What is to be seen of a worker that has taken a run, and of which ``has_died`` is known."""
    if dead:
        return ClaimStatus.DEAD
    return ClaimStatus.ALIVE if owner.is_in_sight else ClaimStatus.OUT_OF_SIGHT


def age(state: State) -> float:
    """Seconds since a state was set."""
    return time.time() - seconds_of(state["timestamp"])


def _busy(run: FlowRun) -> bool:
    workspace = workspace_of(run["parameters"], run["id"])
    if not isinstance(workspace, str):
        return False  # a batch; its workspaces are held one by one
    try:
        return Workspace(workspace).is_held()
    except (AutoScorerError, OSError):
        return False  # not to be seen from here


def _claimed_at(files: FlowRunFiles) -> float | None:
    try:
        return (files.folder / "claim.json").stat().st_mtime
    except OSError:
        return None
