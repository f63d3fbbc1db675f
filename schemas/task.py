"""Tasks of the service: what is asked for, and what became of it.

A *task* is one request that was accepted; a Prefect flow run is how it is worked on. One task has one flow run, which
may be attempted several times.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .aliases import our_scorer
from .json_values import plain_text
from .result import ErrorInfo

__all__ = [
    "ACTIVE",
    "FOR",
    "Action",
    "BatchRequest",
    "BatchSummary",
    "BatchView",
    "CallbackState",
    "CallbackView",
    "Priority",
    "Progress",
    "Purpose",
    "Role",
    "ScoreInterval",
    "SingleAction",
    "SubmitRequest",
    "TaskList",
    "TaskOutcome",
    "TaskSort",
    "TaskState",
    "TaskView",
]

SingleAction = Literal["validate", "run", "score", "pipeline"]
Action = Literal["validate", "run", "score", "pipeline", "batch", "rag-score"]
Priority = Literal["high", "normal", "low"]
# What a token may do: an organiser everything with the benchmarks it names, an admin everything; both see the ground
# truth there.
Role = Literal["submit", "organiser", "admin"]
BackendName = Literal["auto", "bubblewrap", "docker", "kubernetes", "process"]
# What a workspace is validated for.
Purpose = Literal["score", "pipeline"]
FOR = (
    "What it is to be valid for: `score` (predictions, and nothing to run) or `pipeline`. When absent, scoring where "
    "there are predictions and nothing to run, else a pipeline. Means something to validate alone."
)
# By what a list is sorted: from the least up, and with a - from the greatest down.
TaskSort = Literal[
    "created", "-created", "ended", "-ended", "score", "-score", "name", "-name", "scorer", "-scorer", "state",
    "-state", "seconds", "-seconds",
]  # fmt: skip
CallbackState = Literal["waiting", "pending", "delivered", "failed"]


class TaskState(StrEnum):
    """Where a task is. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in ACTIVE


ACTIVE = frozenset({TaskState.QUEUED, TaskState.RUNNING, TaskState.CANCELLING})


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("workspace", "scorer", "callback_url", check_fields=False)
    @classmethod
    def _plain_text(cls, value: str | None) -> str | None:
        return plain_text(value)

    @field_validator("scorer", check_fields=False)
    @classmethod
    def _in_our_spelling(cls, value: str | None) -> str | None:
        return our_scorer(value)


class SubmitRequest(_Request):
    """One workspace to work on."""

    action: SingleAction = "pipeline"
    workspace: str = Field(
        min_length=1,
        max_length=4096,
        description="Folder with meta.json: absolute, or relative to a workspace root.",
        examples=["team-a"],
    )
    scorer: str | None = Field(None, max_length=200, description="Scorer id instead of meta.json's.")
    params: dict[str, Any] | None = Field(None, description="Scorer params; they add to meta.json's and win over them.")
    backend: BackendName | None = Field(None, description="As the worker is configured when absent.")
    for_: Purpose | None = Field(None, alias="for", description=FOR)
    priority: Priority = "normal"
    callback_url: str | None = Field(
        None, max_length=2000, description="http(s) address that gets the envelope when the task has ended."
    )

    @model_validator(mode="after")
    def _only_what_counts(self) -> Self:
        # One request serves every action: what means nothing to this one is left out, and the task shows that.
        if self.action == "score":
            self.backend = None
        if self.action == "run":
            self.scorer = self.params = None
        if self.action != "validate":
            self.for_ = None
        return self


class BatchRequest(_Request):
    """Many workspaces to work on."""

    workspaces: list[str] = Field(
        min_length=1,
        max_length=10_000,
        description="Each a workspace, a folder of workspaces, or a pattern such as round-1/*.",
        examples=[["round-1"]],
    )
    action: Literal["pipeline", "score"] = "pipeline"
    scorer: str | None = Field(None, max_length=200)
    params: dict[str, Any] | None = None
    backend: BackendName | None = None
    concurrency: int = Field(2, ge=1, le=64, description="Workspaces worked on at the same time.")
    priority: Priority = "normal"
    callback_url: str | None = Field(None, max_length=2000)

    @field_validator("workspaces")
    @classmethod
    def _plain_texts(cls, value: list[str]) -> list[str]:
        for item in value:
            if not item or len(item) > 4096:
                raise ValueError("each workspace must have 1 to 4096 characters")
            plain_text(item)
        return value


