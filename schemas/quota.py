"""What a team has left of a benchmark's quota."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["QuotaLeft"]


class QuotaLeft(BaseModel):
    """How many more submissions a team may make; null where there is no limit."""

    model_config = ConfigDict(extra="forbid")

    left_today: int | None = Field(None, description="Until midnight UTC.")
    left: int | None = Field(None, description="In all.")
    at_once_left: int | None = Field(None, description="Beside those that have not ended.")
    next_at: str | None = Field(
        None, description="Where today's are used up: when the next one is taken. ISO 8601, UTC; null otherwise."
    )
