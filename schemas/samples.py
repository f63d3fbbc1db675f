"""The rows of a scoring, one by one: what was expected, what was predicted, and whether that was right."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Measure", "Sample", "SampleCounts", "SamplePage", "SampleVerdict"]

SampleVerdict = Literal["right", "wrong"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Measure(_Model):
    """What a scorer says of each sample, beside right and wrong."""

    name: str = Field(description="Such as absolute_error, a metric's name, or weighted_score.")
    higher_is_better: bool


class Sample(_Model):
    """A row of a scoring."""

    id: str
    verdict: SampleVerdict | None = Field(None, description="Null where there is no right and wrong, as of numbers.")
    predicted: str | float | None = Field(None, description="A label, a number, or an answer.")
    expected: str | float | None = Field(None, description="What the ground truth says.")
    value: float | None = Field(None, description="What the scorer says of it: `measure` names it.")
    question: str | None = Field(None, exclude_if=lambda value: value is None, description="Of answers; else absent.")
    metrics: dict[str, float | None] | None = Field(
        None, exclude_if=lambda value: value is None, description="Of answers: each metric; else absent."
    )


class SampleCounts(_Model):
    """How many of all samples are right, kept or not."""

    right: int
    wrong: int


class SamplePage(_Model):
    """One page of a task's samples: the wrong ones first, else the worst."""

    task_id: str
    scorer: str | None
    measure: Measure | None = Field(description="What `value` of each sample is; null where the scorer says nothing.")
    total: int = Field(description="Samples that were scored.")
    kept: int = Field(description="Samples that are kept; where they are fewer, the wrong ones or the worst.")
    counts: SampleCounts | None = Field(description="Of all that were scored; null where there is no right and wrong.")
    found: int = Field(description="Kept samples for which everything asked for holds.")
    samples: list[Sample]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")
