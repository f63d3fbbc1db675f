"""How a worker's flow run is had, and how it ends: taken, told, put back, cleared up after.

What these ask of Prefect and of a shared ledger is asked until it is answered, for hours where need be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core.backoff import delays
from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.flowruns import Claim
from ..core.processes import ProcessIdentity
from ..core.provenance import utc_now
from ..executors.reaper import reap_if_needed
from ..service.flow_runs import FlowRuns, LedgerAway
from ..service.prefect.client import PrefectApi, PrefectAway, PrefectRefused
from ..service.prefect.model import ENGINE_FLOWS, JOURNALED_FLOWS, JUDGED_FLOWS, FlowRun
from ..service.recovery.dead_workers import clear_away, had_container
from ..service.recovery.transitions import finalize_run, persist_forced_outcome, report_saved_outcome, requeue
from .judges import Judges
from .processes import ForkPool
from .reporter import Reporter
from .shared_scorers import SharedScorers

__all__ = ["REFUSALS", "Settlement", "WorkerContext", "log_fields"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]
T = TypeVar("T")

# Seconds between two attempts at what does not answer: at first, and at most.
_PAUSE_FIRST, _PAUSE_MOST = 0.5, 5.0
# Seconds that a killed process may take to be gone.
_DYING = 5.0
# Attempts at what the server refuses.
REFUSALS = 5


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a worker shares with its runs."""

    name: str
    owner: ProcessIdentity
    settings: Settings
    prefect: PrefectApi
    fork_pool: ForkPool
    judges: Judges
    reporter: Reporter
    runs: FlowRuns
    scorers: SharedScorers


