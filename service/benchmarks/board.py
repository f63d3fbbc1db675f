"""The leaderboard of a benchmark, as much of it as somebody may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.benchmark import Benchmark, Visibility
from ...tasks.benchmarks.leaderboard import board_of
from ...tasks.benchmarks.release import is_released
from ..policy import Act, Caller, Subject, may

__all__ = ["BoardView", "Part", "leaderboard"]

Json = dict[str, Any]
Part = Literal["public", "private"]

# Of another team's row: what the team says itself, and what would tell its submissions apart.
_ITS_OWN = ("label", "number", "submitted_at")


class BoardView(BaseModel):
    """A leaderboard."""

    model_config = ConfigDict(extra="forbid")

    benchmark: str
    part: Part = Field(description="Of a benchmark that withholds no part there is one board alone, the public one.")
    released: bool = Field(description="Whether the private one may be seen.")
    team: str | None = Field(None, description="Of a team's token: whose row is its own.")
    rows: list[Json] = Field(description="Best first: place, team, score, low, high, metric, number, label, …")


def leaderboard(
    folder: BenchmarkFolder,
    spec: Benchmark,
    name: str,
    caller: Caller,
    part: Part,
    number: Callable[[Any], Any],
) -> BoardView:
    """The leaderboard for somebody.

    Args:
        folder: The benchmark.
        spec: Its benchmark.json.
        name: The benchmark's name.
        caller: Who asks.
        part: Which scores.
        number: Rounds a score as far as the caller may see it.

    Raises:
        AutoScorerError: ``FORBIDDEN`` for the private part before it is released; ``INVALID_REQUEST`` where none is
            withheld.
    """
    sees_all = may(caller, Act.SEE_TRUTH, Subject(name))
    released = is_released(folder, spec)
    if part == "private":
        if spec.withheld is None:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST, f"{name} withholds no part of its ground truth; ask for part=public."
            )
        if not sees_all and not released:
            raise AutoScorerError(
                ErrorCode.FORBIDDEN,
                f"The scores of the withheld part of {name} are not released yet; ask for part=public.",
            )
    rows = board_of(folder, spec, private=part == "private", as_team=not sees_all)
    if not sees_all:
        rows = [_rounded(row, number) for row in _shown(rows, spec.visibility, caller.team)]
    return BoardView(benchmark=name, part=part, released=released, team=caller.team, rows=rows)


def _shown(rows: list[Json], visibility: Visibility, team: str | None) -> list[Json]:
    """The rows for a team; its own as it is, of the others what the benchmark lets it see."""
    if visibility == "nothing":
        # A place would tell of the others.
        return [{**row, "place": None} for row in rows if row["team"] == team]
    hidden = dict.fromkeys((*_ITS_OWN, "team") if visibility == "anonymous" else _ITS_OWN)
    return [row if row["team"] == team else {**row, **hidden} for row in rows]


def _rounded(row: Json, number: Callable[[Any], Any]) -> Json:
    return {**row, **{key: number(row[key]) for key in ("score", "low", "high")}}
