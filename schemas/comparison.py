"""Two tasks held against each other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .result import Interval
from .samples import Measure, Sample
from .task import TaskState

__all__ = [
    "Change",
    "Comparison",
    "ComparisonNote",
    "ComparisonSide",
    "Difference",
    "MetricPair",
    "SampleChanges",
    "SamplePair",
]

# What became of a sample from a to b: wrong then right, right then wrong, another prediction with the same verdict.
Change = Literal["gained", "lost", "other"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ComparisonSide(_Model):
    """The headline of one of two tasks."""

    task_id: str
    workspace: str | None
    benchmark: str | None = Field(None, exclude_if=lambda value: value is None, description="Absent without one.")
    team: str | None = Field(None, exclude_if=lambda value: value is None, description="Absent without one.")
    state: TaskState
    ended_at: str | None
    scorer: str | None
    metric: str | None = Field(description="The main metric's name.")
    score: float | None
    higher_is_better: bool
    interval: Interval | None
    passed: bool | None = Field(alias="pass")
    rank: str | None
    error: str | None = Field(description="The error's code, where there is no score.")


class MetricPair(_Model):
    """A metric of both sides; null where a side does not have it, or it is undefined there."""

    name: str
    a: float | None
    b: float | None
    difference: float | None = Field(description="b minus a.")
    interval_a: Interval | None
    interval_b: Interval | None


class Difference(_Model):
    """A value that the two do not have in common."""

    name: str = Field(description="Such as average, or image_digest.")
    a: Any
    b: Any


class ComparisonNote(_Model):
    """What whoever reads the numbers has to know."""

    code: Literal[
        "no_score",
        "other_metric",
        "other_direction",
        "other_ground_truth",
        "unknown_ground_truth",
        "other_benchmark",
        "other_part",
        "other_scorer",
        "other_params",
        "samples_hidden",
        "samples_not_kept",
        "samples_partly",
    ]
    text: str


class SamplePair(_Model):
    """A sample of which the two say something else."""

    id: str
    change: Change
    a: Sample
    b: Sample


class SampleChanges(_Model):
    """One page of the samples of which the two say something else: the lost ones first, then the gained ones."""

    kept_a: int = Field(description="Samples that are kept of a; of `total_a`.")
    total_a: int
    kept_b: int
    total_b: int
    compared: int = Field(description="Samples that are kept of both, by their ids.")
    gained: int = Field(description="Of these: wrong in a, right in b.")
    lost: int = Field(description="Right in a, wrong in b.")
    other: int = Field(description="Another prediction, neither gained nor lost.")
    measure: Measure | None = Field(description="What `value` is, where it is the same of both; else null.")
    found: int = Field(description="How many of those that differ were asked for.")
    samples: list[SamplePair]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")


class Comparison(_Model):
    """Two tasks side by side, as far as whoever asks may see each."""

    a: ComparisonSide
    b: ComparisonSide
    comparable: bool | None = Field(
        description="Whether the scores measure the same: false where a note says why not, null where nobody knows."
    )
    better: Literal["a", "b", "equal"] | None = Field(
        description="Which score is better, in the metric's direction, whatever the intervals; null unless comparable."
    )
    notes: list[ComparisonNote]
    metrics: list[MetricPair] = Field(description="The main metric first, if both have the same one.")
    params: list[Difference] = Field(description="Params that differ; null where a side does not give one.")
    provenance: list[Difference] = Field(description="What else made the scores and differs: image, files, versions.")
    samples: SampleChanges | None = Field(description="Null where a note says that they are hidden or not kept.")