class Settlement:
    """Has one flow run for its worker, and settles what becomes of it.

    Args:
        run: As Prefect gave it.
        entrypoint: Of its deployment.
        context: The worker's.

    Attributes:
        files: What lies of the run in the home.
        claim: What the worker has it by; None before that.
        is_stopping: Whether the worker ends, and nothing is asked twice any more.
        is_published: Whether every host that shares the ledger can read the outcome; False when it came too late, None
            before there is one, and where no ledger is shared.
    """

    def __init__(self, run: FlowRun, entrypoint: str, context: WorkerContext) -> None:
        self.files = context.runs.files(run["id"])
        self.claim: Claim | None = None
        self.is_stopping = False
        self.is_published: bool | None = None
        self._run, self._entrypoint, self._context = run, entrypoint, context
        self._runs, self._prefect = context.runs, context.prefect

    @property
    def attempt(self) -> int | None:
        """The number of this attempt, where hosts share a ledger."""
        return self.claim.attempt if self.claim is not None else None

    @property
    def is_judged(self) -> bool:
        """Whether the judges' process works on it, which others have too."""
        return self._entrypoint in JUDGED_FLOWS

    @property
    def is_engine(self) -> bool:
        """Whether Prefect's engine works on it."""
        return self._entrypoint in ENGINE_FLOWS

    # --- had by this worker -----------------------------------------------------------------------------------

    async def take(self, is_wanted: Callable[[], bool]) -> bool:
        """Have the run in a ledger that hosts share; False where ``is_wanted`` says that it is not wanted any more."""
        attempt, context = None, self._context
        while attempt is None:
            attempt = await self.until_answered(lambda: self._runs.take(self._run["id"], context.owner, context.name))
            if attempt is None:
                # Another worker was silent for long, or has put it back just now and is about to let go of it.
                await asyncio.sleep(_PAUSE_FIRST)
                if not is_wanted():
                    return False
        self.claim = Claim(context.owner, name=context.name, attempt=attempt)
        if self._entrypoint in JOURNALED_FLOWS:
            await self.until_answered(lambda: self._runs.fetch(self._run["id"]))
        return True

    async def hold(self, child: ProcessIdentity, pid: int) -> None:
        """Note which process works on it: on disk before it begins, for whoever finds us dead."""
        context = self._context
        # The judges' process outlives the run, and its end says nothing of it.
        own = None if self.is_judged else child
        self.claim = Claim(context.owner, own, None if self.is_judged else pid, context.name, self.attempt)
        await asyncio.to_thread(self.files.claim, self.claim)

    async def is_ours(self) -> bool:
        """Whether it is still for this worker to say what becomes of the run."""
        return await self.until_answered(lambda: self._runs.is_current(self.claim, self._run["id"]))

    async def release(self) -> None:
        """Nobody has it any more."""
        if self.is_published:
            return  # with the end of its task its row goes, and its files with the end of this attempt
        with contextlib.suppress(LedgerAway):  # its claim ends by itself
            await self._runs.release(self._run["id"], self.claim)

    # --- its end ----------------------------------------------------------------------------------------------

    async def publish(self) -> bool:
        """Let every host read the outcome that was saved, before Prefect is told; False where it comes too late."""
        if self.is_published is None and self._runs.is_shared:
            await self.until_answered(lambda: self._runs.publish_outcome(self._run["id"], self.claim))
            self.is_published = await asyncio.to_thread(self.files.has_outcome)
        return self.is_published is not False

    async def report_saved(self) -> Json | None:
        """Tell Prefect the outcome that was saved, carefully; what it is, None where there is none to tell."""
        ending = self.files.read_outcome()  # once it is told, the API may remove it

        async def report() -> bool:
            return await report_saved_outcome(self._prefect, self._runs, self._run, self.claim)

        if await self.until_answered(report):
            return ending
        await self.release()
        return None

    async def cancel(self, error: AutoScorerError) -> Json | None:
        """End it as cancelled; as ``report_saved``."""
        # Before Prefect is asked, which may be away: the API finds it in the home.
        has_begun = self.claim is not None and (self.is_judged or self.claim.child is not None)
        begun: FlowRun = {**self._run, "start_time": utc_now()} if has_begun else self._run
        flow = self._entrypoint.rpartition(".")[2].replace("_", "-")
        await asyncio.to_thread(persist_forced_outcome, self._context.settings, begun, flow, error)
        return await self.report_saved()

    async def fail(self, error: AutoScorerError) -> Json:
        """End it as failed; how it ended."""
        await self.until_answered(lambda: finalize_run(self._prefect, self._runs, self._run, error, self.claim))
        return self.files.read_outcome() or {"state": "FAILED", "message": str(error)}

    async def put_back(self, reason: str, *, counted: bool, waits_for_room: bool) -> Json | None:
        """Put it back into its queue; how it ended instead, or None when it is queued."""

        async def put() -> bool:
            return await requeue(
                self._prefect,
                self._runs,
                self._run,
                reason,
                self.claim,
                counted=counted,
                waits_for_room=waits_for_room,
            )

        if await self.until_answered(put):
            logger.warning("The run was put back: %s", reason, extra=self._fields())
            self._context.reporter.log(self._run["id"], logging.WARNING, f"Put back into the queue: {reason}")
            ending = None
        else:
            logger.info("The run has ended in Prefect, or ends there now.", extra=self._fields())
            ending = self.files.read_outcome() or {"state": "FAILED", "message": reason}
        await self.release()
        return ending

    async def clear_up(self) -> bool:
        """Remove what a killed process left, until nothing of it is there; False where the worker ends before that."""
        while not await asyncio.to_thread(self._clear_up):
            # Where the engine does not answer, the model may be running yet, and would be there twice.
            if self.is_stopping:
                return False  # the claim stays
            await asyncio.sleep(_PAUSE_MOST)
        return True

    def _clear_up(self) -> bool:
        if self.claim is None:
            return True  # it never had its order
        settings = self._context.settings
        # With the fork server its children die, but a moment later.
        patience = time.monotonic() + _DYING
        while self.claim.child is not None and not self.claim.child.is_dead() and time.monotonic() < patience:
            time.sleep(0.02)
        if self.is_engine and not clear_away(settings, self._run["id"], needed=had_container(settings, self.claim)):
            logger.warning("Its container could not be looked for; trying again.", extra=self._fields())
            return False
        done = reap_if_needed(settings)
        for problem in done.problems if done else ():
            logger.warning("Not cleared up: %s", problem, extra=self._fields())
        return True

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until Prefect and the ledger answer, without a limit; while the worker stops, only once."""
        pauses, refusals = delays(_PAUSE_FIRST, _PAUSE_MOST, factor=1.5), 0
        while True:
            try:
                return await call()
            except (PrefectAway, LedgerAway):
                if self.is_stopping:
                    raise
            except PrefectRefused:
                refusals += 1
                if refusals == REFUSALS:
                    raise
            await asyncio.sleep(next(pauses))

    def _fields(self) -> Json:
        return {"fields": log_fields(self._run)}


def log_fields(run: FlowRun) -> Json:
    """What tells a run's lines in the log: its ids, and that of its task where it has one."""
    fields = {"flow_run": run["id"], "run": run.get("name")}
    task = (run.get("labels") or {}).get("autoscorer.task")
    return fields if task is None else {**fields, "task_id": task}
