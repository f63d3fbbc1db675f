"""What was scored in a benchmark: a line for every Result, in the order in which they were written.

The leaderboard is made from these lines, so it reads one file however many submissions there are. Scores of the
withheld part stand in a file of their own, in a folder that nobody but the service's user may open.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from ..schemas.benchmark import Submission
from ..schemas.result import Result
from .benchmark import BenchmarkFolder
from .locks import held
from .provenance import utc_now
from .submissions import number_of, team_of
from .workspace import Workspace, write_atomic

__all__ = ["read_scores", "read_submission", "record", "record_private", "record_removal", "withheld_folder"]

Json = dict[str, Any]


def withheld_folder(folder: BenchmarkFolder) -> Path:
    """Where the scores of the withheld part are kept; made if it is not there."""
    path = folder.state / "withheld"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def record(space: Workspace, result: Result) -> None:
    """Note down the Result of a submission; of any other workspace nothing.

    Args:
        space: The workspace, held; the Result is written.
        result: Its Result, or the one that says why there is none.
    """
    if space.benchmark is None:
        return
    folder = BenchmarkFolder(space.benchmark)
    folder.state.mkdir(exist_ok=True)
    _append(folder.state / "scores.jsonl", _line(space, result))


def record_private(space: Workspace, result: Result) -> None:
    """Keep the Result of the withheld part, where no team's token reaches."""
    assert space.benchmark is not None
    folder = BenchmarkFolder(space.benchmark)
    place = withheld_folder(folder)
    content = json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    write_atomic(
        place / str(team_of(space.root)) / f"{space.root.name}.json",
        content.encode("utf-8", "backslashreplace"),
        mode=0o600,
    )
    _append(place / "scores.jsonl", _line(space, result))


def record_removal(space: Workspace) -> None:
    """Note down that a submission is there no more: it has no place, and its private Result goes.

    Args:
        space: The workspace as it was; of one that is no submission nothing is noted.
    """
    if space.benchmark is None:
        return
    folder, team = BenchmarkFolder(space.benchmark), str(team_of(space.root))
    line = {"team": team, "number": number_of(space.root), "at": utc_now(), "removed": True}
    for path in (folder.state / "scores.jsonl", folder.state / "withheld" / "scores.jsonl"):
        if path.is_file():
            _append(path, line)
    (folder.state / "withheld" / team / f"{space.root.name}.json").unlink(missing_ok=True)


def read_scores(folder: BenchmarkFolder, *, private: bool = False) -> list[Json]:
    """The lines of submissions that are there, in the order in which they were written.

    Args:
        folder: The benchmark.
        private: Those of the withheld part.
    """
    try:
        text = (folder.state / "withheld" / "scores.jsonl" if private else folder.state / "scores.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    # Only what was written to its end: the last line may be that of a process that died over it.
    whole = text[: text.rfind(b"\n") + 1].rstrip(b"\n")
    # Twice as fast as the standard library's, and a benchmark may have a hundred thousand lines.
    found: list[Json] = from_json(b"[" + whole.replace(b"\n", b",") + b"]")
    if b'"removed"' not in whole:
        return found
    # What stands before the line of a removal is of a submission that is gone; its number may have been given again.
    kept: dict[tuple[str, int], list[tuple[int, Json]]] = {}
    for place, line in enumerate(found):
        key = (line["team"], line["number"])
        if line.get("removed"):
            kept.pop(key, None)
        else:
            kept.setdefault(key, []).append((place, line))
    return [line for _, line in sorted((each for lines in kept.values() for each in lines), key=lambda pair: pair[0])]


def read_submission(root: Path) -> Submission | None:
    """What a submission says it is; None where it says nothing that can be read."""
    try:
        return Submission.model_validate_json((root / "submission.json").read_bytes())
    except (OSError, ValueError):
        return None


def _line(space: Workspace, result: Result) -> Json:
    about, summary, versioning = read_submission(space.root), result.summary, result.versioning
    names = list(summary.model_extra or {})
    interval = result.intervals.get(names[0]) if names else None
    return {
        "team": team_of(space.root),
        "number": number_of(space.root),
        "at": versioning.timestamp or utc_now(),
        "version": versioning.benchmark.version if versioning.benchmark else None,
        "metric": names[0] if names else None,
        "score": summary.score,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "higher_is_better": summary.higher_is_better,
        "pass": summary.passed,
        "error": result.error.code if result.error else None,
        "label": about.label if about else None,
        "submitted_at": about.created_at if about else None,
        "late": about.late if about else False,
    }


def _append(path: Path, line: Json) -> None:
    data = json.dumps(line, ensure_ascii=True, allow_nan=False).encode() + b"\n"
    with held(path.with_suffix(".lock")):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            # After one who died while writing: what is left of that line must not spoil this one.
            if size and os.pread(fd, 1, size - 1) != b"\n":
                os.ftruncate(fd, os.pread(fd, size, 0).rfind(b"\n") + 1)
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
