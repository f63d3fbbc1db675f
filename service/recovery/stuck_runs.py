"""Noticing what nobody else would: runs that are stuck, crashed, or final in Prefect with a container still there.

``recover`` settles what this host's own workers left, by their claims. Here is the rest: runs that were lost before
there was a claim, those of workers on hosts that are gone or were silent for too long, and those of plain Prefect
workers (docker and kubernetes pools), whose processes can't be seen from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from ...core.config import Settings
from ...core.flowruns import Claim, was_cancelling
from ...core.worker_names import has_died
from ...core.workspace import Workspace
from ...executors.reaper import reap_if_needed
from ...flows.batches.expand import expand
from ...tasks.benchmarks.adding import workspace_of
from ..flow_runs import CLAIM, FlowRuns
from ..ledger.flow_runs import KnownRun
from ..prefect.client import PrefectApi
from ..prefect.model import FLOW_NAMES, FlowRun, State, StateType
from .claims import WorkerIdentity, parse_claim
from .clock_steps import put_at_now
from .containers import remove_ended
from .dead_workers import clear_away
from .observations import age, claim_status, observe, recovery_lock
from .policy import ClaimStatus, RecoveryAction, RunObservation, Timeouts, WorkerState, decide
from .transitions import UNSETTLED, apply

__all__ = ["Reconciler"]

# States in which a run may have been forgotten. A scheduled one waits for a worker, and any may come.
_LOOKED_AT: tuple[StateType, ...] = ("PENDING", "RUNNING", "CANCELLING", "CRASHED")
# Seconds between two looks at what costs the server or the engine something: runs that Prefect's page or a schedule
# started, and containers.
_WIDE = 15.0
# Seconds after which nobody waits for a crashed run any more that is no task's.
_OLD = 24 * 3600.0
# The label by which a plain Prefect worker says that it took a run.
_WORKER = "prefect.worker.name"


class Reconciler:
    """Looks again and again; what was dear to find out is remembered between two looks."""

    def __init__(self, runs: FlowRuns, prefect: PrefectApi) -> None:
        self._runs = runs
        self._settings = runs.settings
        self._prefect = prefect
        self._next_wide = 0.0
        # The states of runs, by the id of the state that a run is in.
        self._histories: dict[str, list[State]] = {}
        # When a state was first seen here, by its id: by the clock it may never grow old (it was put back).
        self._seen: dict[str, float] = {}
        self._clock = time.time() - time.monotonic()
        # The workers of a pool by name, for one look.
        self._workers: dict[str, dict[str, WorkerState]] = {}

    async def look(self, active: Mapping[str, FlowRun]) -> list[str]:
        """Settle what is stuck. Call it every few seconds.

        Args:
            active: The flow runs of the tasks that have not ended, as Prefect gave them a moment ago, by id.

        Returns:
            One line for each thing done, for the log.
        """
        runs = {run["id"]: run for run in active.values() if run["state"]["type"] in _LOOKED_AT}
        wide = time.monotonic() >= self._next_wide or self._was_put_back()
        if wide:
            runs.update(await self._others())
        self._workers.clear()
        states = {run["state"]["id"] for run in runs.values()}
        self._histories = {state: history for state, history in self._histories.items() if state in states}
        self._seen = {state: self._seen.get(state, time.monotonic()) for state in states}
        done = []
        known = await self._runs.known(runs)
        suspects = [
            run
            for run in runs.values()
            if (await self._consider(run, known.get(run["id"])))[0] is not RecoveryAction.LEAVE
        ]
        if suspects:
            with recovery_lock(self._settings) as alone:
                for run in suspects if alone else ():
                    try:
                        line = await self._settle(run["id"])
                    except UNSETTLED as error:  # one such run must not keep the others waiting
                        line = f"not settled: {error}"
                    if line is not None:
                        done.append(f"{run['name']} ({run['id']}): {line}")
        if wide:
            removed = await remove_ended(self._prefect, self._settings)
            done += [
                f"{run['name']} ({run['id']}): due at once; a clock was put back"
                for run in await put_at_now(self._prefect, self._settings)
            ]
            done += [f"container {name} removed: its flow run has ended" for name in removed]
            self._next_wide = time.monotonic() + _WIDE
        return done

    def _was_put_back(self) -> bool:
        """Whether the clock was put back since the last look."""
        before, self._clock = self._clock, time.time() - time.monotonic()
        return self._clock < before - 1.0

    async def _others(self) -> dict[str, FlowRun]:
        """Runs of our deployments that no task stands for: started on Prefect's page or by a schedule."""
        found = await self._prefect.find_flow_runs(
            {"state": {"type": {"any_": list(_LOOKED_AT)}}, "deployment_id": {"is_null_": False}},
            sort="START_TIME_DESC",
            flows={"name": {"any_": list(FLOW_NAMES)}},
        )
        return {run["id"]: run for run in found if run["state"]["type"] != "CRASHED" or age(run["state"]) < _OLD}

    async def _settle(self, flow_run_id: str) -> str | None:
        # Afresh: what the caller saw may be seconds old, and its worker may have come back since.
        run = await self._prefect.flow_run(flow_run_id)
        if run is None or run["state"]["type"] not in _LOOKED_AT:
            return None
        known = await self._runs.known_run(flow_run_id)
        action, observation = await self._consider(run, known)
        claim = await asyncio.to_thread(self._runs.files(flow_run_id).read_claim)
        if observation.claim is ClaimStatus.EXPIRED and known is not None:
            claim = await self._take_over(run, known)
            if claim is None:
                return None  # its worker has spoken since
        if action is not RecoveryAction.LEAVE:
            await asyncio.to_thread(self._clear_away, flow_run_id)
        return await apply(self._prefect, self._runs, action, flow_run_id, run, _reason(run, observation), claim=claim)

    async def _take_over(self, run: FlowRun, known: KnownRun) -> Claim | None:
        """Take a run from a worker that was silent for too long, and the workspaces that its processes may hold."""
        claim = await self._runs.take_over(known)
        if claim is not None:
            await asyncio.to_thread(_free_workspaces, run, self._settings)
        return claim

    async def _consider(self, run: FlowRun, known: KnownRun | None) -> tuple[RecoveryAction, RunObservation]:
        """What to do with a run, and what that was decided on; ``known`` is what its workers said."""
        observation = await asyncio.to_thread(observe, self._runs.files(run["id"]), run, known)
        since = self._seen.get(run["state"]["id"])
        if since is not None:
            observation = replace(observation, seconds=max(observation.seconds, time.monotonic() - since))
        if observation.claim in (ClaimStatus.ALIVE, ClaimStatus.DEAD):
            # A dead claim is for ``recover``: it ends what the dead worker has left before it looks at the run.
            return RecoveryAction.LEAVE, observation
        if observation.claim in (ClaimStatus.EXPIRED, ClaimStatus.RELEASED):
            return await self._decided(run, observation), observation
        taker = await self._taker(run, observation)
        if taker is not None:
            observation = replace(observation, claim=await self._claim(run, observation, taker))
        elif observation.state == "PENDING":
            observation = await self._with_worker(run, observation)
        return await self._decided(run, observation), observation

    async def _decided(self, run: FlowRun, observation: RunObservation) -> RecoveryAction:
        if observation.state == "CRASHED" and observation.claim in (ClaimStatus.NONE, ClaimStatus.EXPIRED):
            # A process of a plain Prefect worker may crash, once its worker is dead, while it is being cancelled.
            types = [state["type"] for state in await self._history(run)]
            observation = replace(observation, cancelling=was_cancelling(types))
        return decide(observation, Timeouts.of(self._settings))

    async def _taker(self, run: FlowRun, observation: RunObservation) -> WorkerIdentity | None:
        """The worker of ours that took the run last."""
        state = run["state"]
        if state["type"] == "PENDING":
            return parse_claim(state["message"])
        if observation.seconds < self._settings.service.stuck_after:
            return None  # in good time
        pending = [one for one in await self._history(run) if one["type"] == "PENDING"]
        return parse_claim(pending[-1]["message"]) if pending else None

    async def _history(self, run: FlowRun) -> list[State]:
        """The states that led to the run's own; asked for once, since they change only with it."""
        state = run["state"]["id"]
        if state not in self._histories:
            self._histories[state] = await self._prefect.states(run["id"])
        return self._histories[state]

    async def _claim(self, run: FlowRun, observation: RunObservation, taker: WorkerIdentity) -> ClaimStatus:
        """Whether that worker lives: by its process where that can be seen, else by its signs of life to Prefect."""
        dead = await asyncio.to_thread(has_died, self._settings.home, taker.owner, taker.name)
        found = claim_status(taker.owner, dead=dead)
        if found is not ClaimStatus.OUT_OF_SIGHT:
            return found
        if observation.seconds < self._settings.service.stuck_after:
            return ClaimStatus.ALIVE
        online = await self._worker(run, taker.name) is WorkerState.ONLINE
        return ClaimStatus.ALIVE if online else ClaimStatus.DEAD

    async def _with_worker(self, run: FlowRun, observation: RunObservation) -> RunObservation:
        """Add how the plain Prefect worker does that took the run, and where its pool runs things."""
        pool = run["work_pool_name"]
        if pool is None or observation.seconds < self._settings.service.stuck_after:
            return observation
        found = await self._prefect.work_pool(pool)
        name = (run["labels"] or {}).get(_WORKER)
        return replace(
            observation,
            process_pool=found is None or found["type"] == "process",
            worker=WorkerState.UNKNOWN if name is None else await self._worker(run, name),
        )

    async def _worker(self, run: FlowRun, name: str) -> WorkerState:
        pool = run["work_pool_name"]
        if pool is None:
            return WorkerState.OFFLINE  # the pool was deleted, and its workers with it
        if pool not in self._workers:
            self._workers[pool] = {
                worker["name"]: WorkerState.ONLINE if worker["status"] == "ONLINE" else WorkerState.OFFLINE
                for worker in await self._prefect.workers(pool)
            }
        return self._workers[pool].get(name, WorkerState.OFFLINE)

    def _clear_away(self, flow_run_id: str) -> None:
        reap_if_needed(self._settings)
        # Where no engine answers there may never have been one: some pools run them where nobody here sees it.
        clear_away(self._settings, flow_run_id, needed=False)


def _free_workspaces(run: FlowRun, settings: Settings) -> None:
    """Take from a run's processes, which may be stopped and go on one day, the workspaces that they hold."""
    items = (run["parameters"] or {}).get("workspaces") or [workspace_of(run["parameters"], run["id"])]
    for entry in expand([each for each in items if isinstance(each, str)], settings.workspace_roots):
        if entry.is_work:
            Workspace(entry.path).break_lock(run["id"])


def _reason(run: FlowRun, observation: RunObservation) -> str:
    if run["state"]["type"] == "CRASHED":
        said = run["state"].get("message")
        return f"It crashed: {said}" if said else "It crashed."
    if observation.claim is ClaimStatus.EXPIRED:
        return f"Its worker was silent for {CLAIM:.0f} seconds."
    if observation.claim is ClaimStatus.DEAD or observation.worker is WorkerState.OFFLINE:
        return "The worker that took it is gone."
    return f"Nobody has worked on it for {observation.seconds:.0f} seconds."
