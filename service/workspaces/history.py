"""Every Result that a workspace has had: the one that stands, and those before it in ``output/history/``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import result_id
from ...schemas.result import Result, Versioning
from .beneath import open_beneath
from .listing import wrong_cursor
from .reading import MAX_RESULT, STANDING, stored_result

__all__ = ["HistoryItem", "HistoryPage", "list_history", "past_result", "result_of_digest"]

Part = Literal["scorer", "params", "truth", "input", "image"]

_ID = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z(-[0-9]{1,6})?", re.ASCII)


class HistoryItem(BaseModel):
    """A Result in the history of a workspace, in short."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str = Field(description="Its name in the history.", examples=["20261122T210000.123456Z"])
    time: str | None = Field(None, description="When it was made.")
    score: float | None = None
    low: float | None = Field(None, description="Where the score's interval begins; null where it has none.")
    high: float | None = Field(None, description="Where it ends.")
    metric: str | None = Field(None, description="What the score is called.")
    pass_threshold: float | None = Field(None, description="What it took to pass; null where nothing was set.")
    passed: bool | None = Field(None, alias="pass")
    rank: str | None = None
    board_only: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether teams are told of scores by the leaderboard alone, as it has a margin; absent where not.",
    )
    scorer: str | None = None
    error: str | None = Field(None, description="Its error code; BAD_FORMAT for a file that is not a Result.")
    changed: list[Part] = Field(
        default_factory=list,
        description="What is another one than for the Result before, by the digests: a score that moved may be due to "
        "this, and not to the model.",
    )
    flow_run_id: str | None = Field(None, description="Of the Prefect flow run that made it; null outside of any.")
    task_id: str | None = Field(
        None, description="The task that made it; null where none did, or one that the token may not see."
    )
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
    # One more, which the last of the page is compared with.
    results = {each: _read(root, files[each]) for each in wanted[: limit + 1]}
    changed = _changes(results)
    items = [_item(each, results[each], changed[each], files[each] == STANDING) for each in page]
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


def result_of_digest(root: Path, sha256: str) -> Result | None:
    """The Result with these very bytes, wherever it lies by now; None where it is gone.

    Args:
        root: The workspace's folder.
        sha256: Of its file.
    """
    files = _files(root)
    for item in sorted(files, key=_order, reverse=True):
        with contextlib.suppress(AutoScorerError, OSError, ValueError), open_beneath(root, files[item]) as file:
            if os.fstat(file.fileno()).st_size <= MAX_RESULT:
                content = file.read()
                if hashlib.sha256(content).hexdigest() == sha256:
                    return Result.model_validate_json(content)
    return None


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


def _changes(results: dict[str, Result | None]) -> dict[str, list[Part]]:
    """What changed with each of these Results, newest first. One that does not say what it was made by changes
    nothing."""
    known: dict[tuple[Part, str], Any] = {}
    changed: dict[str, list[Part]] = {}
    for item, result in reversed(results.items()):
        told = {key: value for key, value in _told(result.versioning) if value} if result is not None else {}
        changed[item] = [*dict.fromkeys(key[0] for key, value in told.items() if known.get(key, value) != value)]
        known |= told
    return changed


def _told(of: Versioning) -> Iterator[tuple[tuple[Part, str], Any]]:
    """What decides a score beside the predictions, as far as a Result says it."""
    yield ("scorer", "id"), of.scorer
    yield ("scorer", "version"), of.scorer_version
    yield ("scorer", "source"), of.scorer_sha256
    yield ("scorer", "beside"), of.scorer_siblings
    # Written as text: no params at all are something that was said.
    yield ("params", "all"), json.dumps(of.params, sort_keys=True, default=str) if of.scorer_version else None
    yield ("truth", "digest"), of.ground_truth_sha256
    yield ("input", "digest"), of.input_sha256
    yield ("image", "digest"), of.image_digest or of.image


def _item(item: str, result: Result | None, changed: list[Part], stands: bool) -> HistoryItem:
    if result is None:
        return HistoryItem(id=item, error=ErrorCode.BAD_FORMAT.value, stands=stands)
    summary, of = result.summary, result.versioning
    extra: dict[str, Any] = summary.model_extra or {}
    metric = next((each for each, value in extra.items() if value == summary.score), None)
    interval = result.intervals.get(metric) if metric is not None else None
    threshold = of.params.get("pass_threshold")
    return HistoryItem(
        id=item,
        time=of.timestamp,
        score=summary.score,
        low=interval.low if interval is not None else None,
        high=interval.high if interval is not None else None,
        metric=metric,
        pass_threshold=threshold if isinstance(threshold, int | float) and not isinstance(threshold, bool) else None,
        passed=summary.passed,
        rank=summary.rank,
        board_only=of.benchmark is not None and of.benchmark.board_only,
        scorer=of.scorer,
        error=result.error.code if result.error is not None else None,
        changed=changed,
        flow_run_id=of.flow_run_id,
        stands=stands,
    )
