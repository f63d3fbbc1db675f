"""What somebody asks for, once it is clear that they may: what they may not see is not there for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request

from ..service.ledger.records import TaskRow
from ..service.policy import Act, Caller
from ..service.workspaces import ownership
from ..service.workspaces.roots import WorkspaceRoots
from .context import context_of, tasks_of

__all__ = ["seen_task", "seen_workspace"]


async def seen_task(request: Request, caller: Caller, task_id: str, act: Act = Act.SEE) -> TaskRow:
    """The task that a request is about, which its caller may do this to; it is noted for the log.

    Raises:
        AutoScorerError: ``NOT_FOUND``, ``FORBIDDEN``.
    """
    context_of(request).task_id = task_id
    return await tasks_of(request).check(task_id, caller, act)


async def seen_workspace(request: Request, caller: Caller, name: str, act: Act = Act.SEE) -> Path:
    """The folder of the workspace that a request is about, which its caller may do this to.

    Raises:
        AutoScorerError: As ``ownership.seen_workspace``.
    """
    roots: WorkspaceRoots = request.app.state.roots
    path, _ = await asyncio.to_thread(ownership.seen_workspace, roots, name, caller, act)
    return path
