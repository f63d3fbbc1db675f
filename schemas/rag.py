"""Scoring one answer over HTTP: what is asked for, and the record of what became of it.

The shapes are the first system's, which clients parse without an envelope.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .json_values import plain_text
from .task import Priority

__all__ = [
    "MOST_CONTEXTS",
    "ClaimVerdict",
    "JobPage",
    "JobRecord",
    "JobRequest",
    "JobStatus",
    "JudgedBy",
    "MetricScore",
    "MetricStatus",
    "RequestSummary",
    "SampleScores",
    "ScoreRequest",
    "check_weights",
    "scores_of",
]

MetricStatus = Literal["ok", "skipped", "undefined", "failed"]
JobStatus = Literal["queued", "running", "completed", "failed"]

# Characters of a text; and passages of one answer.
_LONGEST = 200_000
MOST_CONTEXTS = 200
_SUMMARY = 80
# Where other tools keep a passage's text.
_TEXT_KEYS = ("content", "text", "page_content")
# A list as Python shows it, which templates of text make of a list of objects.
_PYTHON_LIST = re.compile(r"\s*\[\s*(?:\{\s*)?'")


class ScoreRequest(BaseModel):
    """One answer to score."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    question: str = Field(min_length=1, max_length=_LONGEST, description="What the system was asked.")
    answer: str = Field(max_length=_LONGEST, description="What it answered.")
    contexts: list[str] | None = Field(
        None,
        max_length=MOST_CONTEXTS,
        description="The passages that it had retrieved, best first: texts, or objects with content, text or "
        "page_content; also one text, or a list written as text.",
    )
    ground_truth: str | None = Field(None, max_length=_LONGEST, description="What it should have answered.")
    metrics: list[str] | None = Field(
        None, min_length=1, max_length=50, description="Names of metrics; those that fit the inputs when absent."
    )
    judge_model: str | None = Field(
        None, max_length=200, description="A profile of the configuration, or a model of one."
    )
    embedding_model: str | None = Field(None, max_length=200, description="The same, of embeddings.")
    weights: dict[str, float] | None = Field(
        None, max_length=50, description="Metric to weight; those that are not named do not count."
    )
    priority: Priority = "normal"
    callback_url: str | None = Field(
        None, max_length=2000, description="http(s) address that gets the record when the job has ended."
    )

    @field_validator("contexts", mode="before")
    @classmethod
    def _passages(cls, value: Any) -> Any:
        return _listed(value, _passage, "a passage")

    @field_validator("metrics", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lstrip()[:1] not in ("[", '"'):
            return [name.strip() for name in value.split(",") if name.strip()] or None
        return _listed(value, None, "a metric's name")

    @field_validator("weights", mode="before")
    @classmethod
    def _object(cls, value: Any) -> Any:
        if isinstance(value, str):
            return None if not value.strip() else _decoded(value)
        return value

    @field_validator("ground_truth", "judge_model", "embedding_model", "callback_url", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        # A template fills in nothing for a variable that is not set.
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("question", "answer", "ground_truth", "judge_model", "embedding_model", "callback_url")
    @classmethod
    def _plain_text(cls, value: str | None) -> str | None:
        return plain_text(value)

    @field_validator("contexts", "metrics")
    @classmethod
    def _plain_texts(cls, value: list[str] | None) -> list[str] | None:
        for text in value or ():
            plain_text(text)
            if len(text) > _LONGEST:
                raise ValueError(f"each must have at most {_LONGEST:,} characters")
        return value

    @field_validator("weights")
    @classmethod
    def _not_negative(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        return check_weights(value)


def check_weights(value: dict[str, float] | None) -> dict[str, float] | None:
    """Weights as they are; for pydantic's validators.

    Raises:
        ValueError: One is below 0, or none is above it.
    """
    if value is not None and (not value or min(value.values()) < 0 or not sum(value.values())):
        raise ValueError("expected numbers from 0 up, one of them above 0")
    return value


def _listed(value: Any, read: Any, what: str) -> Any:
    """A list, however a template of text has mangled it; None and an empty text are none."""
    if isinstance(value, str):
        if not value.strip():
            return None
        if _PYTHON_LIST.match(value):
            # As one passage it would be scored without a word of what is wrong.
            raise ValueError("it is a list in Python's words and not JSON; send a list, or make it with json.dumps")
        found = _decoded(value) if value.lstrip()[:1] in ("[", "{", '"') else value
        value = [found] if isinstance(found, (str, Mapping)) else found
    elif isinstance(value, Mapping):
        value = [value]
    if value is None or read is None:
        return value
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expected a list of texts, got {type(value).__name__}")
    return [read(each, f"{what} [{place}]") for place, each in enumerate(value)]


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # A passage may begin with a bracket.
        return text


def _passage(value: Any, place: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        for key in _TEXT_KEYS:
            if isinstance(value.get(key), str):
                found: str = value[key]
                return found
        raise ValueError(f"{place} has no text under {', '.join(_TEXT_KEYS)}")
    raise ValueError(f"{place} is {type(value).__name__}; expected a text, or an object with {', '.join(_TEXT_KEYS)}")


class ClaimVerdict(BaseModel):
    """What was judged of one claim, or of one passage."""

    model_config = ConfigDict(extra="forbid")

    text: str
    verdict: bool | None = None
    reason: str | None = None


class MetricScore(BaseModel):
    """One metric of one answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    score: float | None = Field(None, description="0 to 1; null where there is none.")
    status: MetricStatus = "ok"
    reason: str | None = Field(None, description="Why there is no score, or what to know of it.")
    claims: list[ClaimVerdict] = Field(default_factory=list)
    error_code: str | None = None
    spread: float | None = Field(None, description="Between the scores of several votes: the highest less the lowest.")
    calls: int = Field(0, description="Answers that were asked of models for it.")
    cached: int = Field(0, description="Answers that were known from before.")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = Field(0.0, description="In the currency of the profile's price; null where that is unknown.")
    ms: float = 0.0


def scores_of(metrics: Mapping[str, MetricScore]) -> dict[str, float | None]:
    """The score of each metric that was tried; null where it has none."""
    return {name: each.score for name, each in metrics.items() if each.status != "skipped"}


class SampleScores(BaseModel):
    """All metrics of one answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    metrics: dict[str, MetricScore]
    weighted_score: float | None = Field(
        None, description="Over the metrics that have a score, their weights renormalised; four decimals."
    )
    coverage: float = Field(0.0, description="The share of all weights that those metrics have.")


class RequestSummary(BaseModel):
    """What was asked for, in short."""

    model_config = ConfigDict(extra="forbid")

    question: str = ""
    answer: str = ""
    metrics: list[str] = Field(default_factory=list)
    judge_model: str | None = None
    embedding_model: str | None = None
    has_contexts: bool = False
    has_ground_truth: bool = False

    @classmethod
    def of(cls, request: ScoreRequest, metrics: list[str]) -> RequestSummary:
        """The summary of a request that asks for these metrics."""
        return cls(
            question=request.question[:_SUMMARY],
            answer=request.answer[:_SUMMARY],
            metrics=metrics,
            judge_model=request.judge_model,
            embedding_model=request.embedding_model,
            has_contexts=bool(request.contexts),
            has_ground_truth=bool(request.ground_truth),
        )


class JudgedBy(BaseModel):
    """Which models gave the scores of one answer, and by which words they were asked."""

    model_config = ConfigDict(extra="forbid")

    models: dict[str, str] = Field(default_factory=dict, description="judge, embeddings: profile and model.")
    prompts: dict[str, str] = Field(
        default_factory=dict, description="The questions that the metrics ask a judge: name to sha256 of their words."
    )
    calibrated: dict[str, str] = Field(
        default_factory=dict,
        description="Metric to the time of its calibration, of those whose judge was held against people as it was "
        "asked here.",
    )


class JobRequest(BaseModel):
    """What one job was asked for, in full."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    question: str
    answer: str
    contexts: list[str] | None = None
    ground_truth: str | None = None
    metrics: list[str] | None = Field(None, description="Null where those were taken that fit.")
    judge_model: str | None = None
    embedding_model: str | None = None
    weights: dict[str, float] | None = None


class JobRecord(BaseModel):
    """What became of one request."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    job_id: str
    status: JobStatus
    created_at: str = Field(description="ISO 8601, UTC.")
    finished_at: str | None = None
    caller: str | None = Field(None, description="Who asked: a name that stays the same for a token.")
    request_summary: RequestSummary
    scores: dict[str, float | None] = Field(
        default_factory=dict, description="Metric to score, of those that are done; null where it has none."
    )
    weighted_score: float | None = None
    coverage: float = 0.0
    latency_ms: float | None = Field(None, description="From the beginning of the work to its end.")
    skipped_metrics: list[str] = Field(default_factory=list)
    skip_reasons: dict[str, str] = Field(default_factory=dict)
    error: str | None = None
    metrics: dict[str, MetricScore] = Field(
        default_factory=dict, description="All that is known of each metric; not in lists."
    )
    judged_by: JudgedBy | None = Field(
        None, description="Who was asked; not in lists, and null where no model was, or nobody has noted it."
    )
    retry_of: str | None = Field(None, description="The job of which this one repeats what failed.")


class JobPage(BaseModel):
    """One page of jobs, newest first, without what is known of each metric."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[JobRecord]
    total: int
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")
