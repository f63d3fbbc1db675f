"""Bodies and answers that only the facade has, and examples of all of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..schemas.task import FOR, BackendName, Purpose

__all__ = [
    "BATCH_EXAMPLE",
    "SUBMIT_EXAMPLES",
    "TASK_EXAMPLE",
    "Alive",
    "ChosenBody",
    "ChosenView",
    "LinkView",
    "ValidateBody",
    "WorkBody",
]


class WorkBody(BaseModel):
    """What ``/validate``, ``/run``, ``/score`` and ``/pipeline`` work on."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    workspace: str = Field(
        min_length=1,
        max_length=4096,
        description="Folder with meta.json: absolute, or relative to a workspace root.",
        examples=["team-a"],
    )
    scorer: str | None = Field(
        None, max_length=200, description="Scorer id instead of meta.json's; means nothing to /run."
    )
    params: dict[str, Any] | None = Field(
        None, description="Scorer params; they add to meta.json's and win over them; mean nothing to /run."
    )
    backend: BackendName | None = Field(
        None, description="As the worker is configured when absent; means nothing to /score."
    )


class ValidateBody(WorkBody):
    """What ``/validate`` works on."""

    for_: Purpose | None = Field(None, alias="for", description=FOR)


class Alive(BaseModel):
    """That the facade answers at all."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["alive"] = "alive"


class LinkView(BaseModel):
    """A link that opens a task's artifacts without a token."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="The address of the artifact, or of their list; on this server.")
    base: str = Field(description="What the task's own addresses begin with there, such as BASE/artifacts/report.html.")
    expires_at: str = Field(description="Until when it is good: ISO 8601, UTC.")


class ChosenBody(BaseModel):
    """Which submission of a team is to count."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=1, le=999_999_999, strict=True, description="Which of the team's.", examples=[3])
    team: str | None = Field(None, max_length=64, description="Whose, where the token is no team's.")


class ChosenView(BaseModel):
    """Which submission of a team counts."""

    model_config = ConfigDict(extra="forbid")

    benchmark: str
    team: str
    number: int


SUBMIT_EXAMPLES: dict[str, Any] = {
    "pipeline": {
        "summary": "Validate, run and score",
        "value": {"action": "pipeline", "workspace": "team-a", "params": {"pass_threshold": 0.8}},
    },
    "score": {
        "summary": "Score the predictions that are there, before others",
        "value": {"action": "score", "workspace": "team-a", "scorer": "classification_f1", "priority": "high"},
    },
    "callback": {
        "summary": "A callback when it has ended",
        "value": {"action": "run", "workspace": "team-a", "callback_url": "https://example.org/scored"},
    },
}

TASK_EXAMPLE: dict[str, Any] = {
    "id": "0190f2d4a1b34c5e8f90a1b2c3d4e5f6",
    "action": "pipeline",
    "workspace": "team-a",
    "workspaces": None,
    "scorer": None,
    "params": {"pass_threshold": 0.8},
    "backend": None,
    "priority": "normal",
    "state": "queued",
    "stage": "accepted",
    "progress": None,
    "attempts": 0,
    "created_at": "2026-11-22T21:00:00Z",
    "started_at": None,
    "ended_at": None,
    "queue_seconds": None,
    "run_seconds": None,
    "flow_run_id": None,
    "origin": "api",
    "retry_of": None,
    "parent": None,
    "reason": None,
    "outcome": None,
    "result": None,
    "error": None,
    "callback": None,
}

BATCH_EXAMPLE: dict[str, Any] = {
    **TASK_EXAMPLE,
    "action": "batch",
    "workspace": None,
    "workspaces": ["round-1"],
    "params": None,
}
