"""The Result: what scoring a workspace answers, everywhere the same.

JSON is strict: no NaN and no Infinity. A metric that a scorer leaves non-finite becomes ``null`` with a line
in ``notes``, so an undefined metric can never pass for a number.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "Artifact",
    "BenchmarkRef",
    "Disclosed",
    "ErrorInfo",
    "Interval",
    "Resources",
    "Result",
    "Summary",
    "Timing",
    "Versioning",
]


class _Model(BaseModel):
    # Ours alone fill these in, so an unknown key is a bug and must not pass.
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class Summary(BaseModel):
    """The answer in one line. The main metric also stands under its own name (an extra field)."""

    model_config = ConfigDict(extra="allow", validate_assignment=True, allow_inf_nan=False, populate_by_name=True)

    score: float | None = Field(None, description="The main metric; null where it is undefined.")
    passed: bool | None = Field(
        None, alias="pass", description="Score against pass_threshold, in the metric's direction; null without one."
    )
    rank: str | None = Field(None, description="A, B, C or D; null where the score or the scale is undefined.")
    higher_is_better: bool = True

    @model_validator(mode="before")
    @classmethod
    def _no_non_finite(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {k: None if _non_finite(v) else v for k, v in data.items()}
        return data


class Interval(_Model):
    """A confidence interval, and by which method it was made."""

    low: float
    high: float
    level: float = Field(0.95, description="Nominal coverage, 0 to 1.")
    method: str = Field(description="wilson, wilson-mover, wilson-scaled, delta, bootstrap-multinomial, …")
    n_resamples: int | None = Field(None, description="Bootstrap resamples; null for a closed form.")


class Artifact(_Model):
    """A file beside the Result. Only ``path`` need be given by a scorer; the rest is measured."""

    path: str = Field(description="Relative to the workspace.")
    size: int | None = Field(None, description="Bytes.")
    sha256: str | None = None
    media_type: str | None = None
    rows: int | None = Field(None, description="Of a table that is cut, as errors.csv may be: rows that it holds.")
    rows_total: int | None = Field(None, description="Rows that there are, of which the file holds the first ``rows``.")


class Timing(_Model):
    """Wall-clock seconds of each stage; null where the stage did not run."""

    validate_: float | None = Field(None, alias="validate")
    queue: float | None = None
    pull: float | None = None
    run: float | None = None
    load: float | None = None
    compute: float | None = None
    save: float | None = None
    total: float | None = None

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False, populate_by_name=True)


class Resources(_Model):
    """What the container used."""

    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    gpu_memory_bytes: int | None = Field(None, description="Peak of all GPUs together, above what was in use before.")
    gpu_seconds: float | None = Field(None, description="In which a GPU computed, of all of them together.")
    output_bytes: int | None = None
    output_files: int | None = None
    exit_code: int | None = None
    backend: str | None = None


class BenchmarkRef(_Model):
    """Of which benchmark a Result is, and of which version of it."""

    name: str
    version: int = Field(
        description="1, 2, …: data, ground truth, scorer and params have changed since the one before."
    )
    digest: str | None = Field(
        None, description="sha256 over data, ground truth, scorer and params; null for those who may not see the truth."
    )
    part: Literal["public", "private"] | None = Field(
        None, description="Which part of the ground truth was scored, where one is withheld; null for all of it."
    )
    board_only: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether teams are told of scores by the leaderboard alone, because it has a margin.",
    )


class Versioning(_Model):
    """Enough to recompute the number years later."""

    autoscorer: str | None = None
    scorer: str | None = None
    scorer_version: str | None = None
    scorer_sha256: str | None = Field(None, description="Of the source file the scorer was loaded from.")
    scorer_siblings: dict[str, str] = Field(
        default_factory=dict, description="Files beside it that it imports (from .helpers import …): name to sha256."
    )
    params: dict[str, Any] = Field(default_factory=dict)
    models: dict[str, str] = Field(
        default_factory=dict,
        description="Models that scored: what they were asked for (judge, embeddings) to their name.",
    )
    prompts: dict[str, str] = Field(
        default_factory=dict, description="Questions that a judge was asked: name to sha256 of their words."
    )
    image: str | None = Field(None, description="The reference as meta.json gave it, or the tag that was built.")
    image_digest: str | None = None
    ground_truth_sha256: str | None = None
    predictions_sha256: str | None = None
    input_sha256: str | None = Field(None, description="Of input/ without the ground truth: names and contents.")
    benchmark: BenchmarkRef | None = Field(
        None, exclude_if=lambda value: value is None, description="Of a submission: which benchmark it was scored by."
    )
    timestamp: str | None = Field(None, description="ISO 8601, UTC.")
    hostname: str | None = None
    flow_run_id: str | None = Field(None, description="Of the Prefect flow run that made it; null outside of any.")
    attempt: int | None = Field(
        None, description="Which attempt at the flow run made it, where hosts share a ledger; null elsewhere."
    )


class ErrorInfo(_Model):
    """Why there is no score."""

    code: str
    message: str
    stage: str
    details: dict[str, Any] = Field(default_factory=dict)


class Disclosed(_Model):
    """What those may have of a Result who may not see the ground truth, beside its summary and main metric.

    A scorer puts here what tells nothing of single rows. What does not stand here stays with those who may see the
    ground truth.
    """

    metrics: dict[str, float | None] = Field(
        default_factory=dict, description="Numbers over all rows, or made from coarse counts."
    )
    notes: list[str] = Field(default_factory=list, description="Notes that name no label, row or value of the truth.")
    artifacts: dict[str, Artifact] = Field(
        default_factory=dict, description="Files in output/artifacts/shared that stand for the complete ones."
    )


class Result(_Model):
    """What ``output/result.json`` holds, and the CLI, the API and a flow run return.

    A scorer fills in ``summary`` and ``metrics``, and what it has of ``intervals``, ``artifacts`` and
    ``notes``; the scoring step adds timing, provenance, ``pass`` and ``rank``.
    """

    job_id: str | None = None
    task_type: str | None = None
    summary: Summary = Field(default_factory=lambda: Summary())
    metrics: dict[str, float | None] = Field(default_factory=dict)
    metric_aliases: dict[str, str] = Field(
        default_factory=dict, description="The first system's names of metrics, each with the name it has in metrics."
    )
    intervals: dict[str, Interval] = Field(default_factory=dict)
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    timing: Timing = Field(default_factory=lambda: Timing())
    resources: Resources = Field(default_factory=lambda: Resources())
    versioning: Versioning = Field(default_factory=lambda: Versioning())
    notes: list[str] = Field(default_factory=list)
    disclosed: Disclosed = Field(
        default_factory=lambda: Disclosed(), description="What may go to those who may not see the ground truth."
    )
    error: ErrorInfo | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_the_undefined(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        metrics, notes = data.get("metrics"), data.get("notes") or []
        # Of another type they are refused below, by name.
        if not isinstance(metrics, dict) or not isinstance(notes, (list, tuple)):
            return data
        undefined = {name: value for name, value in metrics.items() if _non_finite(value)}
        return {
            **data,
            "metrics": {**metrics, **dict.fromkeys(undefined)},
            "notes": [*notes, *(f"{name} is undefined: the scorer returned {undefined[name]}." for name in undefined)],
        }

    @field_validator("artifacts", mode="before")
    @classmethod
    def _paths_will_do(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: {"path": v} if isinstance(v, str) else v for k, v in value.items()}
        return value

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, with the field names of the design (``pass``, ``validate``)."""
        # Once more through the checks: a scorer may have put a NaN into the metrics after they were checked.
        return Result.model_validate(self.model_dump(by_alias=True)).model_dump(mode="json", by_alias=True)

    def to_bytes(self) -> bytes:
        """What ``output/result.json`` holds."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
        # What is no character becomes its JSON escape.
        return text.encode("utf-8", "backslashreplace")


def _non_finite(value: Any) -> bool:
    # Not only float: numpy's float32 is none, and its NaN is one all the same.
    if isinstance(value, (bool, int)):
        return False
    try:
        return not math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
