"""A ledger without a service around it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.records import NewTask
from autoscorer.service.ledger.task_ids import new_task_id

from .postgres import Postgres

__all__ = ["ledger_of", "new", "opened"]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger until the end of the block."""
    ledger = await Ledger.open(settings)
    try:
        yield ledger
    finally:
        await ledger.close()


def new(workspace: str = "/data/a", action: str = "score", **other: Any) -> NewTask:
    """A task that is to be accepted."""
    return NewTask(
        **{
            "id": new_task_id(),
            "caller": "someone",
            "action": action,
            "subject": workspace,
            "workspace": workspace,
            "scorer": None,
            "priority": "normal",
            "request": {"action": action, "workspace": os.path.basename(workspace)},
            "parameters": {"workspace": workspace},
            "created_at": time.time(),
            **other,
        }
    )


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.postgres])])
def ledger_of(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Settings]:
    """The configuration of an empty ledger of each kind."""

    def made() -> Settings:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            monkeypatch.setenv("AUTOSCORER_LEDGER_URL", server.ledger_url())
        settings = load_settings()
        asyncio.run(upgrade_ledger(settings))
        return settings

    return made
