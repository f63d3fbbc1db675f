"""What may be read of a workspace from outside: its Result, its log, its artifacts.

Nothing else of a workspace leaves it, the ground truth least of all.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.meta import load_job
from ...core.workspace import MEDIA_TYPES, SHARED, TABLE_SUFFIXES, Workspace
from ...schemas.result import ErrorInfo, Result
from .beneath import open_beneath
from .roots import WorkspaceRoots

__all__ = [
    "MAX_RESULT",
    "STANDING",
    "ArtifactFile",
    "RunLog",
    "WorkspaceView",
    "open_artifact",
    "read_logs",
    "read_result",
    "stored_result",
    "view_workspace",
]

# Where the last Result lies.
STANDING = ("output", "result.json")
# Nothing that we write as a Result or a run's record comes near; a file planted there must not fill the memory.
MAX_RESULT, _MAX_RUN_INFO = 16 * 1024**2, 1024**2
# A log is cut to security.limits.log, unless somebody else has put it there.
_MAX_TAIL = 8 * 1024**2
_READ_BACK = 64 * 1024
# Shared artifacts are small: tables of at most some hundred labels, and plots.
_MAX_SHARED = 16 * 1024**2
_MAX_PARTS = 32

# Beside those that scorers write by ``ArtifactWriter``.
_MEDIA_TYPES = MEDIA_TYPES | {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jsonl": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".log": "text/plain",
}


class WorkspaceView(BaseModel):
    """A workspace in a listing."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="What `workspace` takes: relative to the workspace roots.", examples=["team-a"])
    job_id: str | None = None
    task_type: str | None = None
    scorer: str | None = None
    has_ground_truth: bool = False
    has_predictions: bool = False
    score: float | None = Field(None, description="Of the last Result.")
    passed: bool | None = Field(None, alias="pass", description="Of the last Result.")
    rank: str | None = Field(None, description="Of the last Result.")
    board_only: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether teams are told of scores by the leaderboard alone, as it has a margin; absent where not.",
    )
    scored_at: str | None = Field(None, description="When the last Result was made, or its error arose.")
    error: str | None = Field(None, description="The last Result's error code, or that of a meta.json nobody can use.")


class RunLog(BaseModel):
    """What a model wrote, and how its container ran."""

    model_config = ConfigDict(extra="forbid")

    workspace: str
    log: str = Field(description="The last lines of logs/container.log; stdout and stderr together.")
    lines: int = Field(description="Lines in `log`.")
    truncated: bool = Field(description="Whether earlier lines were left out.")
    left_out: int = Field(0, description="Bytes of the file that stand before `log`.")
    size: int = Field(description="Bytes of the whole file.")
    run_info: dict[str, Any] | None = Field(description="logs/run_info.json; null before a run has ended.")


