"""Which part of an answer goes to whom: for every model that a route answers with, what is done to it.

A model that does not stand here is answered to nobody who may not see the ground truth: whoever adds a route decides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import HTTPConnection

from ..core.errors import AutoScorerError
from ..core.prefect_address import flow_run_page
from ..flows.batches.leaderboard import leaderboard
from ..schemas.comparison import Comparison
from ..schemas.note import NotePage, NoteView
from ..schemas.result import Result
from ..schemas.samples import SamplePage
from ..schemas.task import BatchView, TaskList, TaskView
from ..service.benchmarks.board import BoardView
from ..service.benchmarks.catalogue import BenchmarkPage, BenchmarkView
from ..service.benchmarks.public import PublicBoardView
from ..service.benchmarks.submitted import SubmissionPage, SubmissionView
from ..service.benchmarks.submitting import HandedIn
from ..service.disclosure import Disclosure
from ..service.readiness import AcceptView, ReadyView
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
from ..service.task_samples import check_sees_samples
from ..service.workspaces.history import HistoryItem, HistoryPage
from ..service.workspaces.listing import WorkspacePage
from ..service.workspaces.reading import RunLog, WorkspaceView
from ..service.workspaces.replacing import DeletedWorkspace
from ..service.workspaces.uploads import UploadedWorkspace
from .context import context_of
from .models import Alive, ChosenView, LinkView

__all__ = ["HARMLESS", "POLICY", "Outgoing", "outgoing"]

Json = dict[str, Any]
_Scored = TypeVar("_Scored", WorkspaceView, HistoryItem, SubmissionView)


class Outgoing:
    """What leaves for whoever asks: as much of it as they may see, without a path of this host.

    Whatever a route answers goes through here, once.

    Args:
        disclosure: What they may see.
        redact: Takes the host's paths out of a JSON value.
        page_of: Where whoever asks finds a flow run in Prefect's UI; None where they do not.
    """

    def __init__(
        self, disclosure: Disclosure, redact: Callable[[Any], Any], page_of: Callable[[str], str | None] | None = None
    ) -> None:
        self._disclosure, self._redact, self._page_of = disclosure, redact, page_of
        self.sees_truth, self.digits = disclosure.sees_truth, disclosure.digits

    def answer(self, data: BaseModel) -> Json:
        """What a route answers, as JSON.

        Raises:
            RuntimeError: Nobody has decided what of this model may be seen.
        """
        if not self.sees_truth and type(data) not in HARMLESS:
            if type(data) not in POLICY:
                raise RuntimeError(f"api.outgoing says nothing of {type(data).__name__}")
            data = POLICY[type(data)](self._disclosure, data)
        told: Json = self._redact(data.model_dump(by_alias=True))
        return told

    def task(self, task: TaskView) -> TaskView:
        """A task, of which something is made that is answered: as much of it as may be seen."""
        return self._disclosure.task(task)

    def with_page(self, task: TaskView) -> TaskView:
        """A task that is asked for alone, with the page of its flow run."""
        if self._page_of is None or task.flow_run_id is None:
            return task
        return task.model_copy(update={"flow_run_url": self._page_of(task.flow_run_id)})

    def error(self, error: AutoScorerError) -> Json:
        """An error, as JSON."""
        told: Json = self._redact(self._disclosure.error(error.to_dict()))
        return told

    def result(self, data: Json) -> Json:
        """A Result, as JSON, for an answer without an envelope."""
        told: Json = self._redact(self._disclosure.result(data))
        return told

    def number(self, value: Any) -> Any:
        """A score, with as many digits as are told."""
        return self._disclosure.number(value)

    def event(self, data: Json) -> Json | None:
        """A line of a log that is followed, as JSON; None for one that is not told."""
        told: Json | None = self._redact(self._disclosure.event(data))
        return told


def outgoing(request: HTTPConnection) -> Outgoing:
    """What leaves for whoever asks."""
    state, caller = request.app.state, context_of(request).caller
    role, team = (caller.role, caller.team) if caller is not None else (None, None)
    # Prefect's UI shows all there is of a run, and asks for no token of ours.
    page_of = partial(flow_run_page, state.settings, asked=request.url.hostname) if role == "admin" else None
    return Outgoing(Disclosure(state.settings, role, team), state.roots.redact, page_of)


def _task_list(disclosure: Disclosure, page: TaskList) -> TaskList:
    return page.model_copy(update={"tasks": [disclosure.task(task) for task in page.tasks]})


def _batch(disclosure: Disclosure, batch: BatchView) -> BatchView:
    outcomes = [disclosure.outcome(each) for each in batch.workspaces]
    # Anew: places that follow from more digits than are shown would tell of them.
    rows = leaderboard(outcomes)
    return batch.model_copy(update={"task": disclosure.task(batch.task), "workspaces": outcomes, "leaderboard": rows})


def _scored(disclosure: Disclosure, view: _Scored) -> _Scored:
    """A line about a Result: its score rounded, or left out with what follows from it."""
    fields = set(type(view).model_fields)
    if view.board_only:
        return view.model_copy(update=dict.fromkeys({"score", "low", "high", "passed", "rank"} & fields))
    return view.model_copy(
        update={key: disclosure.number(getattr(view, key)) for key in {"score", "low", "high"} & fields}
    )


def _workspace(disclosure: Disclosure, view: WorkspaceView) -> WorkspaceView:
    return _scored(disclosure, view)


def _workspaces(disclosure: Disclosure, page: WorkspacePage) -> WorkspacePage:
    return page.model_copy(update={"workspaces": [_workspace(disclosure, each) for each in page.workspaces]})


def _history(disclosure: Disclosure, page: HistoryPage) -> HistoryPage:
    return page.model_copy(update={"results": [_scored(disclosure, each) for each in page.results]})


def _uploaded(disclosure: Disclosure, uploaded: UploadedWorkspace) -> UploadedWorkspace:
    return uploaded.model_copy(update={"workspace": _workspace(disclosure, uploaded.workspace)})


def _result(disclosure: Disclosure, result: Result) -> Result:
    return Result.model_validate(disclosure.result(result.to_dict()))


def _submissions(disclosure: Disclosure, page: SubmissionPage) -> SubmissionPage:
    return page.model_copy(update={"submissions": [_scored(disclosure, each) for each in page.submissions]})


def _run_log(disclosure: Disclosure, log: RunLog) -> RunLog:
    return log.model_copy(update={"run_info": disclosure.report(log.run_info)})


def _log_page(disclosure: Disclosure, page: LogPage) -> LogPage:
    kept = [each for each in page.records if disclosure.log(each.source, each.message) is not None]
    return page.model_copy(update={"records": kept})


def _samples(disclosure: Disclosure, page: SamplePage) -> SamplePage:
    # Routes have asked already; this is for those that are still to come.
    check_sees_samples(disclosure.sees_truth)
    return page


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
    SamplePage: _samples,
    TrialView: _trial,
    HandedIn: lambda disclosure, handed: handed.model_copy(update={"task": disclosure.task(handed.task)}),
    SubmissionPage: _submissions,
}
# Of the installation and its scorers; no ground truth is near. Artifacts are listed for whoever asks, and links signed
# for their role; so are benchmarks described, leaderboards made, tasks compared and notes read.
HARMLESS: set[type[BaseModel]] = {
    AcceptView,
    Alive,
    BenchmarkPage,
    BenchmarkView,
    BoardView,
    ChosenView,
    Comparison,
    DeletedWorkspace,
    LinkView,
    LoadedView,
    PublicBoardView,
    NotePage,
    NoteView,
    ReadyView,
    ReloadedView,
    ScorerList,
    ScorerView,
    UnloadedView,
    TaskArtifacts,
    WatchList,
    WatchedPath,
}
