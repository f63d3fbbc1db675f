"""Keeping the ground truth away from the model: which parts of a workspace it may see, and whether one holds it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import AutoScorerError, ErrorCode, Stage
from .provenance import sha256_file
from .workspace import Workspace

__all__ = ["build_context", "exposures", "input_digest", "visible_inputs"]

# Never part of an image: the data, the answers, what runs left, and what describes the job.
NOT_CODE = frozenset({"input", "output", "logs", "meta.json", ".autoscorer", ".git", "image.tar", "image.tar.gz"})


def is_ground_truth(name: str) -> bool:
    """Whether a name directly under ``input/`` is the ground truth's; backups such as ``gt.csv.bak`` count."""
    return name == "gt" or name.startswith(("gt.", "gt_", "gt-", "gt ", ".gt"))


def visible_inputs(workspace: Workspace) -> list[Path]:
    """What of ``input/`` the model sees: everything directly under it but the ground truth, in order.

    Raises:
        AutoScorerError: ``MISSING_FILE`` when ``input/`` is no folder or an entry is a link.
    """
    try:
        names = sorted(os.listdir(workspace.input))
    except (FileNotFoundError, NotADirectoryError):
        raise AutoScorerError(
            ErrorCode.MISSING_FILE, "The workspace has no input/ folder.", stage=Stage.VALIDATION
        ) from None
    found = []
    for name in names:
        if is_ground_truth(name):
            continue
        path = workspace.input / name
        if path.is_symlink():
            # A mount would follow it on the host, to wherever it leads.
            raise AutoScorerError(
                ErrorCode.MISSING_FILE,
                f"input/{name} is a link, which the model can't follow. Put the data itself there.",
                stage=Stage.VALIDATION,
            )
        found.append(path)
    return found


def build_context(workspace: Workspace) -> list[Path]:
    """Files of the workspace that an image is built from, in order: never the data, the answers or the results."""
    return sorted(
        path
        for entry in workspace.root.iterdir()
        if entry.name not in NOT_CODE
        for path in ([entry] if entry.is_symlink() or not entry.is_dir() else _tree(entry))
    )


def exposures(workspace: Workspace, ground_truth: Path) -> list[str]:
    """Files that hold the ground truth's bytes where the model could read them, as paths in the workspace.

    Compared by size first, then by content: a large data folder costs a ``stat`` a file.
    """
    size = ground_truth.stat().st_size
    truth: bytes | None = None
    found = []
    for path in _readable_by_model(workspace):
        try:
            status = path.stat()
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size != size or size == 0:
            continue
        truth = truth or sha256_file(ground_truth)
        if sha256_file(path) == truth:
            found.append(str(path.relative_to(workspace.root)))
    return sorted(found)


def _readable_by_model(workspace: Workspace) -> Iterator[Path]:
    if workspace.input.is_dir():
        for entry in visible_inputs(workspace):
            yield from [entry] if not entry.is_dir() else _tree(entry)
    yield from build_context(workspace)


def _tree(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            yield Path(folder) / name
        for name in folders:
            if (Path(folder) / name).is_symlink():
                yield Path(folder) / name


def input_digest(workspace: Workspace) -> str:
    """sha256 over the names and contents of what the model sees of ``input/``.

    Per file, in order of path: length and bytes of the path, then the sha256 of the content (of the target's name
    for a link). So the digest depends on nothing but names and bytes.
    """
    total = hashlib.sha256()
    for entry in visible_inputs(workspace):
        for path in [entry] if entry.is_symlink() or not entry.is_dir() else _tree(entry):
            name = os.fsencode(path.relative_to(workspace.input))
            total.update(len(name).to_bytes(8, "little") + name)
            if path.is_symlink():
                total.update(b"link" + hashlib.sha256(os.fsencode(os.readlink(path))).digest())
            elif path.is_file():
                total.update(b"file" + sha256_file(path))
            else:
                total.update(b"none")
    return total.hexdigest()
