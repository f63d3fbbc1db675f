"""Putting a flow run back into its queue after infrastructure failed it, or ending it when that was tried often enough.

``COMPLETED``, ``FAILED`` and ``CANCELLED`` are never changed. Everything that is forced here is decided on what Prefect
says at that moment, not on what the caller saw a while ago.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.flowruns import Claim, FlowRunFiles, wake
from ...core.workspace import Workspace
from ...flows.batches.expand import expand
from ...flows.batches.outcome import outcome_of, summary_so_far
from ...schemas.result import Result
from ...tasks.results.ensure import ensure_result
from ..prefect.client import PrefectApi
from .clock_steps import LONGEST_ROOM_WAIT
from .policy import ENDED

__all__ = ["AWAITING_RETRY", "AWAITING_ROOM", "end", "requeue", "save_ending", "tell"]

Json = dict[str, Any]

# The name of the state in which a run waits for another attempt: so many times was it put back.
AWAITING_RETRY = "AwaitingRetry"
# The name of the state in which a run waits for room on a disk. That may take days, and costs none of its attempts.
AWAITING_ROOM = "AwaitingRoom"
# Seconds until it is tried again: at first, and doubled each time.
_ROOM_FIRST = 2.0


async def requeue(
    prefect: PrefectApi,
    settings: Settings,
    run: Json,
    reason: str,
    *,
    counted: bool = True,
    waits_for_room: bool = False,
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
        waits_for_room: Whether it failed because a disk was full. Then it does not count either, and the next attempt
            comes later each time, a minute at most.
        only_if: Do nothing unless this is still the id of the run's state.

    Returns:
        Whether the run is queued now.

    Raises:
        PrefectAway: The server does not answer; nothing was lost, ask again.
    """
    flow_run_id = run["id"]
    files = FlowRunFiles(settings.home, flow_run_id)
    claim = files.read_claim()
    states: list[Json] = await prefect.call("GET", f"/flow_run_states/?flow_run_id={flow_run_id}")
    attempt = _attempt(states)
    now = await prefect.flow_run(flow_run_id)
    if now is None:
        return False
    state = now["state"]
    if state["type"] in ENDED or (only_if is not None and state["id"] != only_if):
        return bool(state["type"] == "SCHEDULED")
    if state["type"] in ("SCHEDULED", "PAUSED"):
        _release(files, claim)
        return True
    wanted = files.is_cancel_requested() or (state["type"] == "CRASHED" and _was_cancelling(states))
    if state["type"] == "CANCELLING" or wanted:
        await end(prefect, settings, now, _cancelled(now))
        return False
    counted = counted and not waits_for_room
    if now["deployment_id"] is None or (counted and attempt >= settings.service.max_attempts):
        await end(prefect, settings, now, _given_up(now, attempt, reason))
        return False
    name, message, delay = None, reason, 0.0
    if waits_for_room:
        name, delay = AWAITING_ROOM, min(_ROOM_FIRST * 2 ** _times_without_room(states), LONGEST_ROOM_WAIT)
    elif counted:
        name, message = AWAITING_RETRY, f"{reason} Attempt {attempt + 1} of {settings.service.max_attempts} follows."
        delay = settings.service.retry_delay * 2 ** (attempt - 1)
    await prefect.set_state(
        flow_run_id,
        "SCHEDULED",
        name=name,
        message=message,
        scheduled_time=datetime.now(UTC) + timedelta(seconds=delay),
        force=True,
    )
    # Only now: a run in RUNNING without a claim is one that nobody would miss.
    _release(files, claim)
    wake(settings.home)
    return True


async def end(prefect: PrefectApi, settings: Settings, run: Json, error: AutoScorerError) -> None:
    """End a flow run whose process can't do it any more: CANCELLED for that code, else FAILED.

    The workspace's result.json says so (of a batch, those that were being worked on). Where this flow run has left its
    last word there, the score or a failure of the submission's own, the run ends as that says. The ending is saved;
    Prefect is told; the claim is released.

    Args:
        prefect: The server.
        settings: The configuration.
        run: The flow run as Prefect gave it.
        error: Why.

    Raises:
        PrefectAway: The server does not answer; where it was asked for the last time, the ending is saved.
    """
    now = await prefect.flow_run(run["id"])
    if now is not None and now["state"]["type"] not in ENDED:
        flow = await prefect.call("GET", f"/flows/{now['flow_id']}", missing_ok=True)
        await asyncio.to_thread(save_ending, settings, now, (flow or {}).get("name"), error)
    await tell(prefect, settings, run)


async def tell(prefect: PrefectApi, settings: Settings, run: Json) -> bool:
    """Tell Prefect the ending that was saved for a flow run, and release its claim.

    Args:
        prefect: The server.
        settings: The configuration.
        run: The flow run as Prefect gave it.

    Returns:
        Whether there was one to tell.

    Raises:
        PrefectAway: The server does not answer.
    """
    files = FlowRunFiles(settings.home, run["id"])
    claim, ending = files.read_claim(), files.read_ending()
    if ending is None:
        return False
    now = await prefect.flow_run(run["id"])
    if now is not None and now["state"]["type"] not in ENDED:
        await prefect.set_state(run["id"], ending["state"], message=ending.get("message"), force=True)
    _release(files, claim)
    return True


