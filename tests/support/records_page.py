"""The records page over the real application and a real ledger, with Results that were really scored."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import TaskEnd
from autoscorer.service.sync.members import members_of
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.tasks.score import score_workspace

from .browser import Browser
from .facade import facade, facade_settings
from .ledger import new
from .workspaces import write_workspace

__all__ = ["Done", "click", "put", "scored", "served", "sign_in", "text", "visit"]


@dataclass
class Done:
    """A task that has ended, or one that has not (without a state); of a batch also its members."""

    workspace: str
    state: TaskState | None = TaskState.COMPLETED
    action: str = "score"
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    # Not of a batch from before members had records.
    has_members: bool = True


def scored(
    root: Path, name: str, *, classes: int = 3, rows: int = 200, right: float = 0.9, **params: Any
) -> dict[str, Any]:
    """Make a workspace of a classification, score it, and return its Result."""
    chance = random.Random(1)
    labels = [f"k{number:04}" for number in range(classes)]
    truth = [labels[number % classes] for number in range(rows)]
    guesses = [each if chance.random() < right else chance.choice(labels) for each in truth]
    tables = {
        key: "id,label\n" + "".join(f"{number},{each}\n" for number, each in enumerate(values))
        for key, values in (("truth", truth), ("pred", guesses))
    }
    folder = write_workspace(root, name, **tables, params=params)
    result = score_workspace(folder).to_dict()
    assert result["error"] is None
    return result


def _fill(settings: Settings, root: Path, tasks: Sequence[Done]) -> dict[str, str]:
    async def work() -> dict[str, str]:
        ids = {}
        ledger = await Ledger.open(settings)
        try:
            endings = []
            for task in tasks:
                place = str(root / task.workspace)
                if task.workspace in ids:
                    # A workspace has one task at a time.
                    await ledger.finish(endings)
                    endings = []
                whole = task.action == "batch"
                asked = {
                    "action": task.action,
                    "workspaces" if whole else "workspace": [task.workspace] if whole else task.workspace,
                }
                made = new(place, task.action, **{"request": asked, "scorer": "classification_f1", **task.more})
                row, _ = await ledger.add(
                    made if task.action not in ("batch", "rag-score") else replace(made, workspace=None, scorer=None)
                )
                ids[task.workspace] = row.id
                if task.state is not None:
                    began = row.created_at
                    ended = began + task.seconds
                    end = TaskEnd(
                        row.id, task.state, task.result, task.error, attempts=1, started_at=began, ended_at=ended
                    )
                    outcomes = (task.result or {}).get("outcomes") if whole and task.has_members else None
                    members = None if outcomes is None else members_of(row, outcomes, WorkspaceRoots(settings))
                    endings.append(replace(end, members=members))
            if endings:
                await ledger.finish(endings)
        finally:
            await ledger.close()
        return ids

    return asyncio.run(work())


@contextmanager
def served(
    root: Path, tasks: Sequence[Done], *, tokens: bool = False, home: Path | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve the API with a ledger of these tasks, the last one the newest; its address, and each task's id.

    Args:
        root: Where workspaces lie.
        tasks: What the ledger holds.
        tokens: Whether it asks for tokens.
        home: Of a service that many tests share; the test's own when None.
    """
    settings = facade_settings(root, tokens=tokens, home=home)
    ids = _fill(settings, root, tasks)
    with facade(settings) as api:
        yield f"http://{api.host}:{api.port}", ids


def text(page: Browser, selector: str) -> str:
    """What an element says."""
    return str(page.value(f"document.querySelector({json.dumps(selector)}).innerText"))


def click(page: Browser, selector: str) -> None:
    page.value(f"document.querySelector({json.dumps(selector)}).click()")


def put(page: Browser, selector: str, value: str) -> None:
    """Write into a field, and leave it."""
    page.value(
        f"(() => {{ const f = document.querySelector({json.dumps(selector)}); f.value = {json.dumps(value)};"
        " f.dispatchEvent(new Event('input', {bubbles: true})); f.dispatchEvent(new Event('change')); })()"
    )


def visit(page: Browser, address: str) -> str:
    """Follow a link to a file, which may run nothing: not even the timer that ``open`` waits for. What it shows."""
    page.go(address)
    return str(page.value("document.documentElement.textContent"))


def sign_in(page: Browser, token: str) -> None:
    page.wait_for("document.activeElement.id === 'token'")
    page.value(f"document.querySelector('#token').value = {json.dumps(token)}")
    page.press("Enter")
