"""What is known of a judge that was held against people: their labels, how far both agree, and what it holds for."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from .result import Interval

__all__ = [
    "Agreement",
    "Calibration",
    "CalibrationKey",
    "JudgeIdentity",
    "Label",
    "Pair",
    "Rate",
    "Stability",
]

# A number is a number, also 0 and 1: what people answered with yes and no is true and false.
Label = StrictBool | Annotated[float, Field(strict=True, ge=0, le=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Pair(_Model):
    """What a judge and a person say of one answer."""

    score: float = Field(description="The judge's, 0 to 1.")
    label: Label = Field(description="The person's: true or false, or a number from 0 to 1.")


class Rate(_Model):
    """A share of answers, and how sure it is."""

    value: float | None = Field(description="hits / of; null where `of` is 0.")
    hits: int
    of: int
    interval: Interval | None = None


class Agreement(_Model):
    """How far a judge and people agree about one metric. What has no value is null."""

    kind: Literal["yes_no", "number"] = Field(description="What the labels are.")
    n: int = Field(description="Answers that both judged.")
    percent: float = Field(description="Share of answers with the same verdict, 0 to 1.")
    cohen_kappa: float | None = Field(description="Of the verdicts.")
    krippendorff_alpha: float | None = Field(description="Nominal, of the verdicts; of numbers interval.")
    sensitivity: Rate | None = Field(None, description="Of the answers that people accept, those the judge accepts.")
    specificity: Rate | None = Field(None, description="Of the answers that people refuse, those the judge refuses.")
    pearson: float | None = Field(None, description="Of numbers.")
    spearman: float | None = Field(None, description="Of numbers.")
    mean_absolute_error: float | None = Field(None, description="Of numbers.")


class Stability(_Model):
    """Whether a judge says the same when it is asked again."""

    repeats: int
    n: int = Field(description="Answers that were judged every time.")
    unchanged: float | None = Field(description="Share of them whose verdict never changed.")
    krippendorff_alpha: float | None = Field(description="The repeats as coders; of numbers interval, else nominal.")


class JudgeIdentity(_Model):
    """Who judged."""

    profile: str
    model: str
    votes: int
    temperature: float | None


class CalibrationKey(_Model):
    """What a calibration holds for. Of anything else it says nothing."""

    metric: str
    judges: tuple[JudgeIdentity, ...] = Field(description="More than one are a jury; the first splits the claims.")
    embeddings: str | None = Field(description="Profile and model, where the metric's score depends on them.")
    prompts: dict[str, str] = Field(description="The questions that the metric asks: name to sha256 of their words.")

    @property
    def digest(self) -> str:
        """A name for it, in hex digits."""
        return sha256(self.model_dump_json().encode()).hexdigest()


class Calibration(_Model):
    """A judge held against people, for one metric."""

    format: Literal[1] = 1
    holds_for: CalibrationKey
    made_at: str = Field(description="ISO 8601, UTC.")
    labels_sha256: str = Field(description="Of the file of labels.")
    threshold: float = Field(description="Scores from here on are a yes.")
    agreement: Agreement
    stability: Stability | None = Field(None, description="Null where it was asked once.")
    undefined: int = Field(0, description="Labelled answers for which the metric has no value.")
    failed: int = Field(0, description="Labelled answers that could not be judged.")
    pairs: tuple[Pair, ...] = Field(description="In the order of the labels.")
