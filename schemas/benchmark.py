"""benchmark.json: what many submissions have in common, and what a team may do.

A benchmark is one data set, one ground truth and one scorer. Each submission to it is a workspace of its own, which
references the benchmark's input instead of holding a copy.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from .aliases import our_scorer
from .job import DEFAULT_TIMEOUT, DataFiles, Number, ResourceRequest

__all__ = [
    "NAME",
    "Benchmark",
    "Board",
    "Choice",
    "Kind",
    "Phase",
    "Quota",
    "Submission",
    "Visibility",
    "Withheld",
]

# Of benchmarks and teams: a folder's name, a part of an address, and of a token's entry.
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"

Visibility = Literal["nothing", "anonymous", "leaderboard"]
Choice = Literal["best", "last", "chosen"]
# What a submission consists of.
Kind = Literal["image", "archive", "dockerfile", "predictions"]


def _zoned(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-12-31T23:59:00Z or 2026-12-31T23:59:00+08:00")
    return value.astimezone(UTC)


def _text(value: Any) -> Any:
    # pydantic would take a number for seconds since 1970, or milliseconds, by its size.
    if not isinstance(value, str | datetime):
        raise ValueError(f"expected a time such as '2026-12-31T23:59:00Z', got {value!r}")
    return value


Moment = Annotated[datetime, BeforeValidator(_text), AfterValidator(_zoned)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Phase(_Strict):
    """A time in which submissions are taken."""

    name: str = Field(min_length=1, max_length=100, description="Of the phase.")
    open: Moment | None = Field(None, description="From then on; always, when absent.")
    close: Moment | None = Field(None, description="Up to then; always, when absent.")
    late: Literal["refuse", "accept"] = Field(
        "refuse", description="Of submissions after `close`: `accept` scores them, and keeps them off the leaderboard."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.open is not None and self.close is not None and self.close <= self.open:
            raise ValueError("close must be later than open")
        return self


class Quota(_Strict):
    """How many submissions a team may make; null for any number."""

    per_day: Count | None = Field(None, description="A day, from midnight UTC.")
    total: Count | None = Field(None, description="In all.")
    at_once: Count | None = Field(None, description="That have not ended.")


class Withheld(_Strict):
    """The part of the ground truth whose scores teams do not see before it is released."""

    column: str | None = Field(
        None,
        min_length=1,
        description="Column of the ground truth that says of each row: Public, Private or Ignored.",
    )
    file: Literal["gt_usage.csv"] | None = Field(
        None, description="Or a file in input/ that says it: its columns are the ids', and Usage."
    )
    release: Moment | None = Field(None, description="When teams may see it; only by `benchmark release`, when absent.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.column is None) == (self.file is None):
            raise ValueError("give one of column (of the ground truth) and file (in input/)")
        return self


class Board(_Strict):
    """What the leaderboard shows."""

    choose: Choice = Field(
        "best", description="Which submission of a team counts; `chosen`: the one the team has chosen, else its best."
    )
    decimals: int | None = Field(None, ge=0, le=12, strict=True, description="Digits that scores are rounded to.")
    margin: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The Ladder: a team's public score changes only by an improvement of more than this, and is "
        "rounded to it.",
    )
    freeze: Moment | None = Field(None, description="From then on the leaderboard that teams see stays as it is.")
    public: bool = Field(
        False, strict=True, description="Whether anybody may see the leaderboard as teams see it, without a token."
    )


class Benchmark(_Strict):
    """benchmark.json."""

    name: str = Field(pattern=NAME, description="Lower-case letters, digits, - and _.")
    title: str | None = Field(None, min_length=1, max_length=200, description="For people.")
    description: str | None = Field(None, max_length=20_000, description="What is asked for.")
    task_type: str | None = Field(None, min_length=1, description="A label, as in meta.json.")
    scorer: str = Field(min_length=1, description="Scorer id, for every submission.")
    params: dict[str, Any] = Field(default_factory=dict, description="The scorer's params.")
    data: DataFiles = Field(default_factory=lambda: DataFiles(), description="What the files are written in.")
    resources: ResourceRequest = Field(
        default_factory=lambda: ResourceRequest(), description="What a submission gets, and may ask for at most."
    )
    timeout: Number = Field(DEFAULT_TIMEOUT, gt=0, description="Seconds a model may run at most.")
    backends: tuple[Literal["bubblewrap", "docker", "kubernetes", "process"], ...] = Field(
        ("bubblewrap", "docker", "kubernetes"), min_length=1, description="Where models may run."
    )
    phases: tuple[Phase, ...] = Field((), description="When submissions are taken; always, when there are none.")
    quota: Quota = Field(default_factory=lambda: Quota(), description="Of each team.")
    visibility: Visibility = Field(
        "leaderboard", description="What a team sees of others: nothing, or the leaderboard, with or without names."
    )
    withheld: Withheld | None = Field(None, description="A part of the ground truth whose scores are released later.")
    leaderboard: Board = Field(default_factory=lambda: Board(), description="What it shows.")

    @field_validator("scorer")
    @classmethod
    def _in_our_spelling(cls, value: str) -> str:
        return our_scorer(value)

    @model_validator(mode="after")
    def _shown_to_all(self) -> Self:
        if self.leaderboard.public and self.visibility == "nothing":
            raise ValueError("leaderboard.public shows what visibility allows, which is nothing; set anonymous")
        return self

    @field_validator("phases")
    @classmethod
    def _named_once(cls, value: tuple[Phase, ...]) -> tuple[Phase, ...]:
        names = [phase.name for phase in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two phases are called {name!r}")
        return value


class Submission(BaseModel):
    """submission.json: what a submission is, beside what it is asked to do."""

    model_config = ConfigDict(extra="forbid")

    team: str = Field(pattern=NAME)
    number: int = Field(ge=1)
    kind: Kind
    label: str | None = Field(None, max_length=200)
    created_at: str = Field(description="ISO 8601, UTC.")
    phase: str | None = Field(None, description="The phase it came in; null where there are none.")
    flow_run_id: str | None = Field(None, description="Of the flow run that made it; null where none did.")
    late: bool = Field(False, description="It came after the phase's end, and is not on the leaderboard.")
