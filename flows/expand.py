"""Which workspaces a batch means: folders, folders of workspaces, patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["Entry", "expand"]

_PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class Entry:
    """One line of a batch: a workspace to work on, or why there is none."""

    path: Path
    error: AutoScorerError | None = None
    # The position in the batch of the entry that names the same folder.
    duplicate_of: int | None = None

    @property
    def is_work(self) -> bool:
        """Whether there is something to do."""
        return self.error is None and self.duplicate_of is None


def expand(given: Iterable[str]) -> list[Entry]:
    """Find the workspaces, in the order given; those of a folder or a pattern in the order of their names.

    Args:
        given: Each a workspace (a folder with meta.json), a folder of workspaces (every folder directly inside that
            has a meta.json), or a pattern (``*``, ``?``, ``[]``, ``**``; what matches and has a meta.json).

    Returns:
        At least one entry for each: what is no workspace is an entry with its error.
    """
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for entry in (entry for item in given for entry in _find(item)):
        if entry.error is None:
            first = seen.setdefault(os.path.realpath(entry.path), len(entries))
            if first != len(entries):
                entry = Entry(entry.path, duplicate_of=first)
        entries.append(entry)
    return entries


def _find(item: str) -> Iterator[Entry]:
    path = Path(item)
    if _is_workspace(path):
        yield Entry(path)
        return
    if path.is_dir():
        candidates = sorted(path.iterdir())
        missing = AutoScorerError(
            ErrorCode.INVALID_META,
            f"{item!r} holds no meta.json, and no folder directly inside it does. Expected a workspace or a folder of "
            "workspaces.",
        )
    elif _PATTERN & set(item) and not os.path.lexists(item):
        candidates = [Path(found) for found in sorted(glob.glob(item, recursive=True))]
        missing = AutoScorerError(
            ErrorCode.WORKSPACE_NOT_FOUND, f"No folder with a meta.json matches the pattern {item!r}."
        )
    else:
        what = "is not a folder" if path.exists() else "does not exist"
        candidates = []
        missing = AutoScorerError(ErrorCode.WORKSPACE_NOT_FOUND, f"The workspace {item!r} {what}.")
    found = [Entry(candidate) for candidate in candidates if _is_workspace(candidate)]
    yield from found or [Entry(path, missing)]


def _is_workspace(path: Path) -> bool:
    return (path / "meta.json").is_file()
