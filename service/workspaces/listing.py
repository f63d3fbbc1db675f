"""Which workspaces there are, a page at a time."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import AutoScorerError, ErrorCode
from ...core.submissions import BENCHMARK_FILE, SUBMISSIONS
from ..policy import Act, Caller, may
from .ownership import subject_of
from .reading import WorkspaceView, view_workspace
from .roots import WorkspaceRoots

__all__ = ["MAX_DEPTH", "WorkspacePage", "is_text", "list_workspaces", "wrong_cursor"]

# Workspaces are looked for this many folders below a root: rounds of teams of models lie at 3.
MAX_DEPTH = 3


class WorkspacePage(BaseModel):
    """One page of workspaces, in the order of their names."""

    model_config = ConfigDict(extra="forbid")

    workspaces: list[WorkspaceView]
    next_cursor: str | None = Field(description="Ask for the following page with it; null on the last.")


def list_workspaces(
    roots: WorkspaceRoots, caller: Caller, *, limit: int, cursor: str | None = None, search: str | None = None
) -> WorkspacePage:
    """The workspaces under the roots, by name; those in another one and hidden folders do not count.

    Args:
        roots: Where workspaces may lie.
        caller: Who asks, and may see these alone.
        limit: Most entries of the page.
        cursor: ``next_cursor`` of the page before.
        search: Only names that hold this text, whatever its case.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave.
    """
    number, after = _read_cursor(cursor)
    wanted = search.casefold() if search else ""

    def sees(path: Path) -> bool:
        return may(caller, Act.SEE, subject_of(roots, path))

    def enters(benchmark: Path) -> bool:
        return sees(benchmark / SUBMISSIONS / caller.team if caller.team is not None else benchmark)

    def all_of_them() -> Iterator[tuple[int, tuple[str, ...], Path]]:
        for index, root in enumerate(roots.paths[number:], number):
            for parts in _walk(root, (), after if index == number else (), enters):
                path = root.joinpath(*parts)
                # A root within a root is listed once, where the inner one stands.
                is_root = parts and path in roots.paths
                if not is_root and is_text(path) and wanted in roots.name(path).casefold() and sees(path):
                    yield index, parts, path

    found = list(islice(all_of_them(), limit + 1))
    page = found[:limit]
    more = _cursor(*page[-1][:2]) if len(found) > limit else None
    return WorkspacePage(workspaces=[view_workspace(roots, path) for _, _, path in page], next_cursor=more)


def _walk(
    root: Path, parts: tuple[str, ...], after: tuple[str, ...], enters: Callable[[Path], bool], deepest: int = MAX_DEPTH
) -> Iterator[tuple[str, ...]]:
    """Workspaces at or below ``root/parts``, in order, from the one after ``after`` on; not below benchmarks that
    ``enters`` says no of."""
    folder = root.joinpath(*parts)
    if os.path.lexists(folder / "meta.json"):
        if parts > after or (not parts and not after):
            yield parts
        return
    if os.path.lexists(folder / BENCHMARK_FILE):
        if not enters(folder):
            return
        # Its submissions lie this deep, wherever it lies itself.
        deepest = len(parts) + 3
    if len(parts) >= deepest:
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        below = (*parts, name)
        if below >= after[: len(below)]:
            yield from _walk(root, below, after, enters, deepest)


def _cursor(index: int, parts: tuple[str, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps([index, *parts]).encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[int, tuple[str, ...]]:
    if cursor is None:
        return 0, ()
    try:
        index, *parts = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if isinstance(index, int) and all(isinstance(part, str) for part in parts):
            # A root that is a workspace itself holds no others.
            return (index, tuple(parts)) if parts else (index + 1, ())
    except (ValueError, TypeError, RecursionError):
        pass
    raise wrong_cursor()


def wrong_cursor() -> AutoScorerError:
    """The refusal of a cursor that no page gave."""
    return AutoScorerError(ErrorCode.INVALID_REQUEST, "cursor was not issued by this listing; begin without one.")


def is_text(path: Path) -> bool:
    """Whether a path can be told to somebody: the name of a folder may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