@dataclass(frozen=True)
class ArtifactFile:
    """An artifact, open for reading; whoever takes it closes ``file``."""

    file: IO[bytes]
    name: str
    size: int
    media_type: str

    @classmethod
    def of(cls, file: IO[bytes], name: str) -> ArtifactFile:
        """A file that is open; how it is served follows from its name."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        media_type = _MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")
        return cls(file, name, size, f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type)


# --- one workspace ---------------------------------------------------------------------------------------------------


def read_result(roots: WorkspaceRoots, workspace: str) -> Result:
    """The Result that lies in a workspace.

    Raises:
        AutoScorerError: As ``roots.workspace``; ``NOT_FOUND`` when nothing has been scored there yet.
    """
    space = Workspace(roots.workspace(workspace))
    result = stored_result(space.root)
    if result is None:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND,
            f"The workspace {roots.name(space.root)!r} has no Result yet. Submit it, and look again after that.",
        )
    if result.error is not None:
        result.error = ErrorInfo.model_validate(roots.located(result.error.model_dump(), space.root))
    return result


def read_logs(roots: WorkspaceRoots, workspace: str, tail: int) -> RunLog:
    """The end of a workspace's container log, also while the model runs.

    Args:
        roots: Where workspaces may lie.
        workspace: The workspace.
        tail: Most lines.

    Raises:
        AutoScorerError: As ``roots.workspace``; ``NOT_FOUND`` when no model has run there yet.
    """
    space = Workspace(roots.workspace(workspace))
    info = _json(space.root, ("logs", "run_info.json"))
    try:
        with open_beneath(space.root, ("logs", "container.log")) as file:
            text, left_out, size = _tail(file, tail)
    except AutoScorerError:
        if info is None:
            raise AutoScorerError(
                ErrorCode.NOT_FOUND, f"No model has run in the workspace {roots.name(space.root)!r} yet: it has no log."
            ) from None
        text, left_out, size = "", 0, 0
    return RunLog(
        workspace=roots.name(space.root),
        log=text,
        lines=text.count("\n") + (not text.endswith("\n") and text != ""),
        truncated=left_out > 0,
        left_out=left_out,
        size=size,
        run_info=info,
    )


def open_artifact(roots: WorkspaceRoots, workspace: str, path: str, *, everything: bool) -> ArtifactFile:
    """Open what a scorer left for readers: a file in output/artifacts, or one in output that the Result lists.

    Args:
        roots: Where workspaces may lie.
        workspace: The workspace.
        path: Relative to the workspace, as the Result lists it, or to output/artifacts.
        everything: The artifact itself; else what stands for it where the ground truth may not be seen, its shared
            version.

    Raises:
        AutoScorerError: As ``roots.workspace``; ``NOT_FOUND`` for what is not an artifact, whatever else lies there;
            ``FORBIDDEN`` for what takes ``everything``.
    """
    space = Workspace(roots.workspace(workspace))
    name = PurePosixPath(path)
    unknown = AutoScorerError(
        ErrorCode.NOT_FOUND,
        f"The workspace {roots.name(space.root)!r} has no artifact of that name; its Result lists those there are.",
        details={"artifact": path[:200]},
    )
    plain = name.parts and not name.is_absolute() and ".." not in name.parts and len(name.parts) <= _MAX_PARTS
    if "\0" in path or not plain:
        raise unknown
    parts = name.parts if name.parts[0] == "output" else ("output", "artifacts", *name.parts)
    if parts[:2] != ("output", "artifacts"):
        result = stored_result(space.root)
        if result is None or not any(PurePosixPath(a.path).parts == parts for a in result.artifacts.values()):
            raise unknown
    try:
        file = open_beneath(space.root, parts)
    except AutoScorerError:
        raise unknown from None
    if not everything:
        file.close()
        file = _shared(space, parts)
    return ArtifactFile.of(file, parts[-1])


def _shared(space: Workspace, parts: tuple[str, ...]) -> IO[bytes]:
    """The shared version of an artifact, as its scorer wrote it for the Result that lies there.

    Raises:
        AutoScorerError: ``FORBIDDEN`` when there is none: what else lies in that folder came from somebody else.
    """
    below = parts[2:] if parts[:2] == ("output", "artifacts") else ()
    name = below[-1] if len(below) == 1 or (len(below) == 2 and below[0] == SHARED) else None
    path = f"output/artifacts/{SHARED}/{name}"
    result = stored_result(space.root) if name is not None else None
    for artifact in result.disclosed.artifacts.values() if result is not None else ():
        if artifact.path == path:
            with contextlib.suppress(AutoScorerError, OSError):
                with open_beneath(space.root, tuple(path.split("/"))) as file:
                    content = file.read(_MAX_SHARED + 1)
                # Its bytes, whatever has been put there since.
                if hashlib.sha256(content).hexdigest() == artifact.sha256:
                    return io.BytesIO(content)
    raise AutoScorerError(
        ErrorCode.FORBIDDEN,
        f"The artifact {parts[-1][:100]!r} may hold ground truth: it takes a token of the role admin, or the "
        "setting api.show_errors. To all is served what a Result lists for them: counts and plots of the built-in "
        "scorers that tell nothing of few rows. A Result of an earlier AutoScorer has none; score the workspace again.",
    )


def view_workspace(roots: WorkspaceRoots, root: Path) -> WorkspaceView:
    """What a listing says of a workspace.

    Args:
        roots: Where workspaces may lie.
        root: The folder, absolute, links resolved.
    """
    view: dict[str, Any] = {"name": roots.name(root)}
    try:
        space = Workspace(root)
        job = load_job(space)
        view |= {"job_id": job.job_id, "task_type": job.task_type, "scorer": job.scorer}
        view["has_ground_truth"] = _has_table(space.input, "gt")
        view["has_predictions"] = _has_table(space.output, "pred")
        result = stored_result(space.root)
    except AutoScorerError as error:
        return WorkspaceView(**view, error=error.code.value)
    if result is not None:
        view |= {"score": result.summary.score, "pass": result.summary.passed, "rank": result.summary.rank}
        view["scored_at"] = result.versioning.timestamp
        view["error"] = result.error.code if result.error else None
        view["board_only"] = result.versioning.benchmark is not None and result.versioning.benchmark.board_only
    return WorkspaceView(**view)


def _has_table(folder: Path, stem: str) -> bool:
    return any(os.path.lexists(folder / (stem + suffix)) for suffix in TABLE_SUFFIXES)


# --- reading ---------------------------------------------------------------------------------------------------------


def stored_result(root: Path, parts: tuple[str, ...] = STANDING) -> Result | None:
    """A Result that lies in a workspace; None for what can't be read as one.

    Raises:
        AutoScorerError: ``BAD_FORMAT`` for one that is larger than any that was written here.
    """
    try:
        with open_beneath(root, parts) as file:
            data = file.read(MAX_RESULT + 1)
    except (AutoScorerError, OSError):
        return None
    if len(data) > MAX_RESULT:
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            f"{'/'.join(parts)} is larger than {MAX_RESULT:,} bytes, and is not read. Score the workspace again.",
            stage=Stage.API,
        )
    with contextlib.suppress(ValueError):
        return Result.model_validate_json(data)
    return None


def _json(root: Path, parts: tuple[str, ...]) -> dict[str, Any] | None:
    """A small object; None for what is not one."""
    with contextlib.suppress(AutoScorerError, OSError, ValueError, RecursionError):
        with open_beneath(root, parts) as file:
            data = json.loads(file.read(_MAX_RUN_INFO))
        return data if isinstance(data, dict) else None
    return None


def _tail(file: IO[bytes], lines: int) -> tuple[str, int, int]:
    """The last lines of a file, the bytes before them, and its size; reads from its end, so much at most."""
    size = position = os.fstat(file.fileno()).st_size
    blocks: deque[bytes] = deque()
    newlines = 0
    first = max(size - _MAX_TAIL, 0)
    # One more than wanted: the newline that ends the line before.
    while position > first and newlines <= lines:
        length = min(_READ_BACK, position - first)
        position -= length
        file.seek(position)
        blocks.appendleft(file.read(length))
        newlines += blocks[0].count(b"\n")
    kept = b"".join(blocks).split(b"\n")
    ends = kept[-1] == b""
    wanted = kept[-(lines + ends) :] if lines else []
    text = b"\n".join(wanted)
    return text.decode("utf-8", "replace"), size - len(text), size
