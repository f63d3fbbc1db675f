"""Waiting for a task of the API: shown as it goes, and through an API that is started anew."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator
from typing import Any, Protocol

from ..client import Client
from ..client.client import error_of
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.task import TaskState, TaskView
from .api_client import as_json
from .output import say
from .progress import progress
from .terminal import is_watched

__all__ = ["Lines", "add_wait", "concluded", "ended", "exit_code", "showing", "stops_watching", "wait"]

Json = dict[str, Any]

# The task has not ended when the command does: neither success nor the submission's failure.
PENDING = 3


class Shown(Protocol):
    """Shows a task on its way."""

    def update(self, task: Json) -> None:
        """The task as it is now."""


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Whether to wait for the end."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=math.inf,
        help="wait until the task has ended, or for so many seconds",
    )


def wait(client: Client, task: Json, shown: Shown, *, seconds: float = math.inf) -> Json:
    """Ask for a task until it has ended.

    Args:
        client: The API.
        task: The task, as the API gave it.
        shown: Who shows it.
        seconds: How long at most.

    Returns:
        The task as it was last seen.

    Raises:
        AutoScorerError: As ``Client.wait``; ``CANCELLED`` when a signal ended the waiting, not the task.
    """
    with stops_watching(task["id"]):
        shown.update(task)
        # The answer to a submit may be of a task that has long ended, and is without its result.
        return as_json(client.wait(task["id"], timeout=seconds, on_update=lambda now: shown.update(as_json(now))))


@contextlib.contextmanager
def stops_watching(task_id: str) -> Iterator[None]:
    """Say of a signal that it ended the command and not the task, and how to go on."""
    try:
        yield
    except AutoScorerError as error:
        if error.code is not ErrorCode.CANCELLED:
            raise
        raise AutoScorerError(
            ErrorCode.CANCELLED,
            f"No longer waiting; the task {task_id} goes on. `autoscorer status {task_id} --watch` waits again, "
            f"`autoscorer cancel {task_id}` ends it.",
            stage="api",
            details={"task_id": task_id},
        ) from None


class Unended(dict[str, Any]):
    """A task that has not ended in the time that there was for it."""


def concluded(task: Json) -> Json:
    """What a command that waited for a task answers with.

    Returns:
        The task; an ``Unended`` where it has not ended.

    Raises:
        AutoScorerError: The task's own error when it failed or was cancelled, with its id in the details.
    """
    if not ended(task):
        say(f"task {task['id']} goes on; `autoscorer status {task['id']} --watch` waits for it")
        return Unended(task)
    if task["state"] == TaskState.COMPLETED:
        return task
    error = error_of(TaskView.model_validate(task, extra="ignore"))
    assert error is not None
    raise error


def exit_code(data: Json) -> int:
    """3 for a task that was waited for and has not ended."""
    return PENDING if isinstance(data, Unended) else 0


def ended(task: Json) -> bool:
    """Whether a task has ended."""
    return TaskState(task["state"]).is_final


@contextlib.contextmanager
def showing(args: argparse.Namespace) -> Iterator[Shown]:
    """Show a single task: one live line on a terminal, plain lines elsewhere."""
    if not is_watched(args):
        yield Lines()
        return
    with progress(True) as line:
        yield _Live(line)


class Lines:
    """A line for each thing that changes."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, task: Json) -> None:
        text = " ".join(part for part in _words(task) if part)
        if text != self._last:
            self._last = text
            say(f"task {task['id']}: {text}")


class _Live:
    def __init__(self, line: Any) -> None:
        self._line, self._last = line, ("", "")

    def update(self, task: Json) -> None:
        stage, *rest = _words(task)
        now = (stage, " ".join(part for part in rest if part))
        if now != self._last:
            self._last = now
            self._line.stage(now[0], now[1] or task["id"])


def _words(task: Json) -> tuple[str, str, str]:
    """What it does, how far it is, and what happened to it."""
    state, done = task["state"], task["progress"]
    doing = task["stage"] or state if state == TaskState.RUNNING else state
    counts = f"{done['done']}/{done['total']}" if done else ""
    again = f"(attempt {task['attempts']}: {task['reason'] or 'infrastructure failed'})" if task["attempts"] > 1 else ""
    return doing, counts, again


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expects a number of seconds, got {text!r}; write --wait last to wait without a limit"
        ) from None
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expects seconds from 0 on, got {text!r}")
    return value
