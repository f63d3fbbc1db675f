"""Scorers as the facade shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...schemas.result import Disclosed, ErrorInfo, Interval, Summary
from ...scorers.registry.entry import ScorerEntry

__all__ = [
    "LoadedView",
    "ReloadedView",
    "ScorerChange",
    "ScorerFailure",
    "ScorerList",
    "ScorerView",
    "TrialView",
    "UnloadedView",
    "WatchList",
    "WatchedPath",
    "change_of",
]


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScorerView(_View):
    """A scorer."""

    id: str = Field(description="What `scorer` takes.", examples=["classification_f1"])
    aliases: list[str] = Field(default_factory=list, description="Ids of the first system that mean it as well.")
    name: str
    version: str
    description: str
    task_type: str
    metric: str = Field(description="The main metric.")
    higher_is_better: bool
    origin: str = Field(description="builtin, file, directory, entry_point, or code of the running program.")
    source: str | None = Field(description="Its file, without where that lies on the host.")
    line: int | None
    sha256: str | None = Field(description="Of the source that is in use.")
    siblings: dict[str, str] = Field(description="Files beside it that it imports: name to sha256.")
    loaded_at: str
    status: Literal["ok", "stale"] = Field(
        description="stale: the file no longer loads, and this is its last good version."
    )
    error: str | None = Field(description="Why it is stale.")
    failed_at: str | None = None
    params_schema: dict[str, Any] = Field(description="JSON schema of its params.")


class ScorerFailure(_View):
    """Something that does not load."""

    source: str
    origin: str
    error: ErrorInfo
    stale_ids: list[str] = Field(description="Scorers whose last good version is in use meanwhile.")
    failed_at: str


class ScorerList(_View):
    """Every scorer, and what does not load."""

    scorers: list[ScorerView]
    errors: list[ScorerFailure]


class LoadedView(_View):
    """A scorer file that was loaded."""

    file: str
    scorers: list[ScorerView]


class UnloadedView(_View):
    """A scorer file that was forgotten; it stays where it lies."""

    file: str
    unloaded: list[str] = Field(description="The scorers that went.")


class ScorerChange(_View):
    """What reloading did to one scorer."""

    id: str
    change: str = Field(description="added, removed, new version, other source, or unchanged.")
    version_before: str | None
    version: str | None
    sha256: str | None


def change_of(scorer_id: str, before: ScorerEntry | None, now: ScorerEntry | None) -> ScorerChange:
    """What reloading did to a scorer, from what it was and what it is."""
    if before is None or now is None:
        change = "added" if before is None else "removed"
    elif before.version != now.version:
        change = "new version"
    else:
        change = "unchanged" if (before.sha256, before.siblings) == (now.sha256, now.siblings) else "other source"
    return ScorerChange(
        id=scorer_id,
        change=change,
        version_before=before.version if before else None,
        version=now.version if now else None,
        sha256=now.sha256 if now else None,
    )


class ReloadedView(_View):
    """What reloading did."""

    changes: list[ScorerChange]
    errors: list[ScorerFailure]


class WatchedPath(_View):
    """A file or folder that is followed."""

    id: str = Field(description="Names it in DELETE /scorers/watch.")
    path: str = Field(description="Without where it lies on the host.")
    kind: Literal["file", "folder"]
    origin: str = Field(description="watched, loaded (POST /scorers/load), or configured (scorers.dirs).")
    is_there: bool
    scorers: list[str]
    errors: list[ScorerFailure]


class WatchList(_View):
    """What is followed."""

    watched: list[WatchedPath]


class TrialScorer(_View):
    """Which scorer it was."""

    id: str
    version: str
    sha256: str | None


class TrialView(_View):
    """What scoring a workspace gives, of which nothing was kept."""

    scorer: TrialScorer
    summary: Summary
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    notes: list[str]
    disclosed: Disclosed = Field(
        default_factory=lambda: Disclosed(), description="What those get who may not see the ground truth."
    )
    artifacts: list[str] = Field(description="Names of those it would write.")
    seconds: dict[str, float]
