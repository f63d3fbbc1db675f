"""A facade with benchmarks, and tokens of teams, organisers, a submitter and an admin. Nobody works on its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscorer.core.config import Settings
from autoscorer.flows.batches.outcome import outcome_of, summarize
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import TaskEnd
from autoscorer.service.sync.outcomes import task_end_without_run
from autoscorer.tasks.score import score_workspace

from .calls import Answer, call
from .facade import ADMIN, SUBMIT, Facade, facade, facade_settings

__all__ = ["ADMIN", "SUBMIT", "TOKENS", "Benches", "form", "serving"]

TOKENS = {
    "team-a": "token-of-team-a",
    "team-b": "token-of-team-b",
    "flowers": "token-of-the-organiser-of-flowers",
    "dogs": "token-of-the-organiser-of-dogs",
    "submit": SUBMIT,
    "admin": ADMIN,
}


def form(file: bytes, filename: str, **fields: str) -> tuple[bytes, dict[str, str]]:
    """The body of a form with one file, and the headers that go with it."""
    parts = [
        *(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()),
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n',
    ]
    body = "".join(parts).encode() + file + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


@dataclass
class Benches:
    """The facade, and questions to it as somebody."""

    api: Facade
    root: Path

    def call(self, who: str | None, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request with somebody's token; with none for None."""
        shown = None if who is None else TOKENS.get(who, who)
        return call(self.api.url + path, method, body, token=shown, headers=headers)

    def hand_in(
        self,
        who: str,
        predictions: str,
        *,
        benchmark: str = "flowers",
        filename: str = "pred.csv",
        key: str | None = None,
        **fields: str,
    ) -> Answer:
        """A submission of predictions."""
        body, headers = form(predictions.encode(), filename, **fields)
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.call(who, "POST", f"/benchmarks/{benchmark}/submissions", body, **headers)

    def end(self, task_id: str, **end: Any) -> None:
        """How a task ended, as its worker would say it."""
        ledger = self.api.state.tasks.ledger
        asyncio.run_coroutine_threadsafe(_finish(ledger, TaskEnd(task_id, **end)), self.api.state.loop).result(60)

    def dispatched(self, task_id: str, flow_run_id: str) -> None:
        """Have a task be a flow run's, as if Prefect had been told of it."""
        work = _dispatch(self.api.state.tasks.ledger, task_id, flow_run_id)
        asyncio.run_coroutine_threadsafe(work, self.api.state.loop).result(60)

    def end_batch(self, task_id: str, *workspaces: str, **choice: Any) -> dict[str, str]:
        """Do what a worker would with a batch of scorings; the ids of its members, by workspace.

        Args:
            task_id: The batch.
            workspaces: Their names.
            choice: Of ``score_workspace``.
        """
        outcomes = [outcome_of(self.root / each, score_workspace(self.root / each, **choice)) for each in workspaces]
        return self.end_batch_with(task_id, outcomes)

    def end_batch_with(self, task_id: str, outcomes: list[dict[str, Any]]) -> dict[str, str]:
        """The same with what became of its workspaces."""
        tasks = self.api.state.tasks
        saved = {"state": "COMPLETED", "data": summarize("score", outcomes, seconds=1.0)}
        asyncio.run_coroutine_threadsafe(_finish_batch(tasks, task_id, saved), self.api.state.loop).result(60)
        members = self.call("admin", "GET", f"/tasks?parent={task_id}&limit=500").data["tasks"]
        return {member["workspace"]: member["id"] for member in members}

    def score(self, handed: dict[str, Any]) -> dict[str, Any]:
        """Do what a worker would with a submission's predictions; its Result."""
        result = score_workspace(self.root / handed["workspace"])
        whole: dict[str, Any] = result.to_dict()
        state = TaskState.FAILED if result.error else TaskState.COMPLETED
        error = result.error.model_dump() if result.error else None
        self.end(handed["task"]["id"], state=state, result=whole, error=error)
        return whole


async def _finish(ledger: Any, end: TaskEnd) -> None:
    await ledger.finish([end])


async def _dispatch(ledger: Any, task_id: str, flow_run_id: str) -> None:
    await ledger.dispatched([(await ledger.row(task_id), flow_run_id)])


async def _finish_batch(tasks: Any, task_id: str, saved: dict[str, Any]) -> None:
    end = task_end_without_run(saved, tasks.roots, await tasks.ledger.row(task_id))
    assert end is not None
    await tasks.ledger.finish([end])


@contextmanager
def serving(root: Path, **sections: Any) -> Iterator[Benches]:
    """Serve until the end of the block.

    Args:
        root: The workspace root.
        sections: Of the configuration.
    """
    roles = {"team-a": "submit:{}@team-a", "team-b": "submit:{}@team-b", "submit": "submit:{}", "admin": "admin:{}"}
    entries = (roles.get(who, f"organiser:{{}}@{who}").format(token) for who, token in TOKENS.items())
    settings: Settings = facade_settings(root, api_tokens=",".join(entries), **sections)
    with facade(settings) as api:
        yield Benches(api, root.resolve())
