"""Prefect's own notice of runs that fell silent: those of plain Prefect workers, whose processes we can't see.

A flow's process sends heartbeats, and an automation on the server marks a run Crashed that has sent some and falls
silent; the reconciler then puts it back or ends it. Only runs of our flows that came from a deployment are watched: a
run of ``--track`` sends its heartbeats at Prefect's own pace, and would be taken for dead between two of them.
"""

from __future__ import annotations

from typing import Any

from .client import PrefectApi
from .model import FLOW_NAMES, Json

__all__ = ["HEARTBEAT", "SILENCE", "ensure_crash_automation"]


# Seconds between two heartbeats of a flow run (PREFECT_FLOWS_HEARTBEAT_FREQUENCY where plain workers run flows), and
# seconds without any after which the server marks the run Crashed.
HEARTBEAT = 30
SILENCE = 90

# What ends the watch. Not any event: that a run is Running may be told after its first heartbeat, and its last one.
_EXPECTED = (
    "heartbeat",
    *("Completed", "Failed", "TimedOut", "Cancelled", "Crashed", "Cancelling"),
    *("Scheduled", "Late", "AwaitingRetry", "Paused", "Suspended"),
)
_NAME = "AutoScorer: silent flow runs have crashed"


async def ensure_crash_automation(prefect: PrefectApi) -> None:
    """Create the automation that marks a silent flow run Crashed, or bring it up to date.

    Raises:
        PrefectRefused: The server has no automations, or refuses this one.
    """
    wanted = _automation()
    found: list[Json] = await prefect.call(
        "POST", "/automations/filter", {"automations": {"name": {"any_": [_NAME]}}, "limit": 200}
    )
    if not found:
        await prefect.call("POST", "/automations/", wanted)
        return
    # Two processes may have made one each at the same moment.
    for surplus in found[1:]:
        await prefect.call("DELETE", f"/automations/{surplus['id']}", missing_ok=True)
    # Whether it is enabled is the operator's to say.
    kept, wanted = found[0], {**wanted, "enabled": found[0]["enabled"]}
    if not _covers(kept, wanted):
        await prefect.call("PUT", f"/automations/{kept['id']}", wanted)


def _automation() -> Json:
    return {
        "name": _NAME,
        "description": f"A run of a plain Prefect worker that sent heartbeats and none for {SILENCE} seconds.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "after": ["prefect.flow-run.heartbeat"],
            "expect": [f"prefect.flow-run.{event}" for event in _EXPECTED],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": [
                {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOW_NAMES)},
                {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"},
            ],
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": SILENCE,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": f"Its process has sent no heartbeat for {SILENCE} seconds.",
            }
        ],
    }


def _covers(found: Any, wanted: Any) -> bool:
    """Whether the server's answer holds what is wanted; it adds fields of its own, and turns sets round."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_covers(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return False
        return all(any(_covers(item, value) for item in found) for value in wanted)
    return bool(found == wanted)
