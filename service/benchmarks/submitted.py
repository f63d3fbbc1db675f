"""The submissions of a benchmark, a page at a time."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ...core.benchmark import BenchmarkFolder
from ...core.submissions import number_of, team_of
from ...schemas.benchmark import Kind
from ...schemas.task import TaskState
from ...tasks.benchmarks.listing import view_submission
from ..ledger.ledger import Ledger
from ..policy import Act, Caller, Subject, may
from ..workspaces.listing import wrong_cursor
from ..workspaces.roots import WorkspaceRoots

__all__ = ["SubmissionPage", "SubmissionView", "list_submissions"]

_CURSOR = re.compile(r"([a-z0-9][a-z0-9_-]{0,63}) ([0-9]{1,9})", re.ASCII)


class SubmissionView(BaseModel):
    """A submission in a listing."""

    model_config = ConfigDict(extra="forbid")

    team: str
    number: int = Field(description="Which of the team's.")
    workspace: str = Field(description="What `workspace` takes where its Result, log and artifacts are asked for.")
    kind: Kind | None = None
    label: str | None = None
    submitted_at: str | None = None
    phase: str | None = None
    late: bool = Field(False, description="It came after its phase's end, and is not on the leaderboard.")
    task_id: str | None = Field(None, description="The last task that worked on it.")
    state: TaskState | None = Field(None, description="Of that task.")
    score: float | None = Field(None, description="Of the last Result.")
    low: float | None = Field(None, description="Where the score's interval begins; null where it has none.")
    high: float | None = Field(None, description="Where it ends.")
    passed: bool | None = Field(None, alias="pass", description="Of the last Result.")
    board_only: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether teams are told of scores by the leaderboard alone, as it has a margin; absent where not.",
    )
    version: int | None = Field(None, description="Of the benchmark: which the last Result is of.")
    error: str | None = Field(None, description="The last Result's error code.")


class SubmissionPage(BaseModel):
    """One page of submissions, by team, the newest of each first."""

    model_config = ConfigDict(extra="forbid")

    submissions: list[SubmissionView]
    next_cursor: str | None = Field(description="Ask for the following page with it; null on the last.")
    total: int = Field(description="How many there are in all, on every page together.")


async def list_submissions(
    roots: WorkspaceRoots,
    ledger: Ledger,
    folder: BenchmarkFolder,
    name: str,
    caller: Caller,
    *,
    team: str | None,
    limit: int,
    cursor: str | None,
) -> SubmissionPage:
    """The submissions that somebody may see: a team its own, an organiser and an admin all.

    Args:
        roots: The workspace roots.
        ledger: Knows which task works on which.
        folder: The benchmark.
        name: Its name.
        caller: Who asks.
        team: Of this team alone.
        limit: Most of them.
        cursor: ``next_cursor`` of the page before.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave, ``INVALID_BENCHMARK``.
    """
    after = _CURSOR.fullmatch(cursor) if cursor is not None else None
    if cursor is not None and after is None:
        raise wrong_cursor()

    def look() -> tuple[list[Path], int, bool]:
        # Of a team alone without a look at the others' folders.
        of = caller.team if team is None else team
        found = [path for path in folder.submissions(of) if may(caller, Act.SEE, Subject(name, team_of(path)))]
        found.sort(key=_order)
        rest = found if after is None else [path for path in found if _order(path) > (after[1], -int(after[2]))]
        return rest[:limit], len(found), len(rest) > limit

    page, total, more = await asyncio.to_thread(look)
    board_only = (await asyncio.to_thread(folder.read)).leaderboard.margin is not None
    tasks = await ledger.latest_of([str(path) for path in page])

    def view(path: Path) -> SubmissionView:
        task = tasks.get(str(path))
        known = {key: value for key, value in view_submission(path).items() if key != "has_predictions"}
        return SubmissionView(
            **known,
            workspace=roots.name(path),
            board_only=board_only,
            task_id=task.id if task is not None else None,
            state=TaskState(task.state) if task is not None else None,
        )

    views = await asyncio.to_thread(lambda: [view(path) for path in page])
    last = views[-1] if more else None
    return SubmissionPage(
        submissions=views, next_cursor=None if last is None else f"{last.team} {last.number}", total=total
    )


def _order(path: Path) -> tuple[str, int]:
    return str(team_of(path)), -number_of(path)
