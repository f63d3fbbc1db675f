"""What people say of a task, or of one of its samples."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .json_values import plain_text
from .task import Role

__all__ = ["NoteBody", "NotePage", "NoteVerdict", "NoteView"]

NoteVerdict = Literal["agree", "disagree"]


class NoteBody(BaseModel):
    """A note that is to be kept."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field("", max_length=2000, description="In the writer's words; may be empty beside a verdict.")
    sample: str | None = Field(
        None, min_length=1, max_length=1000, description="The id of the sample that it is about; null for the task."
    )
    metric: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="The metric of that sample that the verdict is about, as of answers that a judge has judged.",
    )
    verdict: NoteVerdict | None = Field(
        None, description="Whether the writer agrees with what the scoring says of the sample, or of the task."
    )

    @field_validator("text", "sample", "metric")
    @classmethod
    def _plain_text(cls, value: str | None) -> str | None:
        return plain_text(value)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text.strip() and self.verdict is None:
            raise ValueError("expected a text, or a verdict")
        if self.metric is not None and (self.sample is None or self.verdict is None):
            raise ValueError("metric goes with a sample and a verdict")
        return self


class NoteView(BaseModel):
    """A note."""

    model_config = ConfigDict(extra="forbid")

    id: str
    task_id: str
    text: str
    sample: str | None
    metric: str | None
    verdict: NoteVerdict | None
    role: Role = Field(description="Of the token that wrote it.")
    team: str | None = Field(None, exclude_if=lambda value: value is None, description="Of that token, if it has one.")
    own: bool = Field(description="Whether the token that asks wrote it.")
    of_truth: bool = Field(
        description="Whether its writer saw the ground truth; then only those are shown it who may see that as well."
    )
    created_at: str


class NotePage(BaseModel):
    """One page of a task's notes, the oldest first."""

    model_config = ConfigDict(extra="forbid")

    notes: list[NoteView]
    total: int = Field(description="Notes that may be seen, on every page together.")
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")
