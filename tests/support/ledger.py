"""A ledger without a service around it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from autoscorer.core.config import Settings
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask
from autoscorer.service.ledger.task_ids import new_task_id

__all__ = ["new", "opened"]


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
