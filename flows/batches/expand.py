"""Which workspaces a batch means: folders, folders of workspaces, patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.submissions import BENCHMARK_FILE

__all__ = ["Entry", "expand", "fixed_folder"]

_PATTERN = frozenset("*?[")
# What glob.escape makes of a character that is meant as it stands.
_ESCAPED = re.compile(r"\[([*?[])\]")


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


def expand(given: Iterable[str], roots: Sequence[Path] = ()) -> list[Entry]:
    """Find the workspaces, in the order given; those of a folder or a pattern in the order of their names.

    A workspace that is found, and not named itself, must lie where it was looked for: a link that a stranger puts
    into a folder of workspaces must not lead a batch to another's. What lies inside another workspace does not count,
    whatever a stranger has put there. Nor does what lies in a benchmark, unless it was looked for there: who may work
    on many workspaces need not be one who may see a benchmark's submissions.

    Args:
        given: Each a workspace (a folder with meta.json), a folder of workspaces (every folder directly inside that
            has a meta.json), or a pattern (``*``, ``?``, ``[]``, ``**``; what matches and has a meta.json).
        roots: Folders that links may lead to all the same (``settings.workspace_roots``).

    Returns:
        At least one entry for each: what is no workspace is an entry with its error.
    """
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for entry in (entry for item in given for entry in _find(item, roots)):
        if entry.error is None:
            first = seen.setdefault(os.path.realpath(entry.path), len(entries))
            if first != len(entries):
                entry = Entry(entry.path, duplicate_of=first)
        entries.append(entry)
    return entries


def _find(item: str, roots: Sequence[Path]) -> Iterator[Entry]:
    path = Path(item)
    if _is_workspace(path):
        yield Entry(path)
        return
    base = path
    if path.is_dir():
        try:
            candidates = sorted(path.iterdir())
        except OSError:  # then nothing inside can be worked on either
            candidates = []
        missing = AutoScorerError(
            ErrorCode.INVALID_META,
            f"{item!r} holds no meta.json, and no folder directly inside it does. Expected a workspace or a folder of "
            "workspaces.",
        )
    elif _PATTERN & set(item) and not os.path.lexists(item):
        base = fixed_folder(path)
        candidates = [Path(found) for found in sorted(glob.glob(item, recursive=True))]
        missing = AutoScorerError(
            ErrorCode.WORKSPACE_NOT_FOUND, f"No folder with a meta.json matches the pattern {item!r}."
        )
    else:
        what = "is not a folder" if path.exists() else "does not exist"
        candidates = []
        missing = AutoScorerError(ErrorCode.WORKSPACE_NOT_FOUND, f"The workspace {item!r} {what}.")
    allowed = [os.path.realpath(folder) for folder in (base, *roots)]
    found = [
        Entry(candidate, _astray(candidate, allowed))
        for candidate in candidates
        if _counts(candidate, allowed) and not _in_a_benchmark(candidate, allowed)
    ]
    yield from found or [Entry(path, missing)]


def fixed_folder(pattern: Path) -> Path:
    """The folder that a pattern begins with."""
    fixed = []
    for part in pattern.parts:
        if _PATTERN & set(_ESCAPED.sub("", part)):
            break
        fixed.append(_ESCAPED.sub(r"\1", part))
    return Path(*fixed)


def _astray(path: Path, allowed: Sequence[str]) -> AutoScorerError | None:
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(folder) for folder in allowed):
        return None
    return AutoScorerError(
        ErrorCode.FORBIDDEN,
        f"{path.name!r} is a link that leads out of the folder it was found in. Name the workspace itself, or add "
        "the place where it lies to workspace_roots.",
        stage=Stage.VALIDATION,
    )


def _counts(path: Path, allowed: Sequence[str]) -> bool:
    """Whether it is a workspace, and lies in no other as far as was looked."""
    if not _is_workspace(path):
        return False
    above = (p for p in Path(os.path.realpath(path)).parents if any(p.is_relative_to(folder) for folder in allowed))
    return not any(os.path.lexists(folder / "meta.json") for folder in above)


def _in_a_benchmark(path: Path, allowed: Sequence[str]) -> bool:
    """Whether it lies in a benchmark that was not looked into: the first of the folders is where it was looked."""
    base = Path(allowed[0])
    above = (p for p in Path(os.path.realpath(path)).parents if any(p.is_relative_to(folder) for folder in allowed))
    return any(os.path.lexists(p / BENCHMARK_FILE) and not base.is_relative_to(p) for p in above)


def _is_workspace(path: Path) -> bool:
    return (path / "meta.json").is_file()
