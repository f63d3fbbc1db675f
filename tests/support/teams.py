"""A facade with benchmarks, and tokens of teams, organisers, a submitter and an admin. Nobody works on its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import TaskEnd
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
