"""Which part of an answer goes to whom: for every model that a route answers with, what is done to it.

A model that does not stand here is answered to nobody who may not see the ground truth: whoever adds a route decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import HTTPConnection

from ..core.errors import AutoScorerError
from ..schemas.result import Result
from ..schemas.task import BatchView, TaskList, TaskView
from ..service.batches.leaderboard import leaderboard
from ..service.disclosure import Disclosure
from ..service.readiness import ReadyView
from ..service.scorers.views import (
    LoadedView,
    ReloadedView,
    ScorerList,
    ScorerView,
    TrialView,
    UnloadedView,
    WatchedPath,
    WatchList,
)
from ..service.task_artifacts import TaskArtifacts
from ..service.task_logs import LogPage
from ..service.workspaces.history import HistoryPage
from ..service.workspaces.reading import RunLog, WorkspacePage, WorkspaceView
from ..service.workspaces.replacing import DeletedWorkspace
from ..service.workspaces.uploads import UploadedWorkspace
from .context import context_of
from .models import LinkView

__all__ = ["HARMLESS", "POLICY", "Shown", "disclosed_error", "disclosure_of", "shown"]


@dataclass(frozen=True)
class Shown:
    """What a route has made of an answer that went through here already."""

    value: Any


def disclosure_of(request: HTTPConnection) -> Disclosure:
    """What may be told to whoever asks."""
    caller = context_of(request).caller
    return Disclosure(request.app.state.settings, caller.role if caller is not None else None)


def shown(data: BaseModel, disclosure: Disclosure) -> BaseModel:
    """An answer as it may leave.

    Args:
        data: What a route answers.
        disclosure: Of whoever asks.

    Raises:
        RuntimeError: Nobody has decided what of this model may be seen.
    """
    if disclosure.sees_truth or type(data) in HARMLESS:
        return data
    if type(data) not in POLICY:
        raise RuntimeError(f"api.disclosed says nothing of {type(data).__name__}")
    return POLICY[type(data)](disclosure, data)


def disclosed_error(request: HTTPConnection, error: AutoScorerError) -> dict[str, Any]:
    """An error as it may be told to whoever asks."""
    return disclosure_of(request).error(error.to_dict())


def _task_list(disclosure: Disclosure, page: TaskList) -> TaskList:
    return page.model_copy(update={"tasks": [disclosure.task(task) for task in page.tasks]})


def _batch(disclosure: Disclosure, batch: BatchView) -> BatchView:
    outcomes = [disclosure.outcome(each) for each in batch.workspaces]
    # Anew: places that follow from more digits than are shown would tell of them.
    rows = leaderboard(outcomes)
    return batch.model_copy(update={"task": disclosure.task(batch.task), "workspaces": outcomes, "leaderboard": rows})


def _workspace(disclosure: Disclosure, view: WorkspaceView) -> WorkspaceView:
    return view.model_copy(update={"score": disclosure.number(view.score)})


def _workspaces(disclosure: Disclosure, page: WorkspacePage) -> WorkspacePage:
    return page.model_copy(update={"workspaces": [_workspace(disclosure, each) for each in page.workspaces]})


def _history(disclosure: Disclosure, page: HistoryPage) -> HistoryPage:
    rounded = [each.model_copy(update={"score": disclosure.number(each.score)}) for each in page.results]
    return page.model_copy(update={"results": rounded})


def _uploaded(disclosure: Disclosure, uploaded: UploadedWorkspace) -> UploadedWorkspace:
    return uploaded.model_copy(update={"workspace": _workspace(disclosure, uploaded.workspace)})


def _result(disclosure: Disclosure, result: Result) -> Result:
    return Result.model_validate(disclosure.result(result.to_dict()))


def _run_log(disclosure: Disclosure, log: RunLog) -> RunLog:
    return log.model_copy(update={"run_info": disclosure.report(log.run_info)})


def _log_page(disclosure: Disclosure, page: LogPage) -> LogPage:
    kept = [each for each in page.records if disclosure.log(each.source, each.message) is not None]
    return page.model_copy(update={"records": kept})


def _trial(disclosure: Disclosure, trial: TrialView) -> TrialView:
    return TrialView.model_validate(disclosure.trial(trial.model_dump(by_alias=True)))


# What is done to answers of these models; each function takes the disclosure and the model.
POLICY: dict[type[BaseModel], Callable[[Disclosure, Any], BaseModel]] = {
    TaskView: lambda disclosure, task: disclosure.task(task),
    TaskList: _task_list,
    BatchView: _batch,
    WorkspaceView: _workspace,
    WorkspacePage: _workspaces,
    HistoryPage: _history,
    UploadedWorkspace: _uploaded,
    Result: _result,
    RunLog: _run_log,
    LogPage: _log_page,
    TrialView: _trial,
}
# Of the installation and its scorers; no ground truth is near. Artifacts are listed for whoever asks, and links signed
# for their role.
HARMLESS: set[type[BaseModel]] = {
    DeletedWorkspace,
    LinkView,
    LoadedView,
    ReadyView,
    ReloadedView,
    ScorerList,
    ScorerView,
    UnloadedView,
    TaskArtifacts,
    WatchList,
    WatchedPath,
}
