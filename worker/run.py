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
from collections.abc import Callable
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..core.processes import ProcessIdentity, describe_exit
from ..core.storage import full_disk
from ..service.flow_runs import LedgerAway
from ..service.prefect.client import PrefectAway, PrefectRefused
from ..service.prefect.model import DIRECT_FLOWS, FINAL_TYPES, JUDGED_FLOWS, FlowRun
from ..tasks.score import STEP_TIMEOUT
from .judges import JudgedRun
from .processes import ForkedProcess, ForkFailed
from .settlement import REFUSALS, Settlement, WorkerContext, log_fields
from .task_runs import TaskRun

__all__ = ["WorkerRun"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]

# Seconds for which a state that we saw is taken to be still the run's own. Only a person with a hand in Prefect's API
# could end a run of ours meanwhile, and a look costs as much as the telling.
_FRESH = 1.0
# Seconds that a process may live on when Prefect says that its run has ended: it sends its last log records.
_AFTER_END = 20.0


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
        # Whether the judges' process works on it, together with others.
        self.is_judged = entrypoint in JUDGED_FLOWS
        self._on_free = on_free
        self._run = run
        self._entrypoint = entrypoint
        self._context = context
        self._settlement = Settlement(run, entrypoint, context)
        self._child: ForkedProcess | JudgedRun | None = None
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
        self._cancelled = self._taken_away = self._overdue = self._lost = False

    @property
    def attempt(self) -> int | None:
        """The number of this attempt, where hosts share a ledger."""
        return self._settlement.attempt

    @property
    def is_settled(self) -> bool:
        """Whether its outcome is known to every host: its claim may go."""
        return self._settlement.is_published is not None

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
            self._end_within(_AFTER_END if self._settlement.is_engine and kind != "CANCELLED" else self._grace)
        else:  # put back, paused or deleted behind our back
            self._taken_away = True
            self._end_within(0)

    def check_cancel_request(self) -> None:
        """Cancel it if the API has left word in the home that it is to end."""
        if not self._cancelled and self._settlement.files.is_cancel_requested():
            self.cancel()

    def cancel(self) -> None:
        """End its work: the container in its own way, or all of it by force after a while."""
        if not self._cancelled:
            self._cancelled = True
            logger.info("The run is being cancelled.", extra=self._fields())
            if self._child is not None and self._settlement.is_engine:
                self._child.send({"cancel": True})
            self._end_within(self._grace)

    def stop(self) -> None:
        """End its work at once, to be done again by another worker."""
        self._settlement.is_stopping = True
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
        settlement = self._settlement
        # An ending that lies there is that of an attempt before somebody started the run anew.
        settlement.files.forget_outcome()
        self.check_cancel_request()
        if self._context.runs.is_shared and not await settlement.take(lambda: not self._is_unwanted):
            return
        try:
            self._child = await (self._context.judges if self.is_judged else self._context.fork_pool).fork(self.id)
        except ForkFailed as error:
            await self._put_back(f"No process could be started for it: {error}.")
            return
        if self._cancelled or self._is_unwanted:  # meanwhile
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
        if settlement.is_published:  # in the ledger, and told
            await asyncio.to_thread(settlement.files.remove)

    @property
    def _is_unwanted(self) -> bool:
        return self._settlement.is_stopping or self._taken_away or self._lost

    def _free(self) -> None:
        if not self.is_free:
            self.is_free = True
            self._on_free()

    async def _watch(self, child: ForkedProcess | JudgedRun) -> None:
        """Handle the process's messages, and send it its order once everything is in place."""
        try:
            async for message in child.messages():
                if "hello" in message:
                    if not await self._begin(child, ProcessIdentity(message["hello"])):
                        child.kill()
                elif "log" in message:
                    self._context.reporter.log(self.id, **message["log"])
                elif "saved" in message:
                    child.send({"published": await self._settlement.publish()})
                elif "ended" in message:
                    self._reporting = asyncio.create_task(self._report())
                elif "artifacts" in message:
                    self._context.reporter.add_artifacts(self.id, message["artifacts"])
                elif "fault" in message:
                    self._fault, self._waits_for_room = message["fault"], message["waits_for_room"]
        except Exception:
            child.kill()
            raise

    async def _begin(self, child: ForkedProcess | JudgedRun, owner: ProcessIdentity) -> bool:
        holding = self._settlement.hold(owner, child.pid)
        own: Json = {"flow_run": self.id, "attempt": self.attempt}
        # Whoever was told that a scorer is loaded gets it from every run that is taken after that, on every host.
        knowing = self._context.scorers.up_to_date()
        if self._settlement.is_engine:
            await asyncio.gather(holding, knowing)
            child.send({"kind": "engine", **own, "entrypoint": self._entrypoint})
        else:
            _, _, running = await asyncio.gather(holding, knowing, self._set_running())
            if not running:
                return False
            kind = DIRECT_FLOWS.get(self._entrypoint, "rag-score")
            self._task_run = TaskRun(self._run, kind)
            self._set_task_run("RUNNING")
            parameters = self._run.get("parameters") or {}
            child.send({"kind": kind, **own, "parameters": parameters})
            # Scorers are code of others. The engine's tasks have this limit from Prefect.
            self._limit = asyncio.get_running_loop().call_later(STEP_TIMEOUT, self._end_overdue)
        if self._cancelled and self._settlement.is_engine:
            child.send({"cancel": True})
        return True

    async def _set_running(self) -> bool:
        """Set the run to RUNNING; False when it is not ours to run any more."""
        for attempt in range(REFUSALS):
            with contextlib.suppress(PrefectAway):  # it may have been accepted all the same
                accepted, _ = await self._context.prefect.set_state(self.id, "RUNNING")
                if accepted:
                    break
            await asyncio.sleep(0.2 * attempt)
            run = await self._settlement.until_answered(lambda: self._context.prefect.flow_run(self.id))
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

    async def _finish(self, status: int | None) -> None:
        settlement = self._settlement
        if self._reporting is not None:
            await self._reporting
        elif settlement.is_published or settlement.files.has_outcome():
            self._on_end(await settlement.report_saved())
        elif not await settlement.clear_up():
            return
        elif not await settlement.is_ours():
            logger.warning("Another worker has the run; what was done here is dropped.", extra=self._fields())
            await settlement.release()
        elif self._cancelled:
            error = AutoScorerError(ErrorCode.CANCELLED, "Cancelled while it was worked on.")
            self._on_end(await settlement.cancel(error))
        elif self._overdue:
            why = f"The scorer did not end within {STEP_TIMEOUT / 3600:.0f} hours and was killed."
            self._on_end(await settlement.fail(AutoScorerError(ErrorCode.SCORER_ERROR, why)))
        else:
            await self._put_back((self._fault if self._waits_for_room else None) or self._reason(status))

    async def _report(self) -> None:
        """Report the outcome that the process has saved to Prefect."""
        settlement, prefect = self._settlement, self._context.prefect
        if not await settlement.publish():
            await settlement.release()
            return
        try:
            if time.monotonic() - self._known_at < _FRESH and not (self._cancelled or self._taken_away):
                ending = settlement.files.read_outcome()
                assert ending is not None
                accepted, _ = await prefect.set_state(self.id, ending["state"], message=ending["message"])
                if accepted:
                    await settlement.release()
                    self._on_end(ending)
                    return
        except (PrefectAway, PrefectRefused):
            pass  # more carefully, then
        self._on_end(await settlement.report_saved())

    async def _put_back(self, reason: str) -> None:
        stops = self._settlement.is_stopping
        waits = self._waits_for_room and not stops
        ending = await self._settlement.put_back(reason, counted=not (stops or self._lost), waits_for_room=waits)
        if ending is None:
            self._set_task_run("CRASHED", reason)
        else:
            self._set_task_run(ending["state"], ending["message"])

    def _reason(self, status: int | None) -> str:
        """What happened to a process that left no ending, in a sentence."""
        if self._settlement.is_stopping:
            return "The worker was told to stop."
        if self._lost:
            return "Its worker could not reach the ledger's database for too long."
        if self._fault is not None:
            return f"Its process failed: {self._fault}"
        if status is None:
            return "Its process was lost with the worker's fork server."
        if status == -signal.SIGKILL:
            return "Its process was killed (SIGKILL; out of memory, perhaps)."
        if status < 0:
            return f"Its process was ended by {describe_exit(status)}."
        return f"Its process ended with code {status} and said nothing about the run."

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
    def _grace(self) -> float:
        # A scorer has no container to end and hears nothing.
        return self._context.settings.service.cancel_grace if self._settlement.is_engine else 0.0

    def _on_end(self, ending: Json | None) -> None:
        if ending is not None:
            logger.info("%s: %s", ending["state"].capitalize(), ending["message"], extra=self._fields())
            self._set_task_run(ending["state"], ending["message"])

    def _set_task_run(self, state: str, message: str | None = None) -> None:
        if self._task_run is not None:
            self._context.reporter.set_task_run(self.id, self._task_run.event(state, message))

    def _fields(self) -> Json:
        return {"fields": log_fields(self._run)}
