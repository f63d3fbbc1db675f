"""The facade on a free port of this process, with tasks that are made up: for what is not about tasks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from autoscorer.api import app as app_module
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskList, TaskState, TaskView
from autoscorer.service.policy import Act, Caller, Scope, Subject
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.tasks import Submitted, TaskQuery
from autoscorer.service.workspaces.roots import WorkspaceRoots

from .facade import facade

__all__ = ["LocalApi", "MadeUpTasks", "serve_locally"]


class MadeUpLedger:
    """Stands where the ledger does, for what is read of it past the task service."""

    is_shared = False

    async def row(self, task_id: str) -> SimpleNamespace:
        return SimpleNamespace(flow_run_id=None)

    async def counts(self) -> dict[str, int]:
        return {}


class MadeUpTasks:
    """Stands where the task service does, and answers with what a test has put there."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskView] = {}
        self.ledger = MadeUpLedger()
        self.calls: list[tuple[str, str]] = []
        self.on_finished: Any = None
        self.prefect: Any = None
        self.settings: Any = None
        self.roots: Any = None

    async def list(self, query: TaskQuery, *, scope: Scope, digits: int | None) -> TaskList:
        found = [t for t in self.tasks.values() if not query.states or t.state in query.states]
        found = [t for t in found if query.workspace in (None, t.workspace)]
        found = [t for t in found if not query.actions or t.action in query.actions]
        if query.name is not None:
            names = {t.id: " ".join([t.workspace or "", *(t.workspaces or [])]).lower() for t in found}
            found = [t for t in found if query.name.lower() in names[t.id]]
        start = int(query.cursor or 0)
        page = found[start : start + query.limit]
        end = start + len(page)
        bare = [task.model_copy(update={"result": None}) for task in page]
        cursor = str(end) if end < len(found) else None
        return TaskList(tasks=bare, next_cursor=cursor, total=len(found), before=start)

    async def get(self, task_id: str) -> TaskView:
        if task_id not in self.tasks:
            raise AutoScorerError(ErrorCode.NOT_FOUND, "There is no such task.")
        return self.tasks[task_id]

    async def check(self, task_id: str, caller: Caller, act: Act) -> SimpleNamespace:
        await self.get(task_id)
        return SimpleNamespace(subject_of=Subject())

    async def cancel(self, task_id: str) -> TaskView:
        self.calls.append(("cancel", task_id))
        self.tasks[task_id] = self.tasks[task_id].model_copy(update={"state": TaskState.CANCELLED})
        return self.tasks[task_id]

    async def retry(self, task_id: str, *, caller: Caller, idempotency_key: str | None = None) -> Submitted:
        self.calls.append(("retry", task_id))
        again = self.tasks[task_id].model_copy(
            update={"id": task_id + "-2", "retry_of": task_id, "state": TaskState.QUEUED, "error": None}
        )
        self.tasks = {again.id: again, **self.tasks}
        return Submitted(again, True)


class LocalApi:
    """Where it is, and questions to it."""

    def __init__(self, url: str, tasks: MadeUpTasks, settings: Settings) -> None:
        self.url, self.tasks, self.settings = url, tasks, settings
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def call(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Status and envelope."""
        answer = self.client.request(method, path, **options)
        return answer.status_code, answer.json()

    def data(self, method: str, path: str, **options: Any) -> Any:
        """What a request that must succeed answers."""
        status, body = self.call(method, path, **options)
        assert body["ok"], body
        assert status < 300
        return body["data"]

    def error(self, method: str, path: str, **options: Any) -> tuple[int, str, str]:
        """Status, code and message of a request that must fail."""
        status, body = self.call(method, path, **options)
        assert not body["ok"], body
        return status, body["error"]["code"], body["error"]["message"]


@contextlib.contextmanager
def serve_locally(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalApi]:
    """Serve until the end of the block."""
    tasks = MadeUpTasks()
    tasks.settings, tasks.roots = settings, WorkspaceRoots(settings)

    class Service:
        @classmethod
        @contextlib.asynccontextmanager
        async def running(cls, *_: Any) -> AsyncIterator[MadeUpTasks]:
            # Nothing listens there: a Prefect server that is away.
            section = settings.prefect.model_copy(update={"api_url": "http://127.0.0.1:9/api"})
            async with PrefectApi(settings.model_copy(update={"prefect": section})) as tasks.prefect:
                yield tasks

    monkeypatch.setattr(app_module, "TaskService", Service)
    with facade(settings) as served:
        api = LocalApi(served.url, tasks, settings)
        try:
            yield api
        finally:
            api.client.close()
