"""Whether the Prefect server's scheduler does its work: when it stands still, no schedule fires and no run is late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from .client import PrefectApi
from .model import Json

__all__ = ["SchedulerWatch", "always_has_a_next_run"]


# The scheduler looks once a minute, and a few seconds after a deployment has changed.
GRACE = timedelta(seconds=150)
# It makes runs 100 days ahead. A schedule that fires less often may have none, and that is no fault.
_HORIZON = timedelta(days=90)
# Deployments with a schedule that are looked at.
_MOST = 50


class SchedulerWatch:
    """Looks for deployments that have an active schedule and no run ahead of them."""

    def __init__(self) -> None:
        self._without_run_since: dict[str, float] = {}

    async def unscheduled(self, prefect: PrefectApi, pools: Sequence[str]) -> list[str]:
        """The names of deployments for which the scheduler should have made runs and has not."""
        body = {
            "work_pools": {"name": {"any_": list(pools)}},
            "deployments": {"paused": {"eq_": False}},
            "limit": 200,
        }
        deployments: list[Json] = await prefect.call("POST", "/deployments/filter", body)
        scheduled = [
            each for each in deployments if any(always_has_a_next_run(schedule) for schedule in each["schedules"])
        ][:_MOST]
        have_run = await asyncio.gather(*(_has_run_ahead(prefect, each["id"]) for each in scheduled))
        without_run = [each for each, has_run in zip(scheduled, have_run, strict=True) if not has_run]
        now = time.monotonic()
        self._without_run_since = {each["id"]: self._without_run_since.get(each["id"], now) for each in without_run}
        return sorted(each["name"] for each in without_run if self._is_overdue(each, now))

    def _is_overdue(self, deployment: Json, now: float) -> bool:
        """Whether the scheduler has had the time to make a run since the schedule became what it is."""
        if now - self._without_run_since[deployment["id"]] > GRACE.total_seconds():
            return True
        # The first look after a long time says so at once. A worker's poll changes `updated` of the deployment, too;
        # then the watch waits.
        changes = [deployment["updated"], *(each["updated"] for each in deployment["schedules"])]
        changed = max(datetime.fromisoformat(each) for each in changes)
        return datetime.now(UTC) - changed > GRACE


def always_has_a_next_run(schedule: Json) -> bool:
    """Whether a deployment's schedule is active, and fires often enough that a run must lie ahead at any time.

    Args:
        schedule: As the server answers: ``active``, and ``schedule`` with ``cron``, ``interval`` or ``rrule``.
    """
    if not schedule["active"]:
        return False
    rule = schedule["schedule"]
    if rule.get("interval") is not None:
        return timedelta(seconds=float(rule["interval"])) <= _HORIZON
    fields = str(rule.get("cron") or "").split()
    # A rule that names months may have none for most of the year; an rrule may end.
    return len(fields) == 5 and fields[3] == "*"


async def _has_run_ahead(prefect: PrefectApi, deployment_id: str) -> bool:
    ahead = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "next_scheduled_start_time": {"after_": datetime.now(UTC).isoformat()},
    }
    return bool(await prefect.find_flow_runs(ahead, limit=1, deployments={"id": {"any_": [deployment_id]}}))
