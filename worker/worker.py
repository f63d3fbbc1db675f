"""The worker: a warm runtime that claims due flow runs from its work pools and runs each in a forked process.

It needs nothing but Prefect's REST API, the installation's home, and the ledger where hosts share one. Several of them
share the load: setting a run to PENDING is the claim, and Prefect accepts only one. A server that is away is waited
for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import FlowRunFiles, wake_file
from ..core.prefect_address import prefect_url
from ..core.processes import ProcessIdentity
from ..core.provenance import hostname
from ..core.worker_names import held_name
from ..service.flow_runs import FlowRuns, LedgerAway
from ..service.prefect.client import PrefectApi, PrefectAway, PrefectRefused
from ..service.prefect.model import DIRECT_FLOWS, ENGINE_FLOWS, FINAL_TYPES, JUDGED_FLOWS, FlowRun
from ..service.recovery.claims import WorkerIdentity, claim_flow_run, claim_message
from ..service.recovery.dead_workers import recover
from ..service.recovery.transitions import report_saved_outcome
from ..tasks.prefect_version import require_patched_version
from .claims import Claims
from .judges import Judges
from .processes import ForkFailed, ForkPool
from .reporter import Reporter
from .run import WorkerRun
from .settlement import WorkerContext, log_fields
from .shared_scorers import SharedScorers

__all__ = ["Worker", "run_worker"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]

# Seconds between two looks at the wake file, polls of a pool that has work, looks at the states of our runs, looks for
# requests to cancel in the home, reports, looks for scorers of other hosts (a model may run for hours before it is
# scored), heartbeats, and searches for what dead workers left.
_WAKE = 0.05
_COALESCE = 0.02
_MONITOR = 1.0
_CANCEL_REQUESTS = 1.0
_REPORT = 1.0
_SCORERS = 1.0
_HEARTBEAT = 10.0
_RECOVER = 5.0
# Seconds for which a deployment's entrypoint is remembered.
_DEPLOYMENT = 60.0
# Seconds to put the runs back when the worker is told to stop; what is not done then, the next one does.
_SHUTDOWN_TIMEOUT = 12.0
# Seconds between two clearings of old files, and the age of what goes.
_PRUNE, _OLD = 3600.0, 7 * 24 * 3600.0


def run_worker(
    settings: Settings, *, pools: Sequence[str] = (), name: str | None = None, limit: int | None = None
) -> Json:
    """Work until SIGTERM, SIGINT or SIGHUP.

    Args:
        pools: Work pools to look at; those of the configuration when empty.
        name: Shown in Prefect; host and process number when None.
        limit: Flow runs at a time; as many as the pools may have together when None.

    Returns:
        ``{worker, pools, runs}``, the last the number of runs it took.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the installed Prefect is not one that we know from the inside.
    """
    require_patched_version()

    async def work(name: str) -> Json:
        async with PrefectApi(settings) as prefect, FlowRuns.opened(settings) as runs:
            worker = Worker(prefect, runs, pools=pools, name=name, limit=limit)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, worker.stop)
            await worker.run()
            return {"worker": worker.name, "pools": list(worker.pools), "runs": worker.taken}

    wanted = name or f"autoscorer {hostname()} {os.getpid()}"
    # Before anything is taken: by this a later one under the same name knows that this one is dead.
    with held_name(settings.home, wanted, ProcessIdentity.current()) as held:
        if held != wanted:
            logger.warning("Another worker is called %r already; this one calls itself %r.", wanted, held)
        return asyncio.run(work(held))


class Worker:
    """Takes flow runs until it is told to stop.

    Args:
        name: Shown in Prefect, and no other worker's.
        pools: Work pools to look at; those of the configuration when empty.
        limit: Flow runs at a time; as many as the pools may have together when None.
    """

    def __init__(
        self,
        prefect: PrefectApi,
        runs: FlowRuns,
        *,
        name: str,
        pools: Sequence[str] = (),
        limit: int | None = None,
    ) -> None:
        settings = runs.settings
        service = settings.service
        # One after the other, each once: the score pool first, because nobody waits long behind a score.
        self.pools = tuple(dict.fromkeys(pools or (service.score_pool, service.rag_pool, service.pool)))
        self.name = name
        # How many runs it took.
        self.taken = 0
        self._settings = settings
        self._prefect = prefect
        self._limit = limit or service.score_concurrency + service.pool_concurrency
        fork_pool = ForkPool(_environment(settings))
        self._context = WorkerContext(
            name=self.name,
            owner=ProcessIdentity.current(),
            settings=settings,
            prefect=prefect,
            fork_pool=fork_pool,
            judges=Judges(fork_pool),
            reporter=Reporter(prefect),
            runs=runs,
            scorers=SharedScorers(runs),
        )
        self._context.reporter.is_busy = lambda: any(not run.is_free for run in self._runs.values())
        # What PENDING is proposed with: by this we know a run of ours whose answer was lost.
        self._claim_message = claim_message(WorkerIdentity(self.name, self._context.owner))
        self._runs: dict[asyncio.Task[None], WorkerRun] = {}
        self._claims = Claims(runs, self._context.owner, self._runs.values) if runs.is_shared else None
        self._unconfirmed: dict[str, tuple[FlowRun, str]] = {}
        self._deployments: dict[str, tuple[float, str | None]] = {}
        # Pools to look at now; and what wakes the looking.
        self._due = set(self.pools)
        self._awake = asyncio.Event()
        self._woken_at = 0
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._away_since: float | None = None
        self._warned: set[str] = set()

    def stop(self) -> None:
        """End: running models are ended, their runs put back."""
        if not self._stopping.is_set():
            logger.info("Stopping; runs under way are put back.")
        self._stopping.set()

    async def run(self) -> None:
        """Work until ``stop``."""
        logger.info(
            "Worker %s for the pools %s at %s, %d runs at a time.",
            self.name,
            ", ".join(self.pools),
            prefect_url(self._settings),
            self._limit,
        )
        loops = [
            asyncio.create_task(loop, name=name)
            for name, loop in {
                "poll": self._periodic(self._poll, 0),
                "wake file": self._periodic(self._look_at_wake_file, _WAKE),
                "monitor": self._periodic(self._monitor, 0),
                "cancel requests": self._periodic(self._check_cancel_requests, _CANCEL_REQUESTS),
                "heartbeat": self._periodic(self._send_heartbeat, _HEARTBEAT),
                "recovery": self._periodic(self._recover, _RECOVER),
                "scorers": self._periodic(self._context.scorers.up_to_date, _SCORERS),
                "prune": self._periodic(self._prune, _PRUNE),
                "report": self._periodic(self._context.reporter.send, _REPORT),
                **self._claiming(),
            }.items()
        ]
        try:
            await self._stopping.wait()
        finally:
            # Again where need be: wait_for() loses a cancellation that comes together with what it waits for.
            while pending := [task for task in loops if not task.done()]:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending, timeout=1)
            await asyncio.gather(*loops, return_exceptions=True)
            await self._put_back()
            await self._context.fork_pool.close()

    def _claiming(self) -> dict[str, Coroutine[Any, Any, None]]:
        if self._claims is None:
            return {}
        return {"claims": self._periodic(self._claims.look, 0), "silence": self._claims.watch()}

    async def _periodic(self, look: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        while True:
            try:
                await look()
            except PrefectAway as error:
                self._on_away(error)
            except (PrefectRefused, LedgerAway) as error:
                self._warn_once(error.message)
            except Exception:
                logger.exception("A fault of the worker; it goes on.")
            else:
                await asyncio.sleep(pause)
                continue
            await asyncio.sleep(self._settings.service.poll_interval + pause)

    # --- finding runs ---------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        # Nothing is taken before it can be worked on.
        try:
            await self._context.fork_pool.start()
        except ForkFailed as error:
            self._warn_once(f"Nothing can be worked on: {error}.")
            await asyncio.sleep(self._settings.service.poll_interval)
            return
        if self._claims is not None and not self._claims.are_reachable:
            await asyncio.sleep(self._settings.service.poll_interval)
            return
        self._awake.clear()
        due, self._due = self._due, set()
        try:
            await self._confirm_claims()
            for pool in self.pools:
                if pool in due and (free := self._free(pool)) > 0:
                    found = await self._prefect.scheduled(pool, free)
                    self._on_answer()
                    took = await asyncio.gather(*[self._claim(run, pool) for run in found])
                    if any(took) and len(found) == free:
                        self._due.add(pool)  # there may be more, once a place is free
        except BaseException:
            self._due |= due
            raise
        full = {pool for pool in self.pools if self._free(pool) <= 0}
        if self._due - full:
            self._awake.set()
        self._due |= due & full
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._awake.wait(), self._settings.service.poll_interval)
            await asyncio.sleep(_COALESCE)  # what else ends or comes now is looked for in the same go
            return
        self._due |= set(self.pools)

    def _free(self, pool: str) -> int:
        """How many runs of a pool may be taken: those that wait for judges take no place of the others."""
        is_judged = pool == self._settings.service.rag_pool
        busy = sum(not run.is_free for run in self._runs.values() if run.is_judged == is_judged)
        return (self._settings.service.rag_concurrency if is_judged else self._limit) - busy

    async def _claim(self, run: FlowRun, pool: str) -> bool:
        """Claim a run and begin with it; whether it could be claimed."""
        try:
            accepted = await claim_flow_run(self._prefect, run["id"], self._claim_message)
        except PrefectAway:
            # It may have been accepted all the same. Another worker would not touch it then.
            self._unconfirmed[run["id"]] = run, pool
            raise
        if accepted:
            await self._start(run, pool)
        return accepted

    async def _confirm_claims(self) -> None:
        for run_id, (_, pool) in list(self._unconfirmed.items()):
            now = await self._prefect.flow_run(run_id)
            del self._unconfirmed[run_id]
            if now is not None and now["state"]["type"] == "PENDING" and now["state"]["message"] == self._claim_message:
                await self._start(now, pool)

    async def _start(self, run: FlowRun, pool: str) -> None:
        fields = log_fields(run)
        try:
            entrypoint = await self._entrypoint(run)
        except (PrefectAway, PrefectRefused):
            self._unconfirmed[run["id"]] = run, pool  # it is ours, and what it is we learn later
            raise
        if entrypoint is None or entrypoint not in ENGINE_FLOWS | JUDGED_FLOWS | DIRECT_FLOWS.keys():
            await self._refuse(run, entrypoint)
            return
        self.taken += 1
        logger.info("Taken from %s, attempt %d.", pool, run["run_count"] + 1, extra={"fields": fields})

        def on_free() -> None:
            self._due.add(pool)
            self._awake.set()

        work = WorkerRun(run, entrypoint, self._context, on_free)
        task = asyncio.create_task(work.work(), name=run["id"])
        self._runs[task] = work
        task.add_done_callback(self._runs.pop)
        self._changed.set()

    async def _entrypoint(self, run: FlowRun) -> str | None:
        """Which flow a run is of; None where that is not to be known, or is none of ours."""
        deployment = run["deployment_id"]
        if deployment is None:
            return None
        known = self._deployments.get(deployment)
        if known is None or time.monotonic() - known[0] > _DEPLOYMENT:
            found = await self._prefect.call("GET", f"/deployments/{deployment}", missing_ok=True)
            known = (time.monotonic(), (found or {}).get("entrypoint"))
            self._deployments[deployment] = known
        return known[1]

    async def _refuse(self, run: FlowRun, entrypoint: str | None) -> None:
        error = AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"AutoScorer's worker runs AutoScorer's own flows, and the entrypoint {entrypoint!r} is not one of them. "
            "Give the deployment another work pool, with a worker of Prefect's: prefect worker start --pool NAME.",
        )
        logger.warning("Refused: %s", error.message, extra={"fields": log_fields(run)})
        ending = {"state": "FAILED", "message": str(error), "data": None, "error": error.to_dict()}
        await asyncio.to_thread(self._context.runs.files(run["id"]).save_outcome, ending)
        await report_saved_outcome(self._prefect, self._context.runs, run, None)

    # --- keeping an eye on them -----------------------------------------------------------------------------

    async def _monitor(self) -> None:
        """Learn what others do to our runs: above all, that one is to be cancelled."""
        if not self._runs:
            self._changed.clear()
            await self._changed.wait()
        await asyncio.sleep(_MONITOR)
        # Those that we look for: meanwhile one may end, be put back, and be ours again.
        ours = [run for run in self._runs.values() if not run.is_free]
        if ours:
            states = await self._prefect.flow_runs([run.id for run in ours])
            for run in ours:
                run.on_observed_state(states.get(run.id))

    async def _check_cancel_requests(self) -> None:
        """Cancel those of our runs of which the home says so: Prefect, which would tell us too, may be away."""
        for run in self._runs.values():
            run.check_cancel_request()

    async def _look_at_wake_file(self) -> None:
        with contextlib.suppress(OSError):
            now = wake_file(self._settings.home).stat().st_mtime_ns
            if now != self._woken_at:
                self._woken_at = now
                await self._check_cancel_requests()
                self._due |= set(self.pools)
                self._awake.set()

    async def _send_heartbeat(self) -> None:
        for pool in self.pools:
            try:
                await self._prefect.heartbeat(pool, self.name, _HEARTBEAT)
                self._on_answer()
            except PrefectRefused as error:
                if error.status != 404:
                    raise
                self._warn_once(f"The work pool {pool!r} does not exist; `autoscorer deploy` makes it.")

    async def _recover(self) -> None:
        for line in await recover(self._prefect, self._context.runs):
            logger.info("Settled what a dead worker left: %s", line)

    async def _prune(self) -> None:
        """Remove the files of flow runs that ended long ago and that nobody asked for."""
        folders = await asyncio.to_thread(_old, self._settings.home)
        states = await self._prefect.flow_runs(files.flow_run_id for files in folders)
        for files in folders:
            run = states.get(files.flow_run_id)
            if (run is None or run["state"]["type"] in FINAL_TYPES) and files.read_claim() is None:
                await asyncio.to_thread(files.remove)

    def _on_away(self, error: PrefectAway) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning("%s Waiting for it.", error.message)

    def _on_answer(self) -> None:
        if self._away_since is not None:
            logger.info("The Prefect server answers again, after %.0f s.", time.monotonic() - self._away_since)
            self._away_since = None
            self._warned.clear()

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s", message)

    # --- the end --------------------------------------------------------------------------------------------

    async def _put_back(self) -> None:
        for run in self._runs.values():
            run.stop()
        if self._runs:
            await asyncio.wait(self._runs, timeout=_SHUTDOWN_TIMEOUT)
        left = list(self._runs)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            logger.warning("%d runs could not be put back; the next worker or the API does it.", len(left))
        await self._context.reporter.flush(2)
        # Gone from the pools' lists, which would fill with the names of those that were there once.
        with contextlib.suppress(PrefectAway, PrefectRefused, TimeoutError):
            async with asyncio.timeout(2):
                for pool in self.pools:
                    path = f"/work_pools/{quote(pool, safe='')}/workers/{quote(self.name, safe='')}"
                    await self._prefect.call("DELETE", path, missing_ok=True)


def _environment(settings: Settings) -> dict[str, str]:
    """What Prefect's engine in the children goes by."""
    environment = {
        "PREFECT_API_URL": prefect_url(settings),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Its records are at the server. What this process says is the worker's own log.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # Scoring has no use for the threads that OpenBLAS starts when numpy is imported, and a fork has none of them.
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
        "AUTOSCORER_HOME": str(settings.home),
    }
    if settings.prefect.api_key is not None:
        environment["PREFECT_API_KEY"] = settings.prefect.api_key.get_secret_value()
    return environment


def _old(home: Path) -> list[FlowRunFiles]:
    found = []
    for files in FlowRunFiles.all(home):
        with contextlib.suppress(OSError):
            if time.time() - files.folder.stat().st_mtime > _OLD:
                found.append(files)
    return found
