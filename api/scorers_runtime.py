"""Scorers in the API's own process: what app.py's lifespan opens and closes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from ..core.config import Settings
from ..service.scorers.hot_reload import ScorerService
from ..service.workspaces.roots import WorkspaceRoots

__all__ = ["scorer_watch"]


@contextlib.asynccontextmanager
async def scorer_watch(settings: Settings, roots: WorkspaceRoots) -> AsyncIterator[ScorerService]:
    """Reload the API's scorers while it serves; app.py puts what this yields into ``app.state.scorers``.

    Example:
        >>> async with scorer_watch(settings, roots) as app.state.scorers:
        ...     yield
    """
    async with ScorerService.running(settings, roots) as service:
        yield service
