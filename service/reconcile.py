"""Noticing what nobody else would: runs that are stuck, crashed, or final in Prefect with a container still there.

``recover`` settles what this installation's own workers left, by their claims. Here is the rest: runs that were lost
before there was a claim, and those of plain Prefect workers (docker and kubernetes pools), whose processes can't be
seen from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import FlowRunFiles
from ..executors.reaper import reap_if_needed
from .containers import remove_ended
from .decide import Claimed, Situation, Verdict, WorkerState, decide
from .heartbeats import FLOWS
from .prefect_api import PrefectApi
from .recover import clear_away
from .requeue import end, requeue, tell
from .situation import look_at, patience, settling

__all__ = ["Reconciler"]

Json = dict[str, Any]

# States in which a run may have been forgotten. A scheduled one waits for a worker, and any may come.
_LOOKED_AT = ("PENDING", "RUNNING", "CANCELLING", "CRASHED")
# Seconds between two looks at what costs the server or the engine something: runs that Prefect's page or a schedule
# started, and containers.
_WIDE = 15.0
# The label by which a plain Prefect worker says that it took a run.
_WORKER = "prefect.worker.name"


class Reconciler:
    """Looks again and again; what was dear to find out is remembered between two looks.

    Args:
        settings: The configuration.
        prefect: The server.
    """

    def __init__(self, settings: Settings, prefect: PrefectApi) -> None:
        self._settings = settings
        self._prefect = prefect
        self._next_wide = 0.0

    async def look(self, active: Mapping[str, Json]) -> list[str]:
        """Settle what is stuck. Call it every few seconds.

        Args:
            active: The flow runs of the tasks that have not ended, as Prefect gave them a moment ago, by id.

        Returns:
            One line for each thing done, for the log.

        Raises:
            PrefectAway: The server does not answer.
        """
        runs = {run["id"]: run for run in active.values() if run["state"]["type"] in _LOOKED_AT}
        wide = time.monotonic() >= self._next_wide
        if wide:
            runs.update(await self._others())
        done = []
        suspects = await asyncio.to_thread(self._suspects, list(runs.values()))
        if suspects:
            with settling(self._settings) as alone:
                if alone:
                    for run in suspects:
                        if line := await self._settle(run["id"]):
                            done.append(f"{run['name']} ({run['id']}): {line}")
        if wide:
            done += [f"container {name} removed: its flow run has ended" for name in await self._containers()]
            self._next_wide = time.monotonic() + _WIDE
        return done

    async def _others(self) -> dict[str, Json]:
        """Runs of our deployments that no task stands for: started on Prefect's page or by a schedule."""
        found = await self._prefect.find_flow_runs(
            {"state": {"type": {"any_": ["PENDING", "CANCELLING", "CRASHED"]}}, "deployment_id": {"is_null_": False}},
            sort="START_TIME_DESC",
            flows={"name": {"any_": list(FLOWS)}},
        )
        return {run["id"]: run for run in found}

    def _suspects(self, runs: list[Json]) -> list[Json]:
        """Those that may need something done, by what can be seen without asking anybody."""
        return [run for run in runs if self._decide(self._look_at(run)) is not Verdict.LEAVE]

    async def _settle(self, flow_run_id: str) -> str | None:
        # Afresh: what the caller saw may be seconds old, and its worker may have come back since.
        run = await self._prefect.flow_run(flow_run_id)
        if run is None or run["state"]["type"] not in _LOOKED_AT:
            return None
        worker, process_pool = await self._worker(run)
        situation = await asyncio.to_thread(self._look_at, run, worker=worker, process_pool=process_pool)
        verdict = self._decide(situation)
        if verdict in (Verdict.REQUEUE, Verdict.CANCEL, Verdict.TELL) and not await self._cleared(run):
            return None
        match verdict:
            case Verdict.TELL:
                await tell(self._prefect, self._settings, run)
                return "its ending was saved, and Prefect knows now"
            case Verdict.CANCEL:
                error = AutoScorerError(ErrorCode.CANCELLED, f"The flow run {run['name']} was cancelled.")
                await end(self._prefect, self._settings, run, error)
                return "cancelled: nobody was there to do it"
            case Verdict.REQUEUE:
                reason = _reason(run, situation)
                queued = await requeue(self._prefect, self._settings, run, reason, only_if=run["state"]["id"])
                return f"back in its queue. {reason}" if queued else f"not put back. {reason}"
        return None

    def _look_at(self, run: Json, **known: Any) -> Situation:
        return look_at(FlowRunFiles(self._settings.home, run["id"]), run, **known)

    def _decide(self, situation: Situation) -> Verdict:
        # A dead claim is for ``recover``: it ends what the dead worker has left before it looks at the run.
        if situation.claim is Claimed.DEAD:
            return Verdict.LEAVE
        return decide(situation, patience(self._settings))

    async def _worker(self, run: Json) -> tuple[WorkerState, bool]:
        """How the plain Prefect worker does that took the run, and whether its pool runs processes."""
        pool = run.get("work_pool_name")
        if run["state"]["type"] != "PENDING" or not isinstance(pool, str):
            return WorkerState.UNKNOWN, True
        found = await self._prefect.work_pool(pool)
        is_process = found is None or found["type"] == "process"
        name = (run.get("labels") or {}).get(_WORKER)
        if name is None or found is None:
            return WorkerState.UNKNOWN, is_process
        online = any(
            worker["name"] == name and worker["status"] == "ONLINE" for worker in await self._prefect.workers(pool)
        )
        return WorkerState.ONLINE if online else WorkerState.OFFLINE, is_process

    async def _cleared(self, run: Json) -> bool:
        """Remove what the run has left on this host; whether its containers are gone."""

        def work() -> bool:
            reap_if_needed(self._settings)
            # Where no engine answers there may never have been one: what runs in Kubernetes is not to be seen here.
            return clear_away(self._settings, run["id"], needed=False)

        return await asyncio.to_thread(work)

    async def _containers(self) -> list[str]:
        return await remove_ended(self._prefect, self._settings)


def _reason(run: Json, situation: Situation) -> str:
    if run["state"]["type"] == "CRASHED":
        said = run["state"].get("message")
        return f"It crashed: {said}" if said else "It crashed."
    if situation.worker is WorkerState.OFFLINE:
        return "The worker that took it is gone."
    return f"Nobody has worked on it for {situation.seconds:.0f} seconds."
