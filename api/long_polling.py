"""Waiting for a task in a request, and how a task is told."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.task import TaskState, TaskView
from ..service.tasks import Submitted
from .context import context_of, tasks_of
from .envelope import envelope, failure

__all__ = ["accepted", "outcome", "seconds_to_wait", "until_final"]

_DEFAULT_WAIT = 30.0


def accepted(request: Request, submitted: Submitted) -> Response:
    """202 with a task, whether this request made it or found it: ``X-Task-Created`` says which."""
    task = submitted.task
    context_of(request).task_id = task.id
    headers = {"Location": f"/tasks/{task.id}", "X-Task-Created": "true" if submitted.created else "false"}
    return envelope(request, task, status=202, headers=headers)


def seconds_to_wait(request: Request, wait: float | None) -> float:
    """How long a request may wait for its outcome.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for more than ``api.max_wait``.
    """
    most: float = request.app.state.settings.api.max_wait
    if wait is None:
        return min(_DEFAULT_WAIT, most)
    if wait > most:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"wait: at most {most:g} seconds. Ask GET /tasks/{{task_id}} for what takes longer.",
            details={"fields": [{"field": "query.wait", "message": f"must not be more than {most:g}"}]},
        )
    return wait


async def until_final(request: Request, task_id: str, seconds: float) -> TaskView:
    """The task once it has ended, or as it is after ``seconds`` or when the server is being stopped."""
    tasks = tasks_of(request)
    context_of(request).allow(seconds)
    waiting = asyncio.ensure_future(tasks.wait(task_id, seconds))
    stopping = asyncio.ensure_future(request.app.state.stopping.wait())
    try:
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
    finally:
        stopping.cancel()
        waiting.cancel()
    return await tasks.get(task_id)


async def outcome(request: Request, submitted: Submitted, seconds: float) -> Response:
    """The outcome of a task: 200 with it, the error it ended with, or 202 while it has not ended."""
    task = submitted.task
    context_of(request).task_id = task.id
    if not task.state.is_final and seconds > 0:
        task = await until_final(request, task.id, seconds)
    if not task.state.is_final:
        return accepted(request, Submitted(task, submitted.created))
    headers = {"Location": f"/tasks/{task.id}", "X-Task-Created": "true" if submitted.created else "false"}
    if task.state is TaskState.COMPLETED:
        return envelope(request, task, headers=headers)
    return failure(request, _error_of(task), headers=headers)


def _error_of(task: TaskView) -> AutoScorerError:
    """Why a task failed, as an error of the catalogue that names the task."""
    if task.error is not None:
        error = AutoScorerError.from_dict(task.error.model_dump())
    elif task.state is TaskState.CANCELLED:
        error = AutoScorerError(ErrorCode.CANCELLED, task.reason or "The task was cancelled.")
    else:
        error = AutoScorerError(ErrorCode.INTERNAL_ERROR, task.reason or "The task failed without saying why.")
    error.details = {**error.details, "task_id": task.id}
    return error
