"""Doing what was decided: a run goes back into its queue, or ends when that was tried often enough.

``COMPLETED``, ``FAILED`` and ``CANCELLED`` are never changed. Everything that is forced here is decided on what Prefect
says at that moment, not on what the caller saw a while ago.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ...core.backoff import delay as delay_of
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.flowruns import Claim, FlowRunFiles, wake, was_cancelling
from ...core.workspace import Workspace
from ...flows.batches.expand import expand
from ...flows.batches.outcome import outcome_of, summary_so_far
from ...schemas.result import Result
from ...tasks.benchmarks.adding import workspace_of
from ...tasks.results.ensure import ensure_result
from ..flow_runs import FlowRuns
from ..prefect.client import PrefectApi, PrefectRefused
from ..prefect.model import AWAITING_RETRY, AWAITING_ROOM, SETTLED_TYPES, FlowRun, Json, State, StateType
from .clock_steps import LONGEST_ROOM_WAIT
from .policy import RecoveryAction

__all__ = ["UNSETTLED", "apply", "finalize_run", "persist_forced_outcome", "report_saved_outcome", "requeue"]

# What may come of one run: the server will not have it, its folder can't be written.
UNSETTLED = (PrefectRefused, OSError, ValueError)
# Seconds until it is tried again: at first, and doubled each time.
_ROOM_FIRST = 2.0


async def apply(
    prefect: PrefectApi,
    runs: FlowRuns,
    action: RecoveryAction,
    flow_run_id: str,
    run: FlowRun | None,
    reason: str,
    *,
    claim: Claim | None = None,
) -> str | None:
    """Do with a run what was decided.

    The caller has seen to it that nothing of its last attempt is left: no process, no container.

    Args:
        run: The flow run as it was decided on; None where Prefect does not know it.
        reason: A sentence for people: what happened to the last attempt.
        claim: The dead worker's, or what it was taken over by, where there is one.

    Returns:
        What was done, for the log; None for nothing that anybody would want to read of.

    Raises:
        PrefectAway, LedgerAway: The server or the database does not answer; nothing was lost.
        PrefectRefused, OSError, ValueError: As ``UNSETTLED``.
    """
    files = runs.files(flow_run_id)
    if action in (RecoveryAction.CLEAR, RecoveryAction.FORGET) or run is None:
        # The ledger asks for the outcome of a task whose flow run is gone; without one it sends it off anew.
        if action is RecoveryAction.FORGET and await runs.publish_outcome(flow_run_id, claim) is None:
            files.remove()
        elif action is not RecoveryAction.LEAVE:
            await runs.release(flow_run_id, claim)
        return "Prefect does not know it any more" if action is RecoveryAction.FORGET else None
    match action:
        case RecoveryAction.REPORT:
            await report_saved_outcome(prefect, runs, run, claim)
            return "its outcome was saved, and Prefect knows now"
        case RecoveryAction.CANCEL:
            await finalize_run(prefect, runs, run, _cancelled(run), claim)
            return f"cancelled. {reason}"
        case RecoveryAction.REQUEUE:
            queued = await requeue(prefect, runs, run, reason, claim, only_if=run["state"]["id"])
            return f"back in its queue. {reason}" if queued else f"not put back. {reason}"
    return None


async def requeue(
    prefect: PrefectApi,
    runs: FlowRuns,
    run: FlowRun,
    reason: str,
    claim: Claim | None,
    *,
    counted: bool = True,
    waits_for_room: bool = False,
    only_if: str | None = None,
) -> bool:
    """Put a flow run back, to be attempted again; the claim is released with it.

    The caller has seen to it that the last attempt's process and containers are gone. A run in CANCELLING ends as
    CANCELLED instead, one that was tried ``service.max_attempts`` times as FAILED; both with a Result that says so.

    Args:
        run: The flow run as Prefect gave it, however long ago.
        reason: A sentence for people: what happened to the last attempt.
        claim: Of the last attempt, if it had one. Where another attempt has the run by now, nothing is done.
        counted: Whether the last attempt counts; it does not when the worker was told to stop.
        waits_for_room: Whether it failed because a disk was full. Then it does not count either, and the next attempt
            comes later each time, a minute at most.
        only_if: Do nothing unless this is still the id of the run's state.

    Returns:
        Whether the run is queued now.

    Raises:
        PrefectAway, LedgerAway: The server or the database does not answer; nothing was lost, ask again.
    """
    flow_run_id = run["id"]
    files, service = runs.files(flow_run_id), runs.settings.service
    if not await runs.is_current(claim, flow_run_id):
        await runs.release(flow_run_id, claim)
        return False
    states = await prefect.states(flow_run_id)
    attempt = _attempt(states)
    now = await prefect.flow_run(flow_run_id)
    if now is None:
        return False
    state = now["state"]
    if state["type"] in SETTLED_TYPES or (only_if is not None and state["id"] != only_if):
        return state["type"] == "SCHEDULED"
    if state["type"] in ("SCHEDULED", "PAUSED"):
        await runs.release(flow_run_id, claim)
        return True
    wanted = files.is_cancel_requested() or (
        state["type"] == "CRASHED" and was_cancelling(each["type"] for each in states)
    )
    if state["type"] == "CANCELLING" or wanted:
        await finalize_run(prefect, runs, now, _cancelled(now), claim)
        return False
    counted = counted and not waits_for_room
    if now["deployment_id"] is None or (counted and attempt >= service.max_attempts):
        await finalize_run(prefect, runs, now, _given_up(now, attempt, reason), claim)
        return False
    name, message, delay = None, reason, 0.0
    if waits_for_room:
        name, delay = AWAITING_ROOM, delay_of(_times_without_room(states) + 1, _ROOM_FIRST, LONGEST_ROOM_WAIT)
    elif counted:
        name, message = AWAITING_RETRY, f"{reason} Attempt {attempt + 1} of {service.max_attempts} follows."
        delay = delay_of(attempt, service.retry_delay)
    await prefect.set_state(
        flow_run_id,
        "SCHEDULED",
        name=name,
        message=message,
        scheduled_time=datetime.now(UTC) + timedelta(seconds=delay),
        force=True,
    )
    # Only now: a run in RUNNING without a claim is one that nobody would miss.
    await runs.release(flow_run_id, claim)
    wake(runs.settings.home)
    return True


async def finalize_run(
    prefect: PrefectApi, runs: FlowRuns, run: FlowRun, error: AutoScorerError, claim: Claim | None
) -> None:
    """End a flow run whose process can't do it any more: CANCELLED for that code, else FAILED.

    The workspace's result.json says so (of a batch, those that were being worked on). Where this flow run has left its
    last word there, the score or a failure of the submission's own, the run ends as that says. The outcome is saved;
    Prefect is told; the claim is released.

    Args:
        claim: Of the last attempt, if it had one. Where another attempt has the run by now, nothing is done.

    Raises:
        PrefectAway, LedgerAway: The server or the database does not answer; where Prefect was asked for the last time,
            the outcome is saved.
    """
    if not await runs.is_current(claim, run["id"]):
        await runs.release(run["id"], claim)
        return
    now = await prefect.flow_run(run["id"])
    if now is not None and now["state"]["type"] not in SETTLED_TYPES:
        flow = await prefect.call("GET", f"/flows/{now['flow_id']}", missing_ok=True)
        await runs.fetch(run["id"])
        await asyncio.to_thread(persist_forced_outcome, runs.settings, now, (flow or {}).get("name"), error)
    await report_saved_outcome(prefect, runs, run, claim)


async def report_saved_outcome(prefect: PrefectApi, runs: FlowRuns, run: FlowRun, claim: Claim | None) -> bool:
    """Tell Prefect the outcome that was saved for a flow run, and release its claim.

    Args:
        claim: Of the attempt that saved it, if it had one.

    Returns:
        Whether there was one to tell.
    """
    outcome = await runs.publish_outcome(run["id"], claim)
    if outcome is None:
        return False
    now = await prefect.flow_run(run["id"])
    if now is not None and now["state"]["type"] not in SETTLED_TYPES:
        await prefect.set_state(run["id"], outcome["state"], message=outcome.get("message"), force=True)
    await runs.release(run["id"], claim)
    return True


def _attempt(states: Sequence[State]) -> int:
    """The number of the last attempt. A run that had ended, and that somebody sent off again, begins anew."""
    attempt, ended = 1, False
    for state in states:
        if state["type"] in SETTLED_TYPES:
            ended = True
        elif ended:
            attempt, ended = 1, False
        elif state["type"] == "SCHEDULED" and state["name"] == AWAITING_RETRY:
            attempt += 1
    return attempt


def _times_without_room(states: Sequence[State]) -> int:
    """How often it was put back for want of room since the last time that it was put back for another reason."""
    waits = [state["name"] for state in states if state["name"] in ("Scheduled", AWAITING_RETRY, AWAITING_ROOM)]
    return len(waits) - max((at + 1 for at, name in enumerate(waits) if name != AWAITING_ROOM), default=0)


def _cancelled(run: FlowRun) -> AutoScorerError:
    return AutoScorerError(ErrorCode.CANCELLED, f"The flow run {run['name']} was cancelled.")


def _given_up(run: FlowRun, attempt: int, reason: str) -> AutoScorerError:
    often = "once" if attempt == 1 else f"{attempt} times"
    return AutoScorerError(
        ErrorCode.INTERNAL_ERROR,
        f"The flow run {run['name']} was tried {often} and did not come to an end: {reason}",
        stage=Stage.EXECUTION,
        details={"attempts": attempt, "reason": reason},
    )


def persist_forced_outcome(settings: Settings, run: FlowRun, flow: str | None, error: AutoScorerError) -> None:
    """Save how a flow run ends whose process can't do it any more; its workspace's result.json says the same.

    Args:
        run: The flow run as Prefect gave it, with its ``start_time`` where it has begun.
        flow: Its flow's name.
        error: Why it ends; a score that it left, or a failure of the submission's own, is stronger.
    """
    files = FlowRunFiles(settings.home, run["id"])
    data: Json | None = None
    if flow == "batch":
        data = _batch_so_far(files, run, error, settings)
    elif flow != "validate-only" and _began(files, run, error):  # validating writes no Result
        result = _concluded(settings, workspace_of(run["parameters"], run["id"]), run["id"], error)
        if result is not None and result.error is None:
            score = result.summary.score
            message = "scored; its process died after that" if score is None else f"score {score:.4g}"
            files.save_outcome({"state": "COMPLETED", "message": message, "data": result.to_dict(), "error": None})
            return
        if result is not None and result.error is not None:
            data = result.to_dict()
            error = AutoScorerError.from_dict(result.error.model_dump())
    state: StateType = "CANCELLED" if error.code is ErrorCode.CANCELLED else "FAILED"
    files.save_outcome({"state": state, "message": str(error), "data": data, "error": error.to_dict()})


def _began(files: FlowRunFiles, run: FlowRun, error: AutoScorerError) -> bool:
    """Whether it may have touched its workspace. One that was cancelled in the queue leaves the old Result there."""
    return error.code is not ErrorCode.CANCELLED or run["start_time"] is not None or files.read_stage() is not None


def _concluded(settings: Settings, workspace: Any, flow_run_id: str, error: AutoScorerError) -> Result | None:
    if not isinstance(workspace, str):
        return None
    # Not visible from this host, held by another run, not writable: then there is nothing of ours to say there.
    with contextlib.suppress(AutoScorerError, OSError):
        return ensure_result(workspace, flow_run_id, error, settings=settings, patience=settings.service.cancel_grace)
    return None


def _batch_so_far(files: FlowRunFiles, run: FlowRun, error: AutoScorerError, settings: Settings) -> Json:
    outcomes = files.member_outcomes()
    parameters = run["parameters"] or {}
    for entry in expand(parameters.get("workspaces") or [], settings.workspace_roots):
        if not entry.is_work or Workspace(entry.path).left_by() != run["id"]:
            continue
        result = _concluded(settings, str(entry.path), run["id"], error)
        if result is not None:
            outcomes.append(outcome_of(entry.path, result))
    return summary_so_far(parameters.get("action") or "pipeline", outcomes, files.read_total())
