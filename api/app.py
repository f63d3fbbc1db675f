"""The FastAPI application of the facade."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from .. import __version__
from ..core.config import Settings
from ..service.roots import WorkspaceRoots
from ..service.tasks import TaskService
from . import errors
from .auth import Authenticator
from .limits import Limits
from .logging import Observer
from .metrics import Metrics
from .openapi import DESCRIPTION, TAGS, describe

__all__ = ["create_app"]

# In the order of the documentation; the busiest first, because addresses are compared one after the other.
_ROUTERS = ("tasks", "actions", "batch", "workspaces", "scorers", "health", "metrics")


def create_app(settings: Settings) -> FastAPI:
    """The application of one installation; its lifespan runs the task service.

    Args:
        settings: The configuration.

    Returns:
        The application, with ``state.settings``, ``state.roots``, ``state.scrub``, ``state.tasks`` (in its lifespan),
        ``state.metrics``, and ``state.stopping``: set it and answers that wait or stream come to their end.
    """
    roots = WorkspaceRoots(settings)
    metrics = Metrics(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.stopping = asyncio.Event()
        async with TaskService.running(settings, roots) as tasks:
            tasks.on_finished = metrics.finished
            app.state.tasks = tasks
            async with metrics.watching(tasks):
                yield

    app = FastAPI(
        title="AutoScorer",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        # Swagger's and ReDoc's pages load their scripts from a CDN: without a network they would be blank.
        docs_url=None,
        redoc_url=None,
        # A redirect would be an answer outside of the envelope, to an address that the Host header names.
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings, app.state.roots, app.state.metrics = settings, roots, metrics
    app.state.scrub = roots.scrub
    errors.register(app)
    for name in _ROUTERS:
        app.include_router(importlib.import_module(f".routes.{name}", __package__).router)
    describe(app, has_tokens=bool(settings.tokens))
    # The last is the outermost: what Limits refuses is observed like everything else.
    app.add_middleware(Limits, settings=settings, authenticator=Authenticator(settings), scrub=roots.scrub)
    app.add_middleware(Observer, metrics=metrics)
    return app
