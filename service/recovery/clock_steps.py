"""Runs that would wait for hours because a clock was put back: what was due before it lies in the future since.

Prefect hands a run out when its scheduled time has come, by the clock. Whoever submits wants it done as soon as
possible, so a run that waits longer than any retry does, and that nobody has scheduled for later, is put at now.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ...core.backoff import delay
from ...core.config import Settings
from ..prefect.client import PrefectApi
from ..prefect.model import FLOW_NAMES, FlowRun, Json

__all__ = ["LONGEST_ROOM_WAIT", "is_held_up", "longest_wait", "put_at_now"]

# Seconds by which the clocks of two hosts may differ.
_SKEW = 5.0
# Seconds that a run waits at most for room on a disk before it is tried again.
LONGEST_ROOM_WAIT = 60.0


def longest_wait(settings: Settings) -> float:
    """Seconds that a run of a task waits at most for its next attempt."""
    service = settings.service
    return max(delay(max(service.max_attempts - 1, 1), service.retry_delay), LONGEST_ROOM_WAIT) + _SKEW


def is_held_up(run: FlowRun, now: datetime, longest: float) -> bool:
    """Whether a scheduled run waits for nothing but the clock.

    Args:
        longest: Seconds that a run of a task waits at most for its next attempt.
    """
    state = run["state"]
    due = (state.get("state_details") or {}).get("scheduled_time")
    if state["type"] != "SCHEDULED" or due is None or run.get("auto_scheduled"):
        return False  # a schedule names a time of day
    wait = (datetime.fromisoformat(due) - now).total_seconds()
    if "autoscorer.task" in (run.get("labels") or {}):
        return wait > longest  # nobody submits a task for later
    # Somebody in Prefect may have asked for a later time. A state from the future tells that the clock was put back;
    # one that was due when it was made, that nobody had.
    made = datetime.fromisoformat(state["timestamp"])
    return (made - now).total_seconds() > _SKEW and (datetime.fromisoformat(due) - made).total_seconds() <= _SKEW


async def put_at_now(prefect: PrefectApi, settings: Settings) -> list[FlowRun]:
    """Make runs due that a clock holds up.

    Returns:
        The flow runs that are due now.
    """
    now, longest = datetime.now(UTC), longest_wait(settings)
    wanted: Json = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "next_scheduled_start_time": {"after_": (now + timedelta(seconds=_SKEW)).isoformat()},
        "deployment_id": {"is_null_": False},
    }
    flows: Json = {"name": {"any_": list(FLOW_NAMES)}}
    pages = prefect.flow_run_pages(wanted, flows=flows)
    held_up = [run async for page in pages for run in page if is_held_up(run, now, longest)]
    done = []
    for run in held_up:
        # A worker whose clock is right may have taken it since.
        fresh = await prefect.flow_run(run["id"])
        if fresh is None or fresh["state"]["id"] != run["state"]["id"]:
            continue
        # Not under its name: that of a retry is counted.
        message = fresh["state"].get("message") or "The clock was put back; due at once."
        accepted, _ = await prefect.set_state(run["id"], "SCHEDULED", message=message, force=True)
        if accepted:
            done.append(run)
    return done
