"""The section of the backend bubblewrap."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["BubblewrapExecutor"]


class BubblewrapExecutor(BaseModel):
    """How models are sealed without a container engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Path | None = Field(
        None,
        description="Path of `bwrap`; when absent the system's where it is 0.8 or newer, else the one that came with "
        "AutoScorer.",
    )
    python: Path | None = Field(
        None,
        description="Folder of the Python environment (a virtual one, or a prefix such as `/opt/python`) that models "
        "without an image run in, read-only; AutoScorer's own when absent.",
    )
    concurrency: int | None = Field(
        None, ge=1, description="Models at a time on this host, in all processes of the home; no limit when absent."
    )

    @field_validator("command", "python")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("expected a path from the root, such as /opt/python")
        return value
