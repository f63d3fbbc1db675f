"""The one shape of every answer of the REST facade."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from .result import ErrorInfo

__all__ = ["Envelope", "ErrorEnvelope", "Meta"]

T = TypeVar("T")


class Meta(BaseModel):
    """What every answer tells about itself."""

    model_config = ConfigDict(extra="forbid")

    timestamp: str = Field(description="ISO 8601, UTC.", examples=["2026-11-22T21:00:00Z"])
    version: str = Field(description="Of AutoScorer.", examples=["0.1.0"])
    request_id: str = Field(
        description="Also in the header X-Request-ID and in the server's log.", examples=["5f0c2b7e9d1a4c38"]
    )


class Envelope(BaseModel, Generic[T]):
    """A request that was served."""

    model_config = ConfigDict(extra="forbid")

    ok: Literal[True] = True
    data: T
    meta: Meta


class ErrorEnvelope(BaseModel):
    """A request that was not."""

    model_config = ConfigDict(extra="forbid")

    ok: Literal[False] = False
    error: ErrorInfo
    meta: Meta

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
