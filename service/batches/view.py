"""A batch as the facade shows it: how far it is, what became of each workspace, who is best."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from ...flows.batches.leaderboard import leaderboard
from ...schemas.task import BatchSummary, BatchView, TaskView
from ..tasks import TaskService
from ..workspaces.roots import WorkspaceRoots

__all__ = ["view_batch"]


async def view_batch(tasks: TaskService, task_id: str) -> BatchView:
    """One batch.

    Raises:
        AutoScorerError: ``NOT_FOUND`` when there is no such task, or it is no batch.
    """
    task = await tasks.get(task_id)
    if task.action != "batch":
        raise AutoScorerError(
            ErrorCode.NOT_FOUND,
            f"The task {task_id} is not a batch: its action is {task.action}. Ask GET /tasks/{task_id}.",
        )
    outcomes, total = (task.result or {}).get("outcomes"), None
    if not isinstance(outcomes, list):
        outcomes = []
        if task.flow_run_id is not None:
            outcomes = await tasks.flow_runs.members(task.flow_run_id)
            total = (await tasks.flow_runs.progress([task.flow_run_id]))[task.flow_run_id].total
    # Ten thousand outcomes take a while to sort.
    return await asyncio.to_thread(_view, task, outcomes, total, tasks.roots)


def _view(task: TaskView, outcomes: list[dict[str, Any]], total: int | None, roots: WorkspaceRoots) -> BatchView:
    ended = task.result or {}
    named = [{**outcome, "workspace": roots.called(str(outcome.get("workspace", "")))} for outcome in outcomes]
    counts = Counter(str(outcome.get("state")) for outcome in named)
    summary = BatchSummary(
        total=ended.get("total", total),
        done=len(named),
        completed=counts["completed"],
        failed=counts["failed"],
        cancelled=counts["cancelled"],
        duplicates=counts["duplicate"],
        seconds=ended.get("seconds"),
    )
    # The same outcomes twice in one answer would be megabytes.
    rest = {key: value for key, value in ended.items() if key != "outcomes"} or None
    return BatchView(
        task=task.model_copy(update={"result": rest}),
        summary=summary,
        workspaces=named,
        leaderboard=leaderboard(named),
    )
