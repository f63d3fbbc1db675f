"""Finishing what a dead worker of this installation left: its children, its containers, its flow runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.flowruns import Claim, FlowRunFiles
from ...executors.reaper import clear_flow_run, reap_if_needed
from ...executors.records import RunRecords
from ..prefect.client import PrefectApi, PrefectRefused
from .evidence import observe_run, recovery_lock, timeouts
from .policy import ClaimStatus, RecoveryAction, decide
from .transitions import finalize_run, report_saved_outcome, requeue

__all__ = ["UNSETTLED", "clear_away", "recover"]

Json = dict[str, Any]

# Seconds that the kernel has to end a process that was killed; one in the middle of a write to a slow disk takes some.
_DYING = 5.0
# What may come of one run: the server will not have it, its folder can't be written.
UNSETTLED = (PrefectRefused, OSError, ValueError)
_REASON = "The worker that had it died."


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
    with recovery_lock(settings) as alone:
        if not alone:
            return []
        # Everything that needs no server first: whatever Prefect says later, none of it may go on.
        lost = await asyncio.to_thread(_stop_lost, settings)
        done = []
        for files, claim in lost:
            run = await prefect.flow_run(files.flow_run_id)
            name = f"{run['name'] if run else 'flow run'} ({files.flow_run_id})"
            try:
                line = await _settle(prefect, settings, files, claim, run)
            except UNSETTLED as error:  # one such run must not keep the others waiting
                line = f"not settled: {error}"
            if line is not None:
                done.append(f"{name}: {line}")
        return done


async def _settle(
    prefect: PrefectApi, settings: Settings, files: FlowRunFiles, claim: Claim, run: Json | None
) -> str | None:
    observation = await asyncio.to_thread(observe_run, files, run)
    if observation.claim is ClaimStatus.NONE or files.read_claim() != claim:
        return None  # somebody has it again, or is about to say so
    match decide(observation, timeouts(settings)):
        case RecoveryAction.REPORT:
            assert run is not None
            await report_saved_outcome(prefect, settings, run)
            return "its ending was saved, and Prefect knows now"
        case RecoveryAction.REQUEUE:
            assert run is not None
            queued = await requeue(prefect, settings, run, _REASON, only_if=run["state"]["id"])
            return "back in its queue" if queued else "not put back: it has ended, or was tried often enough"
        case RecoveryAction.CANCEL:
            assert run is not None
            error = AutoScorerError(ErrorCode.CANCELLED, f"The flow run {run['name']} was cancelled.")
            await finalize_run(prefect, settings, run, error)
            return "cancelled"
        case RecoveryAction.CLEAR:
            files.release(only=claim)
        case RecoveryAction.FORGET:
            # The ledger asks for the ending of a task whose flow run is gone; without one it sends it off anew.
            if files.read_outcome() is None:
                files.remove()
            else:
                files.release(only=claim)
            return "Prefect does not know it any more"
        case RecoveryAction.LEAVE:
            pass
    return None


def _stop_lost(settings: Settings) -> list[tuple[FlowRunFiles, Claim]]:
    """End what is left of dead workers' runs; those of which nothing works any more."""
    lost = []
    for files in FlowRunFiles.all(settings.home):
        claim = files.read_claim()
        if claim is not None and files.is_lost(claim) and _end_child(claim):
            lost.append((files, claim, had_container(settings, claim)))
    if lost:
        reap_if_needed(settings)
    # Where the engine does not answer, its model may be running yet. And whoever has the run by now has a container.
    return [
        (files, claim)
        for files, claim, had in lost
        if files.read_claim() == claim and clear_away(settings, files.flow_run_id, needed=had)
    ]


def clear_away(settings: Settings, flow_run_id: str, *, needed: bool) -> bool:
    """Remove a flow run's containers by their label, and its staged folders and records.

    Args:
        settings: The configuration.
        flow_run_id: The flow run.
        needed: Whether there may be some. Where there can't, an engine that does not answer keeps nobody waiting.

    Returns:
        Whether there are none any more.
    """
    try:
        clear_flow_run(settings, flow_run_id)
    except AutoScorerError:
        return not needed
    return True


def had_container(settings: Settings, claim: Claim) -> bool:
    """Whether a container of it may be there: its record lies there until it is gone."""
    owners = (claim.child, claim.worker)
    return any(record.backend == "docker" and record.owner in owners for record in RunRecords(settings.home).all())


def _end_child(claim: Claim) -> bool:
    """Kill what a dead worker left; whether it is gone."""
    if claim.child is None or claim.child_pid is None or claim.child.is_dead():
        return True
    if not claim.child.is_in_sight:
        return True  # it ended with the worker's container, and here its number is somebody else's
    try:
        # The descriptor names the process, also if the number is given to another one meanwhile.
        process = os.pidfd_open(claim.child_pid)
    except ProcessLookupError:
        return True
    try:
        if claim.child.is_dead():
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        # Readable when it has ended, be it buried or not.
        return bool(select.select([process], [], [], _DYING)[0])
    finally:
        os.close(process)
