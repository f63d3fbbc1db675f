"""Tasks as the facade knows them: accepted, followed, cancelled, repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from ..core.config import Settings
from ..schemas.task import Action, BatchRequest, SubmitRequest, TaskState, TaskView
from .prefect_api import PrefectApi
from .roots import WorkspaceRoots

__all__ = ["Submitted", "TaskPage", "TaskQuery", "TaskService"]


@dataclass(frozen=True)
class Submitted:
    """A task, and whether this request made it or found it."""

    task: TaskView
    created: bool


@dataclass(frozen=True)
class TaskQuery:
    """Which tasks to list; None and the empty tuple ask for all. Times are aware; ``since`` is included."""

    states: tuple[TaskState, ...] = ()
    workspace: str | None = None
    scorer: str | None = None
    action: Action | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True)
class TaskPage:
    """Some tasks, newest first, without their ``result`` (``get`` has it); ``next_cursor`` is None on the last page."""

    tasks: list[TaskView]
    next_cursor: str | None
    total: int


class TaskService:
    """Accepts tasks, hands them to Prefect, follows them to their end. Made by ``running``."""

    settings: Settings
    prefect: PrefectApi
    roots: WorkspaceRoots
    on_finished: Callable[[TaskView], None] | None

    @classmethod
    @asynccontextmanager
    async def running(cls, settings: Settings, roots: WorkspaceRoots) -> AsyncIterator[TaskService]:
        """Open the ledger and work on its tasks until the end of the block."""
        raise NotImplementedError
        yield

    async def submit(
        self, request: SubmitRequest | BatchRequest, *, caller: str, idempotency_key: str | None = None
    ) -> Submitted:
        """Accept a task: it is on disk when this returns."""
        raise NotImplementedError

    async def get(self, task_id: str) -> TaskView:
        """One task, asked of Prefect afresh while it is active. Raises ``NOT_FOUND``."""
        raise NotImplementedError

    async def wait(self, task_id: str, seconds: float) -> TaskView:
        """The task once it has ended, or as it is after ``seconds``. Raises ``NOT_FOUND``."""
        raise NotImplementedError

    async def list(self, query: TaskQuery) -> TaskPage:
        """Some tasks, newest first. Raises ``INVALID_REQUEST`` for a cursor that is none."""
        raise NotImplementedError

    async def cancel(self, task_id: str) -> TaskView:
        """End a task. Raises ``NOT_FOUND``, and ``CONFLICT`` when it has ended otherwise."""
        raise NotImplementedError

    async def retry(self, task_id: str, *, caller: str) -> Submitted:
        """A new task that repeats one that ended. Raises ``NOT_FOUND``, and ``CONFLICT`` while it is active."""
        raise NotImplementedError

    async def flow_run_id(self, task_id: str) -> str | None:
        """The Prefect flow run that works on a task; None while Prefect does not know of it. Raises ``NOT_FOUND``."""
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """How many tasks the ledger has, by state."""
        raise NotImplementedError
