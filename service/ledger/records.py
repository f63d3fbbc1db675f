"""What the ledger holds of one task, and how that is shown."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.result import ErrorInfo
from ...schemas.task import (
    Action,
    CallbackState,
    CallbackView,
    Priority,
    Progress,
    Role,
    TaskOutcome,
    TaskState,
    TaskView,
)
from ..policy import EVERYTHING, Scope, Subject
from ..prefect.model import Json

__all__ = [
    "CallbackDue",
    "Member",
    "NewTask",
    "Observed",
    "Order",
    "Page",
    "Place",
    "ScorerChange",
    "SharedScorer",
    "SharedScorers",
    "StoredResult",
    "TaskEnd",
    "TaskFilter",
    "TaskRow",
    "iso",
]


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that is to be accepted.

    ``subject`` is what no two active tasks of an action may share; ``request`` what was asked for, with workspaces by
    their names; ``parameters`` what the flow is called with.
    """

    id: str
    caller: str
    action: str
    subject: str
    workspace: str | None
    scorer: str | None
    priority: str
    request: Json
    parameters: Json
    created_at: float
    retry_of: str | None = None
    callback_url: str | None = None
    origin: str = "api"
    flow_run_id: str | None = None
    # Of who asked, whom the callback tells: nobody in particular may see the least.
    role: Role = "submit"
    # What meta.json calls the job, for whoever looks for it.
    job_id: str | None = None
    # Whose it is: what Subject says of its workspace.
    benchmark: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """What became of a workspace of a batch, for the ledger to keep as a task of its own.

    Args:
        id: The same whenever it is told of this workspace of this batch.
        workspace: Its folder.
        request: What would be asked for to have the same of this workspace alone.
        state: How it ended.
        scorer: Which scored it.
        result: The Result in short, as far as the batch tells of it; None where there is no score.
        result_sha256: Of the whole Result, as it was written into the workspace; None where nobody knows.
        error: Why there is no score.
        seconds: For how long it was worked on; None where it was not.
        ended_at: When it ended; None where the batch does not say.
    """

    id: str
    workspace: str
    request: Json
    state: TaskState
    scorer: str | None = None
    result: Json | None = None
    result_sha256: str | None = None
    error: Json | None = None
    seconds: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended, for the ledger to keep. None leaves what the ledger has; ``ended_at`` is then now.

    ``members`` are all that a batch has; None where nobody knows.
    """

    task_id: str
    state: TaskState
    result: Json | None = None
    error: Json | None = None
    reason: str | None = None
    attempts: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    scorer: str | None = None
    members: Sequence[Member] | None = None

    @classmethod
    def by(cls, task_id: str, error: AutoScorerError, reason: str | None = None) -> TaskEnd:
        """Of a task that an error ended before anything came of it."""
        state = TaskState.CANCELLED if error.code is ErrorCode.CANCELLED else TaskState.FAILED
        return cls(task_id, state, error=error.to_dict(), reason=reason)


@dataclass(frozen=True, slots=True)
class Observed:
    """What Prefect says of a task under way; ``attempts`` are the flow run's own."""

    task_id: str
    state: TaskState
    prefect_state: str
    attempts: int
    started_at: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class CallbackDue:
    """A callback that is to be sent now; ``attempts`` were made. Its receiver is told what ``role`` may see, of a
    ``team`` that asked."""

    task_id: str
    url: str
    attempts: int
    role: Role
    team: str | None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a task that ended left: JSON texts."""

    result: str | None
    error: str | None
    # The Result in one line: TaskOutcome.
    outcome: str | None = None
    # Of a member of a batch: of its whole Result.
    result_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted. What has no such value comes last either way; what has the same is in the order of ids."""

    by: Literal["created", "ended", "score", "name", "scorer", "state", "seconds"] = "created"
    descending: bool = True


class Place(NamedTuple):
    """A task's place in an order: the value that it is sorted by, as it is told to whoever asks, and its id."""

    value: str | float | None
    id: str


