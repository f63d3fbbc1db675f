"""One flow run in the worker: from its claim to the moment that Prefect knows how it ended.

Its process may die at any moment, Prefect may be away for hours, somebody may cancel it meanwhile. Whatever happens,
one of three things is done in the end: the outcome that was saved is reported, or the run is ended with a reason, or
it is requeued.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core.backoff import delays
from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import Claim
from ..core.processes import ProcessIdentity, describe_exit
from ..core.provenance import utc_now
from ..core.storage import full_disk
from ..executors.reaper import reap_if_needed
from ..service.flow_runs import FlowRuns, LedgerAway
from ..service.prefect.client import PrefectApi, PrefectAway, PrefectRefused
from ..service.prefect.model import DEPLOYMENTS, DIRECT_FLOWS, ENGINE_FLOWS, FINAL_TYPES, FlowRun
from ..service.recovery.dead_workers import clear_away, had_container
from ..service.recovery.transitions import finalize_run, persist_forced_outcome, report_saved_outcome, requeue
from ..tasks.score import STEP_TIMEOUT
from .processes import ForkedProcess, ForkFailed, ForkPool
from .reporter import Reporter
from .shared_scorers import SharedScorers
from .task_runs import TaskRun

__all__ = ["WorkerContext", "WorkerRun", "log_fields"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]
T = TypeVar("T")

# Seconds for which a state that we saw is taken to be still the run's own. Only a person with a hand in Prefect's API
# could end a run of ours meanwhile, and a look costs as much as the telling.
_FRESH = 1.0
# Seconds between two attempts at a server that does not answer: at first, and at most.
_PAUSE_FIRST, _PAUSE_MOST = 0.5, 5.0
# Seconds that a process may live on when Prefect says that its run has ended: it sends its last log records.
_AFTER_END = 20.0
# Seconds that a killed process may take to be gone.
_DYING = 5.0
# Attempts at what the server refuses.
_REFUSALS = 5
# Flows of which a second attempt goes on where the first one ended.
_BATCHES = frozenset(each.entrypoint for each in DEPLOYMENTS if each.action == "batch")


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a worker shares with its runs."""

    name: str
    owner: ProcessIdentity
    settings: Settings
    prefect: PrefectApi
    fork_pool: ForkPool
    reporter: Reporter
    runs: FlowRuns
    scorers: SharedScorers


