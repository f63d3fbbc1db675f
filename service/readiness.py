"""Whether the installation can work: the Prefect server, its pools, their workers, and what runs models here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..core.config import Settings
from ..core.errors import AutoScorerError
from .ledger.ledger import Ledger
from .prefect.client import PrefectApi
from .prefect.schedules import SchedulerWatch

__all__ = ["AcceptView", "Check", "Readiness", "ReadyView"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

State = Literal["ok", "degraded", "unavailable"]

# Seconds for one look at the server; a probe must not wait for one that hangs.
_PATIENCE = 5.0
# Seconds for which an answer stands.
_FRESH = 1.0
# The same for executors, which are asked in a thread and take longer.
_EXECUTORS_FRESH = 15.0
_NO_ENGINE = "the Docker Engine does not answer, or can't seal a run; the API's log says why"
_NO_CLUSTER = "the Kubernetes cluster does not answer, or is not set up; the API's log says why"
_NO_BUBBLEWRAP = "bubblewrap is not there, or the kernel does not let it seal; the API's log says why"
_UNWATCHED = "not every limit of a model can be watched from here; `autoscorer doctor` says which, and what to do"


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(extra="forbid")

    state: State
    detail: str


class AcceptView(BaseModel):
    """Whether tasks are accepted, and why not."""

    model_config = ConfigDict(extra="forbid")

    ready: bool
    ledger: Check = Field(description="The database of accepted tasks.")


class ReadyView(BaseModel):
    """Whether tasks can be worked on, and why not."""

    model_config = ConfigDict(extra="forbid")

    ready: bool
    ledger: Check = Field(description="The database of accepted tasks.")
    server: Check = Field(description="The Prefect server.")
    scheduler: Check = Field(
        description="The server's scheduler, which makes the runs of schedules. Tasks of the API do not need it, so it "
        "does not decide."
    )
    pools: dict[str, Check] = Field(description="Work pools, by name.")
    workers: dict[str, Check] = Field(description="Workers that are online, by pool.")
    executors: dict[str, Check] = Field(
        description="Backends on this host. A worker may run elsewhere, so these do not decide."
    )


class _Look(Generic[T]):
    """What was found at the last look, for as long as that stands: many who ask, or a flood of them, cost one look."""

    def __init__(self, look: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> None:
        self._look, self._seconds = look, seconds
        self._looking: asyncio.Task[T] | None = None
        self._looked = 0.0

    async def found(self) -> T:
        """What a look finds, or has found a moment ago."""
        if self._looking is None or (self._looking.done() and time.monotonic() - self._looked > self._seconds):
            self._looking = asyncio.create_task(self._run())
        # Whoever asks meanwhile gets the same answer; one who leaves does not end it for the others.
        return await asyncio.shield(self._looking)

    async def _run(self) -> T:
        try:
            return await self._look()
        finally:
            self._looked = time.monotonic()


class Readiness:
    """Looks at most once a second, however often it is asked.

    Args:
        settings: The configuration.
        prefect: The connection to the server.
        ledger: Where tasks are accepted.
    """

    def __init__(self, settings: Settings, prefect: PrefectApi, ledger: Ledger) -> None:
        self._settings, self._prefect, self._ledger = settings, prefect, ledger
        self._scheduler_watch = SchedulerWatch()
        self._everything = _Look(self._look, _FRESH)
        self._database = _Look(self._ask_ledger, _FRESH)
        # Never two threads at an engine that hangs.
        self._engines = _Look(lambda: asyncio.to_thread(_executors, settings), _EXECUTORS_FRESH)

    async def look(self) -> ReadyView:
        """How things are, at most a second old."""
        return await self._everything.found()

    async def accepts(self) -> AcceptView:
        """Whether the ledger takes tasks, at most a second old; what works on them is not waited for."""
        ledger = await self._database.found()
        return AcceptView(ready=ledger.state == "ok", ledger=ledger)

    async def _look(self) -> ReadyView:
        service = self._settings.service
        names = list(dict.fromkeys((service.pool, service.score_pool, service.rag_pool)))
        (ledger, server, scheduler, executors), found = await asyncio.gather(
            asyncio.gather(self._database.found(), self._server(), self._scheduler(names), self._all_executors()),
            asyncio.gather(*(self._pool(name) for name in names)),
        )
        pools = {name: pool for name, (pool, _) in zip(names, found, strict=True)}
        workers = {name: worker for name, (_, worker) in zip(names, found, strict=True)}
        ready = all(check.state != "unavailable" for check in (ledger, server, *pools.values(), *workers.values()))
        return ReadyView(
            ready=ready,
            ledger=ledger,
            server=server,
            scheduler=scheduler,
            pools=pools,
            workers=workers,
            executors=executors,
        )

    async def _ask_ledger(self) -> Check:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ledger.known_flow_run("")
        except (AutoScorerError, TimeoutError):
            return Check(state="unavailable", detail="does not answer; the API's log says why")
        return Check(state="ok", detail="answers")

    async def _server(self) -> Check:
        try:
            async with asyncio.timeout(_PATIENCE):
                healthy = await self._prefect.is_healthy()
        except TimeoutError:
            healthy = False
        if healthy:
            return Check(state="ok", detail="answers")
        return Check(state="unavailable", detail="does not answer, or can't use its database")

    async def _scheduler(self, pools: list[str]) -> Check:
        try:
            async with asyncio.timeout(_PATIENCE):
                waiting = await self._scheduler_watch.unscheduled(self._prefect, pools)
        except (AutoScorerError, TimeoutError):
            return Check(state="unavailable", detail="unknown: the Prefect server does not answer")
        if not waiting:
            return Check(state="ok", detail="every active schedule has a run ahead")
        # Names of deployments are nobody's outside.
        logger.warning("Prefect's scheduler has made no run for the schedules of %s.", ", ".join(waiting))
        return Check(
            state="degraded",
            detail=f"stands still: {len(waiting)} deployments have an active schedule and no run ahead; no schedule "
            "fires. The Prefect server's log says why, the API's log names them",
        )

    async def _pool(self, name: str) -> tuple[Check, Check]:
        try:
            async with asyncio.timeout(_PATIENCE):
                pool = await self._prefect.work_pool(name)
                known = await self._prefect.workers(name) if pool is not None else []
        except (AutoScorerError, TimeoutError):
            unknown = Check(state="unavailable", detail="unknown: the Prefect server does not answer")
            return unknown, unknown
        if pool is None:
            missing = Check(state="unavailable", detail="there is no such work pool; run `autoscorer deploy`")
            return missing, Check(state="unavailable", detail="none: there is no such work pool")
        state: State = "degraded" if pool.get("is_paused") else "ok"
        detail = "paused: nothing of it is started" if pool.get("is_paused") else f"type {pool.get('type')}"
        online = sum(worker.get("status") == "ONLINE" for worker in known)
        workers = Check(state="ok", detail=f"{online} online")
        if not online:
            workers = Check(state="unavailable", detail="none is online; start one with `autoscorer worker`")
        return Check(state=state, detail=detail), workers

    async def _all_executors(self) -> dict[str, Check]:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._engines.found()
        except TimeoutError:
            return {"docker": Check(state="unavailable", detail="the Docker Engine does not answer in time")}


def _executors(settings: Settings) -> dict[str, Check]:
    from ..executors.docker.executor import DockerExecutor

    executor = DockerExecutor(settings)
    try:
        docker = Check(state="ok", detail=executor.check())
        if executor.unwatched_here():
            refused = settings.executors.docker.require_full_watch
            docker = Check(state="unavailable" if refused else "degraded", detail=_UNWATCHED)
    except AutoScorerError as error:
        # Where the engine's socket is, and what it says, is nobody's outside.
        logger.warning("The Docker Engine can't run models: %s", error.message)
        docker = Check(state="unavailable", detail=_NO_ENGINE)
    finally:
        executor.close()
    found = {"docker": docker}
    if settings.executors.default == "bubblewrap" or docker.state == "unavailable":
        found["bubblewrap"] = _bubblewrap(settings)
    if settings.executors.uses_kubernetes:
        found["kubernetes"] = _cluster(settings)
    return {**found, "process": Check(state="ok", detail="unsealed; only for code that is trusted")}


def _bubblewrap(settings: Settings) -> Check:
    from ..executors.bubblewrap.executor import BubblewrapExecutor

    executor = BubblewrapExecutor(settings)
    try:
        executor.check()
        return Check(state="ok", detail="models are sealed without an engine")
    except AutoScorerError as error:
        logger.warning("bubblewrap can't run models: %s", error.message)
        return Check(state="unavailable", detail=_NO_BUBBLEWRAP)
    finally:
        executor.close()


def _cluster(settings: Settings) -> Check:
    from ..executors.kubernetes.executor import KubernetesExecutor

    executor = KubernetesExecutor(settings)
    try:
        return Check(state="ok", detail=executor.ask())
    except AutoScorerError as error:
        logger.warning("The cluster can't run models: %s", error.message)
        return Check(state="unavailable", detail=_NO_CLUSTER)
    finally:
        executor.close()
