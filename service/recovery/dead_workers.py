"""Finishing what a dead worker of this installation left: its children, its containers, its flow runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...core.flowruns import Claim, FlowRunFiles
from ...executors.reaper import clear_flow_run, reap_if_needed
from ...executors.records import RunRecords
from ..flow_runs import FlowRuns
from ..prefect.client import PrefectApi
from .observations import observe, recovery_lock
from .policy import ClaimStatus, Timeouts, decide
from .transitions import UNSETTLED, apply

__all__ = ["clear_away", "had_container", "recover"]

# Seconds that the kernel has to end a process that was killed; one in the middle of a write to a slow disk takes some.
_DYING = 5.0


async def recover(prefect: PrefectApi, runs: FlowRuns) -> list[str]:
    """Look at every flow run with a claim whose worker is certainly dead, and settle each.

    A child that outlived its worker is killed first, then containers and staged folders go, and only then the run is
    put back, or told as the outcome that was saved says. Costs a glance at one folder when there is nothing to do. Only
    one process of an installation does it at a time; the others answer at once.

    Returns:
        One line for each flow run that was settled, for the log.

    Raises:
        PrefectAway, LedgerAway: The server or the database does not answer. Children and containers of dead workers are
            gone all the same.
    """
    settings = runs.settings
    with recovery_lock(settings) as alone:
        if not alone:
            return []
        # Everything that needs no server first: whatever Prefect says later, none of it may go on.
        lost = await asyncio.to_thread(_stop_lost, settings)
        done = []
        for files, claim in lost:
            if not await runs.is_current(claim, files.flow_run_id):
                # It was taken over while this host was away: what it saved is no outcome.
                await asyncio.to_thread(files.forget_outcome)
                await runs.release(files.flow_run_id, claim)
                continue
            run = await prefect.flow_run(files.flow_run_id)
            try:
                known = await runs.known_run(files.flow_run_id)
                observation = await asyncio.to_thread(observe, files, run, known)
                if observation.claim is ClaimStatus.NONE or files.read_claim() != claim:
                    continue  # somebody has it again, or is about to say so
                action, reason = decide(observation, Timeouts.of(settings)), "The worker that had it died."
                line = await apply(prefect, runs, action, files.flow_run_id, run, reason, claim=claim)
            except UNSETTLED as error:  # one such run must not keep the others waiting
                line = f"not settled: {error}"
            if line is not None:
                done.append(f"{run['name'] if run else 'flow run'} ({files.flow_run_id}): {line}")
        return done


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
    return any(record.backend != "process" and record.owner in owners for record in RunRecords(settings.home).all())


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
