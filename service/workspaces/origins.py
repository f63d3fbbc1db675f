"""Which tasks the Results of a workspace's history are of."""

from __future__ import annotations

from pathlib import Path

from ..ledger.ledger import Ledger
from ..policy import Act, Caller, may
from .history import HistoryPage

__all__ = ["name_tasks"]


async def name_tasks(page: HistoryPage, folder: Path, ledger: Ledger, caller: Caller) -> HistoryPage:
    """The page with the tasks that made its Results, as far as somebody may see them: of a batch its member.

    Args:
        page: Of a history.
        folder: Of the workspace.
        ledger: Knows which task's a flow run is.
        caller: Who asks.
    """
    runs = {each.flow_run_id for each in page.results if each.flow_run_id is not None}
    tasks = await ledger.of_flow_runs(runs)
    members = await ledger.members_of(str(folder), [task.id for task in tasks.values() if task.action == "batch"])
    tasks = {run: members.get(task.id, task) for run, task in tasks.items()}
    seen = {run: task.id for run, task in tasks.items() if may(caller, Act.SEE, task.subject_of)}
    named = [each.model_copy(update={"task_id": seen.get(each.flow_run_id or "")}) for each in page.results]
    return page.model_copy(update={"results": named})
