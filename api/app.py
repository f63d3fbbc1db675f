"""The FastAPI application of the facade."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.version import __version__
from ..schemas.task import TaskView
from ..service.benchmarks.public import PublicBoards
from ..service.links import SignedLinks
from ..service.readiness import Readiness
from ..service.score_jobs import ScoreJobs
from ..service.scorers.hot_reload import ScorerService
from ..service.task_events import TaskEvents
from ..service.tasks import TaskService
from ..service.workspaces.roots import WorkspaceRoots
from ..service.workspaces.uploads import Uploads
from . import errors
from .access import access_of
from .auth import Authenticator
from .limits import RequestLimits
from .logging import RequestObserver
from .metrics import Metrics
from .openapi import DESCRIPTION, TAGS, describe

__all__ = ["create_app"]

# The busiest first: addresses are compared one after the other.
_ROUTERS = (
    "tasks",
    "events",
    "score_jobs",
    "samples",
    "notes",
    "artifacts",
    "actions",
    "batch",
    "benchmarks",
    "workspaces",
    "scorers",
    "health",
    "metrics",
    "pages",
)


def create_app(settings: Settings) -> FastAPI:
    """The application of one installation; its lifespan runs the task service.

    Args:
        settings: The configuration.

    Returns:
        The application. Its ``state`` holds ``settings``, ``roots``, ``metrics``, ``access`` and ``links``,
        in its lifespan also ``tasks``, ``events``, ``scorers``, ``readiness``, and ``stopping``: set it and answers
        that wait or stream come to their end. ``failure`` is the error that kept it from starting, or None.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where the home's token is needed and can't be made.
    """
    access = access_of(settings)
    roots = WorkspaceRoots(settings)
    metrics = Metrics(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = app.state
        state.loop, state.stopping, state.streams = asyncio.get_running_loop(), asyncio.Event(), 0
        state.draining = False
        async with AsyncExitStack() as running:
            try:
                tasks = await running.enter_async_context(TaskService.running(settings, roots))
                state.score_jobs = jobs = ScoreJobs(tasks)
                tasks.on_finished = _all_of(metrics.finished, jobs.finished)
                await running.enter_async_context(jobs.pruning())
                scorers = ScorerService.running(settings, roots, tasks.ledger)
                state.scorers = await running.enter_async_context(scorers)
                state.uploads = await running.enter_async_context(Uploads.running(settings, roots))
                await running.enter_async_context(metrics.watching(tasks))
                state.events = await running.enter_async_context(TaskEvents.running(tasks, state.stopping))
                state.readiness, state.tasks = Readiness(settings, tasks.prefect, tasks.ledger), tasks
            except AutoScorerError as error:
                # Told by whoever serves: raised here, the web server would log it with a traceback.
                state.failure = error
            yield

    app = FastAPI(
        title="AutoScorer",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        # FastAPI's pages load their scripts from a CDN: without a network they would be blank. Ours is in routes/pages.
        docs_url=None,
        redoc_url=None,
        # A redirect would be an answer outside of the envelope, to an address that the Host header names.
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings, app.state.roots, app.state.metrics = settings, roots, metrics
    app.state.public_boards = PublicBoards(settings, roots)
    app.state.access, app.state.links = access, SignedLinks(settings.home)
    app.state.tasks, app.state.failure = None, None
    errors.register(app)
    for name in _ROUTERS:
        app.include_router(importlib.import_module(f".routes.{name}", __package__).router)
    describe(app)
    # The last is the outermost: what RequestLimits refuses is observed like everything else.
    app.add_middleware(RequestLimits, settings=settings, authenticator=Authenticator(settings, access))
    app.add_middleware(RequestObserver, metrics=metrics)
    return app


def _all_of(*told: Callable[[TaskView], None]) -> Callable[[TaskView], None]:
    def tell(task: TaskView) -> None:
        for each in told:
            each(task)

    return tell