class Progress(BaseModel):
    """How far a batch is."""

    model_config = ConfigDict(extra="forbid")

    done: int
    total: int


class CallbackView(BaseModel):
    """What became of a task's callback."""

    model_config = ConfigDict(extra="forbid")

    state: CallbackState = Field(
        description="waiting: the task has not ended. pending: to be delivered or to be tried again."
    )
    attempts: int = 0
    last_error: str | None = None
    delivered_at: str | None = None


class ScoreInterval(BaseModel):
    """The main metric's confidence interval."""

    model_config = ConfigDict(extra="forbid")

    low: float
    high: float
    level: float = Field(description="Nominal coverage, 0 to 1.")


class TaskOutcome(BaseModel):
    """A Result in one line, for lists."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    score: float | None = Field(None, description="The main metric; null where it is undefined.")
    metric: str | None = Field(None, description="The main metric's name.")
    higher_is_better: bool = True
    interval: ScoreInterval | None = None
    passed: bool | None = Field(None, alias="pass", description="Against pass_threshold; null without one.")
    rank: str | None = Field(None, description="A, B, C or D.")
    board_only: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether teams are told of scores by their benchmark's leaderboard alone; absent where not.",
    )
    scores: dict[str, float | None] | None = Field(
        None, exclude_if=lambda value: value is None, description="Of rag-score: each metric; absent elsewhere."
    )


class TaskView(BaseModel):
    """A task as the facade shows it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    action: Action
    workspace: str | None = Field(None, description="Relative to its root; null for a batch and for rag-score.")
    workspaces: list[str] | None = Field(None, description="What a batch was asked to work on.")
    benchmark: str | None = Field(
        None, exclude_if=lambda value: value is None, description="Whose submissions it is about; absent elsewhere."
    )
    team: str | None = Field(
        None, exclude_if=lambda value: value is None, description="Whose submission it is about; absent elsewhere."
    )
    question: str | None = Field(None, description="Of rag-score: the beginning of the question.")
    scorer: str | None = None
    params: dict[str, Any] | None = None
    backend: str | None = None
    priority: Priority = "normal"
    state: TaskState
    stage: str | None = Field(None, description="What it is doing: accepted, scheduled, validate, pull, run, score, …")
    progress: Progress | None = None
    attempts: int = Field(0, description="How often work on it began; more than 1 after infrastructure failed.")
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    queue_seconds: float | None = None
    run_seconds: float | None = None
    flow_run_id: str | None = Field(None, description="Of Prefect; null until Prefect knows of it.")
    flow_run_url: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Its page in Prefect's UI, for admins who ask for this task alone; absent elsewhere.",
    )
    origin: Literal["api", "prefect"] = Field("api", description="prefect: started there, by a schedule or by hand.")
    retry_of: str | None = Field(None, description="The task that this one repeats.")
    parent: str | None = Field(None, description="The batch whose member it is; null for what was asked for by itself.")
    reason: str | None = Field(None, description="The last thing that happened to it other than its own work.")
    outcome: TaskOutcome | None = Field(
        None,
        description="Of score and pipeline: what the Result says in one line, also in lists; null without a score.",
    )
    result: dict[str, Any] | None = Field(
        None, description="The Result; for run the run's report, for validate what was found, for a batch its summary."
    )
    error: ErrorInfo | None = None
    callback: CallbackView | None = None


class TaskList(BaseModel):
    """One page of tasks, without their results."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[TaskView]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")
    total: int = Field(description="How many tasks there are in all, on every page together.")
    before: int = Field(0, description="How many of them come before this page's, in this order.")


class BatchSummary(BaseModel):
    """How many workspaces, and what became of them so far."""

    model_config = ConfigDict(extra="forbid")

    total: int | None = Field(None, description="Null before the batch has looked how many there are.")
    done: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    duplicates: int = Field(0, description="Named more than once; worked on once.")
    seconds: float | None = Field(None, description="Wall-clock seconds of the whole batch, once it has ended.")


class BatchView(BaseModel):
    """A batch."""

    model_config = ConfigDict(extra="forbid")

    task: TaskView
    summary: BatchSummary
    workspaces: list[dict[str, Any]] = Field(
        description="What has been worked on so far: workspace, state, score, pass, rank, seconds, error. In the order "
        "given once the batch has ended, in the order they were done before."
    )
    leaderboard: list[dict[str, Any]] = Field(description="Best first.")