class Page(NamedTuple):
    """Some tasks of a list, each with what it left but its Result.

    ``total`` is how many there are in all, ``before`` how many come before these, ``next`` the place after which the
    next page begins; None on the last.
    """

    rows: list[tuple[TaskRow, StoredResult]]
    total: int
    before: int
    next: Place | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list; None and () ask for all. ``name`` is folded; ``since`` and ``until`` are ids.

    Members of batches are left out, unless ``parent`` names their batch or ``members`` asks for all of them.
    """

    states: tuple[TaskState, ...] = ()
    workspace: str | None = None
    name: str | None = None
    scorers: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    metric: str | None = None
    passed: bool | None = None
    benchmark: str | None = None
    team: str | None = None
    flow_run: str | None = None
    parent: str | None = None
    members: bool = False
    # Which of them whoever asks may see.
    scope: Scope = EVERYTHING
    # How many digits of a score they are told, and none of what a leaderboard alone tells; None: all of it.
    digits: int | None = None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of the table ``tasks``; its columns are these fields."""

    id: str
    origin: Literal["api", "prefect"]
    caller: str
    action: Action
    subject: str
    workspace: str | None
    scorer: str | None
    priority: Priority
    request: str
    parameters: str
    retry_of: str | None
    state: str
    reason: str | None
    attempts: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    flow_run_id: str | None
    prefect_state: str | None
    dispatch: int
    earlier_attempts: int
    dispatching: int
    cancel_requested: int
    callback_url: str | None
    callback_state: CallbackState | None
    callback_attempts: int
    callback_error: str | None
    callback_at: float | None
    callback_delivered_at: float | None
    role: Role
    benchmark: str | None
    team: str | None
    # The batch whose member it is.
    parent: str | None

    @property
    def subject_of(self) -> Subject:
        """Whose it is."""
        owner = self.caller if self.action == "rag-score" else None
        by_others = self.role != "submit" or self.origin != "api"
        return Subject(self.benchmark, self.team, owner, by_others=by_others)

    @property
    def is_final(self) -> bool:
        return TaskState(self.state).is_final

    @property
    def idempotency_key(self) -> str:
        """Under which Prefect makes one flow run of it, and one more for each time that it lost it."""
        return self.id if self.dispatch == 1 else f"{self.id}:{self.dispatch}"

    def waiting_for(self, other: str | None) -> TaskRow:
        """The same, with why it is not under way yet: another task has its workspace. With None as it is."""
        if other is None:
            return self
        return replace(self, reason=f"Waiting for task {other}, which has the workspace or asked for it earlier.")

    def view(
        self, outcome: StoredResult | None = None, *, stage: str | None = None, progress: Progress | None = None
    ) -> TaskView:
        """The task as the facade shows it: with what it left, or what its worker is doing and how far a batch is."""
        request = json.loads(self.request)
        return TaskView.model_construct(
            id=self.id,
            action=self.action,
            workspace=request.get("workspace"),
            workspaces=request.get("workspaces"),
            benchmark=self.benchmark,
            team=self.team,
            question=request.get("question"),
            scorer=self.scorer,
            params=request.get("params"),
            backend=request.get("backend"),
            priority=self.priority,
            state=TaskState(self.state),
            stage=None if self.is_final else stage or self._stage(),
            progress=progress,
            attempts=self.attempts,
            created_at=iso(self.created_at),
            started_at=iso(self.started_at),
            ended_at=iso(self.ended_at),
            queue_seconds=_between(self.created_at, self.started_at),
            run_seconds=_between(self.started_at, self.ended_at),
            flow_run_id=self.flow_run_id,
            origin=self.origin,
            retry_of=self.retry_of,
            parent=self.parent,
            reason=self.reason,
            result=json.loads(outcome.result) if outcome and outcome.result else None,
            outcome=TaskOutcome.model_validate_json(outcome.outcome) if outcome and outcome.outcome else None,
            error=ErrorInfo(**json.loads(outcome.error)) if outcome and outcome.error else None,
            callback=self._callback(),
        )

    def _stage(self) -> str:
        if self.flow_run_id is None:
            return "accepted"
        if self.prefect_state in ("PENDING", "RUNNING"):
            return "starting"
        return "scheduled" if self.state == TaskState.QUEUED else self.state

    def _callback(self) -> CallbackView | None:
        if self.callback_state is None:
            return None
        return CallbackView(
            state=self.callback_state,
            attempts=self.callback_attempts,
            last_error=self.callback_error,
            delivered_at=iso(self.callback_delivered_at),
        )


def iso(moment: float | None) -> Any:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond; None stays None."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _between(begin: float | None, end: float | None) -> float | None:
    # Clocks of two hosts may disagree.
    return None if begin is None or end is None else round(max(end - begin, 0.0), 3)


@dataclass(frozen=True)
class SharedScorer:
    """A scorer file that the homes of one ledger have in common.

    Args:
        path: Where it lies in the home that keeps it up to date.
        home: That home.
        kind: ``loaded`` by itself and followed, ``found`` in a place that is watched, or ``pinned``.
        sha256: Of the file's bytes.
        scorers: What it registers, id to version; nothing while the file is away.
        digest: The sha256 of its copy.
    """

    path: str
    home: str
    kind: Literal["loaded", "found", "pinned"]
    sha256: str
    scorers: Mapping[str, str]
    digest: str


@dataclass(frozen=True)
class SharedScorers:
    """All of them.

    Args:
        number: Another one after each change.
        files: By path.
        watches: Files and folders that are watched, and by which home.
    """

    number: int
    files: Mapping[str, SharedScorer]
    watches: Mapping[str, str]


@dataclass(frozen=True)
class ScorerChange:
    """What is to be changed of them.

    Args:
        files: New or changed ones, with their copies; None for the copy that is there.
        gone: Paths of those that go.
        watches: By path, which home watches it from now on; None for no home.
    """

    files: Sequence[tuple[SharedScorer, str | None]] = ()
    gone: Collection[str] = ()
    watches: Mapping[str, str | None] = field(default_factory=dict)
