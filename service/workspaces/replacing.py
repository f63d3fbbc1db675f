"""Workspaces that are exchanged for another one, or deleted: in one rename, so a killed process leaves one of both.

What a workspace came to outlives its replacement: the Results and the kept artifacts of the old one are in the new one
before that takes its place.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.kept import FOLDER
from ...core.scores import record_removal
from ...core.workspace import Workspace, write_atomic
from ...executors.files import exchange, link_tree, remove_tree
from .roots import WorkspaceRoots
from .unpacked import sync

__all__ = ["DeletedWorkspace", "delete_workspace", "means", "put_back", "refuse_root", "replace_workspace", "root_of"]

# In the hidden folder: where the workspace belongs that is exchanged there.
_TARGET = "target"
_PATTERN = frozenset("*?[")


class DeletedWorkspace(BaseModel):
    """A workspace that was deleted."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="What it was called.", examples=["team-a"])


def root_of(roots: WorkspaceRoots, workspace: Path) -> Path:
    """The innermost root that a workspace lies in."""
    inside = [root for root in roots.paths if workspace.is_relative_to(root)]
    return max(inside, key=lambda root: len(root.parts))


def refuse_root(roots: WorkspaceRoots, workspace: Path) -> None:
    """Refuse to touch a workspace that is, or holds, a workspace root.

    Raises:
        AutoScorerError: ``FORBIDDEN``.
    """
    if any(root.is_relative_to(workspace) for root in roots.paths):
        raise AutoScorerError(
            ErrorCode.FORBIDDEN,
            "This workspace is a workspace root itself, and is not replaced or deleted over HTTP. See to its folder.",
        )


def means(items: Iterable[Any], workspace: Path) -> bool:
    """Whether one of a batch's folders and patterns may mean a workspace."""
    for item in map(str, items):
        if _PATTERN & set(item):
            base = Path(*(parts := Path(item).parts)[: next(n for n, part in enumerate(parts) if _PATTERN & set(part))])
            found = fnmatch.fnmatchcase(str(workspace), item) or ("**" in item and workspace.is_relative_to(base))
        else:
            found = workspace.is_relative_to(item)
        if found:
            return True
    return False


def replace_workspace(new: Path, target: Path, hidden: Path) -> None:
    """Put the folder ``new`` where the workspace ``target`` is; that one is in ``hidden`` then.

    Args:
        new: A complete workspace in ``hidden``, on the file system of ``target``.
        target: The workspace.
        hidden: The hidden folder of this upload.

    Raises:
        AutoScorerError: ``CONFLICT`` when a run or scoring holds the workspace.
    """
    space = Workspace(target)
    with space.lock():
        space.archive_result()
        (new / "output").mkdir(exist_ok=True)
        _carry_over(space.output / "history", new / "output" / "history")
        (new / FOLDER[0]).mkdir(exist_ok=True)
        _carry_over(space.root.joinpath(*FOLDER), new.joinpath(*FOLDER))
        write_atomic(hidden / _TARGET, os.fsencode(target))
        sync(new)
        try:
            exchange(new, target)
        except OSError:
            put_back(hidden)
            raise
        sync(target.parent)


def _carry_over(old: Path, new: Path) -> None:
    if old.is_dir() and not old.is_symlink() and not link_tree(old, new):
        shutil.copytree(old, new, symlinks=True)


def put_back(hidden: Path) -> None:
    """Give a workspace its place again whose exchange was cut off between two renames, where one can't be had."""
    with contextlib.suppress(OSError):
        target = Path(os.fsdecode((hidden / _TARGET).read_bytes()))
        aside = hidden / "named" / f"{target.name}.replaced"
        if aside.is_dir() and not os.path.lexists(target):
            aside.rename(target)
            sync(target.parent)


def delete_workspace(roots: WorkspaceRoots, target: Path, prefix: str) -> DeletedWorkspace:
    """Delete a workspace: away by one rename, and gone from the disk after that, at the next start if need be.

    Args:
        roots: Where workspaces may lie.
        target: The workspace.
        prefix: What hidden folders are called that are removed at the start.

    Raises:
        AutoScorerError: ``CONFLICT`` when a run or scoring holds it, ``FORBIDDEN`` for a root,
            ``BACKEND_UNAVAILABLE`` when it can't be moved.
    """
    refuse_root(roots, target)
    name, root = roots.name(target), root_of(roots, target)
    with (space := Workspace(target)).lock():
        try:
            hidden = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            target.rename(hidden / "deleted")
            sync(root)
            record_removal(space)
        except OSError as error:
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"The workspace {name!r} can't be moved away: {error.strerror}.",
                stage=Stage.API,
            ) from None
    # It is gone for everybody; what can't be removed now goes at the next start.
    with contextlib.suppress(OSError):
        remove_tree(hidden / "deleted")
        hidden.rmdir()
    return DeletedWorkspace(name=name)
