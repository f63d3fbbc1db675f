"""The artifacts of a task: the very bytes that its Result lists, whatever has been scored in its workspace since.

They are kept beside the workspace (``core.kept``), and served only while they have the sha256 of the task's own Result:
so a report is never another run's, and what is gone is said to be gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import AutoScorerError, ErrorCode
from ..core.kept import FOLDER, is_digest
from ..core.workspace import SHARED
from ..schemas.result import Artifact
from ..schemas.task import TaskView
from .workspaces.beneath import open_beneath
from .workspaces.reading import ArtifactFile
from .workspaces.roots import WorkspaceRoots

__all__ = ["TaskArtifact", "TaskArtifacts", "list_task_artifacts", "open_task_artifact", "report_of"]

# What is hashed and served from memory; a larger file is hashed, and served by the same descriptor.
_IN_MEMORY = 32 * 1024**2
_READ = 1024 * 1024
_ARTIFACTS = ("output", "artifacts")


class TaskArtifact(BaseModel):
    """A file that a task's Result lists."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Its key in the Result.", examples=["report"])
    file: str = Field(description="Below /tasks/{task_id}/artifacts/.", examples=["report.html"])
    path: str = Field(description="Where it lay in the workspace, as the Result lists it.")
    size: int | None
    sha256: str | None
    media_type: str | None
    kept: bool = Field(description="Whether it can still be had.")


class TaskArtifacts(BaseModel):
    """What a task's Result lists, as far as whoever asks may see it."""

    model_config = ConfigDict(extra="forbid")

    task_id: str
    workspace: str | None
    artifacts: list[TaskArtifact]


def list_task_artifacts(roots: WorkspaceRoots, task: TaskView, *, everything: bool) -> TaskArtifacts:
    """The artifacts of a task, which comes with its whole Result. Reads files: each is there only if its bytes are.

    Without ``everything`` it is what stands for them where the ground truth may not be seen.
    """
    root = _root(roots, task)
    listed = []
    for name, artifact in _listed(task, everything).items():
        opened = _verified(root, artifact) if root is not None else None
        if opened is not None:
            opened.close()
        listed.append(
            TaskArtifact(
                name=name,
                file=_file(artifact),
                path=artifact.path if everything else _told_path(artifact),
                size=artifact.size,
                sha256=artifact.sha256,
                media_type=artifact.media_type,
                kept=opened is not None,
            )
        )
    return TaskArtifacts(task_id=task.id, workspace=task.workspace, artifacts=listed)


def open_task_artifact(roots: WorkspaceRoots, task: TaskView, wanted: str, *, everything: bool) -> ArtifactFile:
    """Open an artifact of a task, wanted by its file's name, its path as the Result lists it, or its key in the Result.

    Raises:
        AutoScorerError: ``NOT_FOUND`` for what the Result does not list and for what is not kept any more,
            ``FORBIDDEN`` for what takes ``everything``.
    """
    artifact = _find(_listed(task, everything), wanted)
    if artifact is None:
        if not everything and _find(_listed(task, True), wanted) is not None:
            raise AutoScorerError(
                ErrorCode.FORBIDDEN,
                f"The artifact {wanted[:100]!r} may hold ground truth: it takes a token of the role admin, or the "
                "setting api.show_errors.",
            )
        left = "has left no Result with artifacts" if not _listed(task, True) else "has no such artifact"
        raise AutoScorerError(
            ErrorCode.NOT_FOUND,
            f"The task {task.id} {left}; GET /tasks/{task.id}/artifacts lists what there is.",
            details={"artifact": wanted[:200]},
        )
    root = _root(roots, task)
    file = _verified(root, artifact) if root is not None else None
    if file is None:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND, _gone(task, wanted, root is not None), details={"artifact": wanted[:200]}
        )
    return ArtifactFile.of(file, PurePosixPath(artifact.path).name)


def report_of(task: TaskView, *, everything: bool) -> str | None:
    """The file of a task's report, below its artifacts; None where it has none for whoever asks."""
    artifact = _listed(task, everything).get("report")
    return _file(artifact) if artifact is not None else None


def _gone(task: TaskView, wanted: str, has_workspace: bool) -> str:
    if not has_workspace:
        why = f"its workspace {task.workspace!r} was deleted or moved, and its artifacts with it"
    else:
        why = (
            "of earlier Results a workspace keeps artifacts for api.keep_days and up to api.keep_artifacts bytes, the "
            "oldest go first, and a file that was changed no longer counts as one"
        )
    return (
        f"The artifact {wanted[:100]!r} of the task {task.id} is not kept any more: {why}. The task's Result still "
        "stands in the task; score again to have new artifacts."
    )


def _root(roots: WorkspaceRoots, task: TaskView) -> Path | None:
    with contextlib.suppress(AutoScorerError):
        return roots.workspace(task.workspace) if task.workspace is not None else None
    return None


def _listed(task: TaskView, everything: bool) -> dict[str, Artifact]:
    result: Any = task.result or {}
    if task.action not in ("score", "pipeline"):
        return {}
    given = result.get("artifacts") if everything else (result.get("disclosed") or {}).get("artifacts")
    found = {}
    for name, each in (given if isinstance(given, dict) else {}).items():
        with contextlib.suppress(ValidationError):
            found[name] = Artifact.model_validate(each)
    return found


def _find(listed: dict[str, Artifact], wanted: str) -> Artifact | None:
    """By the file's name first: that is how the links of a report say it."""
    for artifact in listed.values():
        if wanted in (_file(artifact), artifact.path, _told_path(artifact)):
            return artifact
    return listed.get(wanted)


def _told_path(artifact: Artifact) -> str:
    """Where those find it who are not told of the ground truth."""
    return artifact.path.replace(f"/{SHARED}/", "/", 1)


def _file(artifact: Artifact) -> str:
    parts = PurePosixPath(artifact.path).parts
    below = parts[2:] if parts[:2] == _ARTIFACTS else parts
    return "/".join(below[1:] if below[:1] == (SHARED,) else below)


def _verified(root: Path, artifact: Artifact) -> IO[bytes] | None:
    """The file with the very bytes that the Result lists; None when they are nowhere any more."""
    if not is_digest(artifact.sha256):
        return None
    path = PurePosixPath(artifact.path)
    places: list[tuple[str, ...]] = [(*FOLDER, str(artifact.sha256))]
    if ".." not in path.parts and not path.is_absolute():
        places.append(path.parts)
    for parts in places:
        with contextlib.suppress(AutoScorerError, OSError):
            file = open_beneath(root, parts)
            found = _hashed(file)
            if found is not None and found[1] == artifact.sha256:
                return found[0]
            file.close()
    return None


def _hashed(file: IO[bytes]) -> tuple[IO[bytes], str] | None:
    content = file.read(_IN_MEMORY + 1)
    if len(content) <= _IN_MEMORY:
        file.close()
        return io.BytesIO(content), hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(content)
    while chunk := file.read(_READ):
        digest.update(chunk)
    file.seek(0)
    return file, digest.hexdigest()
