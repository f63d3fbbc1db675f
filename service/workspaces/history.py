"""Every Result that a workspace has had: the one that stands, and those before it in ``output/history/``."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import result_id
from ...schemas.result import Result
from .beneath import open_beneath
from .listing import wrong_cursor
from .reading import STANDING, stored_result

__all__ = ["HistoryItem", "HistoryPage", "list_history", "past_result"]

_ID = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z(-[0-9]{1,6})?", re.ASCII)


class HistoryItem(BaseModel):
    """A Result in the history of a workspace, in short."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str = Field(description="Its name in the history.", examples=["20261122T210000.123456Z"])
    time: str | None = Field(None, description="When it was made.")
    score: float | None = None
    metric: str | None = Field(None, description="What the score is called.")
    passed: bool | None = Field(None, alias="pass")
    rank: str | None = None
    board_only: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether teams are told of scores by the leaderboard alone, as it has a margin; absent where not.",
    )
    scorer: str | None = None
    error: str | None = Field(None, description="Its error code; BAD_FORMAT for a file that is not a Result.")
    stands: bool = Field(description="Whether it is the workspace's Result today.")


class HistoryPage(BaseModel):
    """One page of a workspace's Results, newest first."""

    model_config = ConfigDict(extra="forbid")

    workspace: str
    results: list[HistoryItem]
    next_cursor: str | None = Field(description="Ask for the following page with it; null on the last.")
    total: int = Field(description="How many Results there are in all, on every page together.")


def list_history(root: Path, name: str, *, limit: int, cursor: str | None = None) -> HistoryPage:
    """The Results of a workspace, newest first, the one that stands among them.

    Args:
        root: The workspace's folder.
        name: What it is called.
        limit: Most of them.
        cursor: ``next_cursor`` of the page before.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave.
    """
    if cursor is not None and not _ID.fullmatch(cursor):
        raise wrong_cursor()
    files = _files(root)
    wanted = sorted((each for each in files if cursor is None or _order(each) < _order(cursor)), key=_order)[::-1]
    page = wanted[:limit]
    items = [_item(each, _read(root, files[each]), files[each] == STANDING) for each in page]
    more = page[-1] if len(wanted) > limit else None
    return HistoryPage(workspace=name, results=items, next_cursor=more, total=len(files))


def past_result(root: Path, name: str, item: str) -> Result:
    """One Result of the history, whole.

    Args:
        root: The workspace's folder.
        name: What it is called.
        item: ``id`` of a ``HistoryItem``.

    Raises:
        AutoScorerError: ``NOT_FOUND``, ``BAD_FORMAT`` for a file that is not a Result.
    """
    parts = _files(root).get(item) if _ID.fullmatch(item) else None
    if parts is None:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND,
            f"The workspace {name!r} has no Result {item[:100]!r} in its history; the list of it says which there are.",
        )
    result = _read(root, parts)
    if result is None:
        raise AutoScorerError(ErrorCode.BAD_FORMAT, f"{'/'.join(parts)} can't be read as a Result.")
    return result


def _files(root: Path) -> dict[str, tuple[str, ...]]:
    """Where each Result lies, by its id."""
    found: dict[str, tuple[str, ...]] = {}
    folder = root / "output" / "history"
    if not (root / "output").is_symlink() and not folder.is_symlink():
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name.startswith("result-") and name.endswith(".json") and _ID.fullmatch(item := name[7:-5]):
                    found[item] = ("output", "history", name)
    with contextlib.suppress(AutoScorerError), open_beneath(root, STANDING) as file:
        # Where it lies in the history as well (a process was killed in between), it is shown once.
        found[result_id(os.fstat(file.fileno()).st_mtime)] = STANDING
    return found


def _order(item: str) -> tuple[str, int]:
    moment, _, number = item.partition("-")
    return moment, int(number or 1)


def _read(root: Path, parts: tuple[str, ...]) -> Result | None:
    with contextlib.suppress(AutoScorerError):
        return stored_result(root, parts)
    return None


def _item(item: str, result: Result | None, stands: bool) -> HistoryItem:
    if result is None:
        return HistoryItem(id=item, error=ErrorCode.BAD_FORMAT.value, stands=stands)
    summary = result.summary
    extra: dict[str, Any] = summary.model_extra or {}
    return HistoryItem(
        id=item,
        time=result.versioning.timestamp,
        score=summary.score,
        metric=next((each for each, value in extra.items() if value == summary.score), None),
        passed=summary.passed,
        rank=summary.rank,
        board_only=result.versioning.benchmark is not None and result.versioning.benchmark.board_only,
        scorer=result.versioning.scorer,
        error=result.error.code if result.error is not None else None,
        stands=stands,
    )