class WorkerRun:
    """A flow run that this worker has set to PENDING.

    Args:
        entrypoint: Of its deployment, and one of ``DIRECT_FLOWS`` or ``ENGINE_FLOWS``.
        on_free: Called once, when another run may have this one's place.
    """

    def __init__(self, run: FlowRun, entrypoint: str, context: WorkerContext, on_free: Callable[[], None]) -> None:
        self.id: str = run["id"]
        # Whether there is no process any more: somebody else may have its place while the end is being told.
        self.is_free = False
        self._on_free = on_free
        self._run = run
        self._entrypoint = entrypoint
        self._context = context
        self._files = context.runs.files(self.id)
        self._claim: Claim | None = None
        self._child: ForkedProcess | None = None
        self._killer: asyncio.TimerHandle | None = None
        self._kill_at = float("inf")
        self._limit: asyncio.TimerHandle | None = None
        self._reporting: asyncio.Task[None] | None = None
        # Of a direct run, once it has begun; the engine makes its own.
        self._task_run: TaskRun | None = None
        self._known_at = time.monotonic()
        self._fault: str | None = None
        # Whether it failed for want of room on a disk, and costs none of its attempts.
        self._waits_for_room = False
        # Why it is being ended from outside, whichever came first.
        self._cancelled = self._taken_away = self._overdue = self._stopping = self._lost = False
        # The number of this attempt, where several hosts share a ledger.
        self.attempt: int | None = None
        # Whether every host can read the outcome; None before there is one.
        self._published: bool | None = None

    # --- what others do to it -------------------------------------------------------------------------------

    def on_observed_state(self, run: FlowRun | None) -> None:
        """Take note of what Prefect says about the run now.

        Args:
            run: The flow run; None when the server knows none of that id.
        """
        kind = run["state"]["type"] if run else None
        if kind in ("PENDING", "RUNNING"):
            self._known_at = time.monotonic()
        elif kind == "CANCELLING":
            self.cancel()
        elif kind in FINAL_TYPES:
            # Its own engine may have said so just now; a process that does not end then is not wanted any more.
            self._taken_away = True
            self._end_within(_AFTER_END if self._is_engine and kind != "CANCELLED" else self._grace)
        else:  # put back, paused or deleted behind our back
            self._taken_away = True
            self._end_within(0)

    def check_cancel_request(self) -> None:
        """Cancel it if the API has left word in the home that it is to end."""
        if not self._cancelled and self._files.is_cancel_requested():
            self.cancel()

    def cancel(self) -> None:
        """End its work: the container in its own way, or all of it by force after a while."""
        if not self._cancelled:
            self._cancelled = True
            logger.info("The run is being cancelled.", extra=self._fields())
            if self._child is not None and self._is_engine:
                self._child.send({"cancel": True})
            self._end_within(self._grace)

    def stop(self) -> None:
        """End its work at once, to be done again by another worker."""
        self._stopping = True
        self._end_within(0)

    def lose(self) -> None:
        """End its work: another worker has the run, or may have it soon, because this one was silent for too long."""
        if not self._lost:
            self._lost = True
            logger.warning("The run may be another worker's by now; its work here is ended.", extra=self._fields())
            self._end_within(0)

    # --- its life -------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Run it in a forked process and settle its outcome. Raises nothing but ``CancelledError``."""
        try:
            await self._attempt()
        except (PrefectAway, LedgerAway) as error:  # while the worker stops: whoever comes next goes on from there
            logger.warning("%s The next worker settles the run.", error.message, extra=self._fields())
        except Exception as error:
            full = full_disk(error, home=self._context.settings.home)
            reason = full.message if full else "The worker had a fault of its own; its log tells more."
            self._waits_for_room = full is not None
            if full is None:
                logger.exception("A fault of the worker; the run is put back.", extra=self._fields())
            try:
                await self._put_back(reason)
            except Exception:
                # Its claim stays: the run is not lost, but it waits for this worker's end.
                logger.exception("The run could not be put back.", extra=self._fields())
        finally:
            self._free()
            for timer in (self._killer, self._limit):
                if timer is not None:
                    timer.cancel()

    async def _attempt(self) -> None:
        # An ending that lies there is that of an attempt before somebody started the run anew.
        self._files.forget_outcome()
        self.check_cancel_request()
        if self._context.runs.is_shared and not await self._take():
            return
        try:
            self._child = await self._context.fork_pool.fork(self.id)
        except ForkFailed as error:
            await self._put_back(f"No process could be started for it: {error}.")
            return
        if self._cancelled or self._stopping or self._taken_away or self._lost:  # meanwhile
            self._end_within(0)
        watch = asyncio.create_task(self._watch(self._child))
        try:
            status = await self._child.wait()
            self._free()
            # What it said last is still being read.
            await watch
        finally:
            watch.cancel()
        await self._finish(status)
        if self._published:  # in the ledger, and told
            await asyncio.to_thread(self._files.remove)

    async def _take(self) -> bool:
        """Have the run in the ledger; False where it is not to be had any more."""
        runs, context = self._context.runs, self._context
        while self.attempt is None:
            self.attempt = await self._retry_until_answered(lambda: runs.take(self.id, context.owner, context.name))
            if self.attempt is None:
                # Another worker was silent for long, or has put it back just now and is about to let go of it.
                await asyncio.sleep(_PAUSE_FIRST)
                if self._taken_away or self._stopping:
                    return False
        self._claim = Claim(context.owner, name=context.name, attempt=self.attempt)
        if self._entrypoint in _BATCHES:
            await self._retry_until_answered(lambda: runs.fetch(self.id))
        return True

    def _free(self) -> None:
        if not self.is_free:
            self.is_free = True
            self._on_free()

    async def _watch(self, child: ForkedProcess) -> None:
        """Handle the process's messages, and send it its order once everything is in place."""
        try:
            async for message in child.messages():
                if "hello" in message:
                    if not await self._begin(child, ProcessIdentity(message["hello"])):
                        child.kill()
                elif "log" in message:
                    self._context.reporter.log(self.id, **message["log"])
                elif "saved" in message:
                    child.send({"published": await self._publish()})
                elif "ended" in message:
                    self._reporting = asyncio.create_task(self._report())
                elif "artifacts" in message:
                    self._context.reporter.add_artifacts(self.id, message["artifacts"])
                elif "fault" in message:
                    self._fault, self._waits_for_room = message["fault"], message["waits_for_room"]
        except Exception:
            child.kill()
            raise

    async def _begin(self, child: ForkedProcess, owner: ProcessIdentity) -> bool:
        self._claim = Claim(self._context.owner, owner, child.pid, self._context.name, self.attempt)
        # On disk before any work begins, so that whoever finds us dead knows what to end and to clear up.
        claiming = asyncio.to_thread(self._files.claim, self._claim)
        own: Json = {"flow_run": self.id, "attempt": self.attempt}
        # Whoever was told that a scorer is loaded gets it from every run that is taken after that, on every host.
        knowing = self._context.scorers.up_to_date()
        if self._is_engine:
            await asyncio.gather(claiming, knowing)
            child.send({"kind": "engine", **own, "entrypoint": self._entrypoint})
        else:
            _, _, running = await asyncio.gather(claiming, knowing, self._set_running())
            if not running:
                return False
            self._task_run = TaskRun(self._run, DIRECT_FLOWS[self._entrypoint])
            self._set_task_run("RUNNING")
            parameters = self._run.get("parameters") or {}
            child.send({"kind": DIRECT_FLOWS[self._entrypoint], **own, "parameters": parameters})
            # Scorers are code of others. The engine's tasks have this limit from Prefect.
            self._limit = asyncio.get_running_loop().call_later(STEP_TIMEOUT, self._end_overdue)
        if self._cancelled and self._is_engine:
            child.send({"cancel": True})
        return True

    async def _set_running(self) -> bool:
        """Set the run to RUNNING; False when it is not ours to run any more."""
        for attempt in range(_REFUSALS):
            with contextlib.suppress(PrefectAway):  # it may have been accepted all the same
                accepted, _ = await self._context.prefect.set_state(self.id, "RUNNING")
                if accepted:
                    break
            await asyncio.sleep(0.2 * attempt)
            run = await self._retry_until_answered(lambda: self._context.prefect.flow_run(self.id))
            kind = run["state"]["type"] if run else None
            if kind == "RUNNING":
                break
            if kind != "PENDING":
                self.on_observed_state(run)
                return False
        else:
            return False
        self._known_at = time.monotonic()
        return True

    def _end_overdue(self) -> None:
        self._overdue = True
        self._end_within(0)

    # --- its end --------------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether its outcome is known to every host: its claim may go."""
        return self._published is not None

    async def _publish(self) -> bool:
        """Let every host read the outcome that was saved, before Prefect is told; False where it comes too late."""
        runs = self._context.runs
        if self._published is None and runs.is_shared:
            await self._retry_until_answered(lambda: runs.publish_outcome(self.id, self._claim))
            self._published = await asyncio.to_thread(self._files.has_outcome)
        return self._published is not False

    async def _finish(self, status: int | None) -> None:
        if self._reporting is not None:
            await self._reporting
            return
        if self._files.has_outcome():
            await self._retry_until_answered(self._report_saved)
            return
        while not await asyncio.to_thread(self._clear_up):
            # Where the engine does not answer, the model may be running yet, and would be there twice.
            if self._stopping:
                return  # the claim stays
            await asyncio.sleep(_PAUSE_MOST)
        runs = self._context.runs
        if not await self._retry_until_answered(lambda: runs.is_current(self._claim, self.id)):
            logger.warning("Another worker has the run; what was done here is dropped.", extra=self._fields())
            await self._release()
        elif self._cancelled:
            error = AutoScorerError(ErrorCode.CANCELLED, "Cancelled while it was worked on.")
            # Before Prefect is asked, which may be away: the API finds it in the home.
            begun: FlowRun = self._run if self._claim is None else {**self._run, "start_time": utc_now()}
            flow = self._entrypoint.rpartition(".")[2].replace("_", "-")
            await asyncio.to_thread(persist_forced_outcome, self._context.settings, begun, flow, error)
            await self._retry_until_answered(self._report_saved)
        elif self._overdue:
            error = AutoScorerError(
                ErrorCode.SCORER_ERROR, f"The scorer did not end within {STEP_TIMEOUT / 3600:.0f} hours and was killed."
            )
            await self._retry_until_answered(
                lambda: finalize_run(self._context.prefect, runs, self._run, error, self._claim)
            )
            self._on_end(self._files.read_outcome() or {"state": "FAILED", "message": str(error)})
        else:
            reason = self._fault if self._waits_for_room else None
            await self._put_back(reason or _reason(status, self._fault, self._stopping, self._lost))

    async def _report(self) -> None:
        """Report the outcome that the process has saved to Prefect."""
        prefect = self._context.prefect
        if not await self._publish():
            await self._release()
            return
        try:
            if time.monotonic() - self._known_at < _FRESH and not (self._cancelled or self._taken_away):
                ending = self._files.read_outcome()
                assert ending is not None
                accepted, _ = await prefect.set_state(self.id, ending["state"], message=ending["message"])
                if accepted:
                    await self._release()
                    self._on_end(ending)
                    return
        except (PrefectAway, PrefectRefused):
            pass  # more carefully, then
        await self._retry_until_answered(self._report_saved)

    async def _report_saved(self) -> None:
        ending = self._files.read_outcome()  # once it is told, the API may remove it
        if await report_saved_outcome(self._context.prefect, self._context.runs, self._run, self._claim):
            self._on_end(ending)
        else:
            await self._release()

    async def _put_back(self, reason: str) -> None:
        context, counted = self._context, not (self._stopping or self._lost)
        waits = self._waits_for_room and not self._stopping
        queued = await self._retry_until_answered(
            lambda: requeue(
                context.prefect, context.runs, self._run, reason, self._claim, counted=counted, waits_for_room=waits
            )
        )
        if queued:
            logger.warning("The run was put back: %s", reason, extra=self._fields())
            context.reporter.log(self.id, logging.WARNING, f"Put back into the queue: {reason}")
            self._set_task_run("CRASHED", reason)
        else:
            logger.info("The run has ended in Prefect, or ends there now.", extra=self._fields())
            ending = self._files.read_outcome() or {"state": "FAILED", "message": reason}
            self._set_task_run(ending["state"], ending["message"])
        await self._release()

    async def _release(self) -> None:
        # Where the ledger is away its claim ends by itself.
        with contextlib.suppress(LedgerAway):
            await self._context.runs.release(self.id, self._claim)

    def _clear_up(self) -> bool:
        """Remove what a killed process left; whether nothing of it is there any more."""
        if self._claim is None:
            return True  # it never had its order
        settings = self._context.settings
        # With the fork server its children die, but a moment later.
        patience = time.monotonic() + _DYING
        while self._claim.child is not None and not self._claim.child.is_dead() and time.monotonic() < patience:
            time.sleep(0.02)
        if self._is_engine and not clear_away(settings, self.id, needed=had_container(settings, self._claim)):
            logger.warning("Its container could not be looked for; trying again.", extra=self._fields())
            return False
        done = reap_if_needed(settings)
        for problem in done.problems if done else ():
            logger.warning("Not cleared up: %s", problem, extra=self._fields())
        return True

    async def _retry_until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the server answers, without a limit; while the worker stops, only once."""
        pauses, refusals = delays(_PAUSE_FIRST, _PAUSE_MOST, factor=1.5), 0
        while True:
            try:
                return await call()
            except (PrefectAway, LedgerAway):
                if self._stopping:
                    raise
            except PrefectRefused:
                refusals += 1
                if refusals == _REFUSALS:
                    raise
            await asyncio.sleep(next(pauses))

    def _end_within(self, seconds: float) -> None:
        """Kill the child, unless it ends by itself before that."""
        at = time.monotonic() + seconds
        if self._child is None or self.is_free or self._kill_at <= at:
            return
        if self._killer is not None:
            self._killer.cancel()
        self._kill_at = at
        self._killer = asyncio.get_running_loop().call_later(seconds, self._child.kill)

    @property
    def _is_engine(self) -> bool:
        return self._entrypoint in ENGINE_FLOWS

    @property
    def _grace(self) -> float:
        # A scorer has no container to end and hears nothing.
        return self._context.settings.service.cancel_grace if self._is_engine else 0.0

    def _on_end(self, ending: Json | None) -> None:
        if ending is not None:
            logger.info("%s: %s", ending["state"].capitalize(), ending["message"], extra=self._fields())
            self._set_task_run(ending["state"], ending["message"])

    def _set_task_run(self, state: str, message: str | None = None) -> None:
        if self._task_run is not None:
            self._context.reporter.set_task_run(self.id, self._task_run.event(state, message))

    def _fields(self) -> Json:
        return {"fields": log_fields(self._run)}


def log_fields(run: FlowRun) -> Json:
    """What tells a run's lines in the log: its ids, and that of its task where it has one."""
    fields = {"flow_run": run["id"], "run": run.get("name")}
    task = (run.get("labels") or {}).get("autoscorer.task")
    return fields if task is None else {**fields, "task_id": task}


def _reason(status: int | None, fault: str | None, stopping: bool, lost: bool) -> str:
    """What happened to a process that left no ending, in a sentence."""
    if stopping:
        return "The worker was told to stop."
    if lost:
        return "Its worker could not reach the ledger's database for too long."
    if fault is not None:
        return f"Its process failed: {fault}"
    if status is None:
        return "Its process was lost with the worker's fork server."
    if status == -signal.SIGKILL:
        return "Its process was killed (SIGKILL; out of memory, perhaps)."
    if status < 0:
        return f"Its process was ended by {describe_exit(status)}."
    return f"Its process ended with code {status} and said nothing about the run."