def _release(files: FlowRunFiles, claim: Claim | None) -> None:
    # Never another's: whoever takes the run next lays its own as soon as Prefect lets it have the run.
    if claim is not None:
        files.release(only=claim)


def _attempt(states: Iterable[Json]) -> int:
    """The number of the last attempt. A run that had ended, and that somebody sent off again, begins anew."""
    attempt, ended = 1, False
    for state in sorted(states, key=lambda state: str(state["timestamp"])):
        if state["type"] in ENDED:
            ended = True
        elif ended:
            attempt, ended = 1, False
        elif state["type"] == "SCHEDULED" and state["name"] == AWAITING_RETRY:
            attempt += 1
    return attempt


def _times_without_room(states: Iterable[Json]) -> int:
    """How often it was put back for want of room since the last time that it was put back for another reason."""
    names = [state["name"] for state in sorted(states, key=lambda state: str(state["timestamp"]))]
    waits = [name for name in names if name in ("Scheduled", AWAITING_RETRY, AWAITING_ROOM)]
    return len(waits) - max((at + 1 for at, name in enumerate(waits) if name != AWAITING_ROOM), default=0)


def _was_cancelling(states: Iterable[Json]) -> bool:
    """Whether a crashed run was to be cancelled when it crashed."""
    before = [(str(state["timestamp"]), state["type"]) for state in states if state["type"] != "CRASHED"]
    return bool(before) and max(before)[1] == "CANCELLING"


def _cancelled(run: Json) -> AutoScorerError:
    return AutoScorerError(ErrorCode.CANCELLED, f"The flow run {run['name']} was cancelled.")


def _given_up(run: Json, attempt: int, reason: str) -> AutoScorerError:
    often = "once" if attempt == 1 else f"{attempt} times"
    return AutoScorerError(
        ErrorCode.INTERNAL_ERROR,
        f"The flow run {run['name']} was tried {often} and did not come to an end: {reason}",
        stage=Stage.EXECUTION,
        details={"attempts": attempt, "reason": reason},
    )


def save_ending(settings: Settings, run: Json, flow: str | None, error: AutoScorerError) -> None:
    """Save how a flow run ends whose process can't do it any more; its workspace's result.json says the same.

    Args:
        settings: The configuration.
        run: The flow run as Prefect gave it, with its ``start_time`` where it has begun.
        flow: Its flow's name.
        error: Why it ends; a score that it left, or a failure of the submission's own, is stronger.
    """
    files = FlowRunFiles(settings.home, run["id"])
    data: Json | None = None
    if flow == "batch":
        data = _batch_so_far(files, run, error, settings)
    elif flow != "validate-only" and _began(files, run, error):  # validating writes no Result
        result = _concluded(settings, (run["parameters"] or {}).get("workspace"), run["id"], error)
        if result is not None and result.error is None:
            score = result.summary.score
            message = "scored; its process died after that" if score is None else f"score {score:.4g}"
            files.save_ending({"state": "COMPLETED", "message": message, "data": result.to_dict(), "error": None})
            return
        if result is not None and result.error is not None:
            data = result.to_dict()
            error = AutoScorerError.from_dict(result.error.model_dump())
    state = "CANCELLED" if error.code is ErrorCode.CANCELLED else "FAILED"
    files.save_ending({"state": state, "message": str(error), "data": data, "error": error.to_dict()})


def _began(files: FlowRunFiles, run: Json, error: AutoScorerError) -> bool:
    """Whether it may have touched its workspace. One that was cancelled in the queue leaves the old Result there."""
    return error.code is not ErrorCode.CANCELLED or run["start_time"] is not None or files.read_stage() is not None


def _concluded(settings: Settings, workspace: Any, flow_run_id: str, error: AutoScorerError) -> Result | None:
    if not isinstance(workspace, str):
        return None
    # Not visible from this host, held by another run, not writable: then there is nothing of ours to say there.
    with contextlib.suppress(AutoScorerError, OSError):
        return ensure_result(workspace, flow_run_id, error, settings=settings, patience=settings.service.cancel_grace)
    return None


def _batch_so_far(files: FlowRunFiles, run: Json, error: AutoScorerError, settings: Settings) -> Json:
    outcomes = files.outcomes()
    parameters = run["parameters"] or {}
    for entry in expand(parameters.get("workspaces") or [], settings.workspace_roots):
        if not entry.is_work or Workspace(entry.path).left_by() != run["id"]:
            continue
        result = _concluded(settings, str(entry.path), run["id"], error)
        if result is not None:
            outcomes.append(outcome_of(entry.path, result))
    return summary_so_far(parameters.get("action") or "pipeline", outcomes, files.read_total())
