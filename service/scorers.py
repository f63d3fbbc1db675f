"""The scorers of an installation as the facade shows and changes them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ..core.config import Settings
from .roots import WorkspaceRoots

__all__ = ["ScorerService"]


class ScorerService:
    """List, load, reload, watch and try scorers. Loads are tried in a process of their own first."""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: Settings, roots: WorkspaceRoots) -> AsyncIterator[ScorerService]:
        """Follow the configured and recorded files from here on, in a thread; ends with the block."""
        raise NotImplementedError
        yield

    async def list(self) -> dict[str, Any]:
        """``scorers`` and ``errors``."""
        raise NotImplementedError
