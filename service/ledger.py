"""The ledger: every task that was accepted, on disk before anybody is told so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..schemas.task import TaskView

__all__ = ["CallbackDue", "Ledger"]

Json = dict[str, Any]


@dataclass(frozen=True)
class CallbackDue:
    """A callback that is to be delivered now; ``attempts`` were made before."""

    task_id: str
    url: str
    attempts: int


class Ledger:
    """The tasks of one installation, in ``<home>/ledger.sqlite3``. All methods are coroutines unless said otherwise."""

    async def view(self, task_id: str) -> TaskView:
        """The task as the ledger has it; ``NOT_FOUND``."""
        raise NotImplementedError

    async def due_callbacks(self, now: float) -> list[CallbackDue]:
        """Callbacks of tasks that ended, due at ``now`` (seconds since the epoch), the longest due first."""
        raise NotImplementedError

    async def next_callback_at(self) -> float | None:
        """When the next callback is due; None when none is pending."""
        raise NotImplementedError

    async def callback_done(self, task_id: str, delivered: bool, error: str | None, next_at: float | None) -> None:
        """Note an attempt at delivery. Not delivered and no ``next_at``: given up."""
        raise NotImplementedError
