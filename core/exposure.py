"""Keeping the ground truth away from the model: which parts of a workspace it may see, and whether one holds it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import AutoScorerError, ErrorCode, Stage
from .provenance import sha256_file
from .text import escape
from .workspace import Workspace, open_regular

__all__ = ["build_context", "exposures", "ground_truths", "input_digest", "refuse_links", "visible_inputs"]

# Never part of an image: the data, the answers, what runs left, and what describes the job.
NOT_CODE = frozenset(
    {
        "input",
        "output",
        "logs",
        "meta.json",
        "submission.json",
        ".autoscorer",
        ".git",
        "image.tar",
        "image.tar.gz",
    }
)


def is_ground_truth(name: str) -> bool:
    """Whether a name directly under ``input/`` is the ground truth's; backups such as ``gt.csv.bak`` count."""
    return name == "gt" or name.startswith(("gt.", "gt_", "gt-", "gt ", ".gt"))


def ground_truths(workspace: Workspace) -> list[Path]:
    """Every file directly under ``input/`` that is hidden as ground truth: more than one where backups lie about."""
    try:
        names = sorted(os.listdir(workspace.input))
    except OSError:
        return []
    return [workspace.input / name for name in names if is_ground_truth(name) and (workspace.input / name).is_file()]


def visible_inputs(workspace: Workspace) -> list[Path]:
    """What of ``input/`` the model sees: everything directly under it but the ground truth, in order.

    Raises:
        AutoScorerError: ``MISSING_FILE`` when ``input/`` is no folder, or it or an entry is a link.
    """
    if workspace.input.is_symlink():
        raise _is_a_link("input")
    try:
        names = sorted(os.listdir(workspace.input))
    except (FileNotFoundError, NotADirectoryError):
        raise AutoScorerError(
            ErrorCode.MISSING_FILE, "The workspace has no input/ folder.", stage=Stage.VALIDATION
        ) from None
    except OSError as error:
        raise _unreadable(workspace, workspace.input, error) from None
    found = []
    for name in names:
        if is_ground_truth(name):
            continue
        path = workspace.input / name
        if path.is_symlink():
            raise _is_a_link(f"input/{name}")
        found.append(path)
    return found


def refuse_links(workspace: Workspace) -> None:
    """Refuse links in the data that lead nowhere where the model runs.

    One that is relative and leads to something in the same entry of ``input/`` leads there in a container as well. Any
    other would be followed on this host by nobody: the model would find that it is broken.

    Raises:
        AutoScorerError: ``MISSING_FILE``, naming the links.
    """
    found = [
        path
        for entry in visible_inputs(workspace)
        if entry.is_dir()
        for path, _ in _walk(entry)
        if path.is_symlink() and not _leads_inside(path, entry)
    ]
    if not found:
        return
    names = [escape(workspace.named(path)) for path in found]
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    are = "is a link that leads" if len(names) == 1 else "are links that lead"
    raise AutoScorerError(
        ErrorCode.MISSING_FILE,
        f"{', '.join(names[:5])}{more} {are} out of its folder under input/ or to nothing: the model would find it "
        "broken. Put the data itself there; a relative link to a file of the same folder may stay.",
        stage=Stage.VALIDATION,
        details={"files": names[:50]},
    )


def _leads_inside(link: Path, entry: Path) -> bool:
    try:
        return not os.path.isabs(os.readlink(link)) and link.resolve(strict=True).is_relative_to(entry.resolve())
    except (OSError, RuntimeError):
        return False


def _is_a_link(name: str) -> AutoScorerError:
    # A mount would follow it on the host, to wherever it leads.
    return AutoScorerError(
        ErrorCode.MISSING_FILE,
        f"{escape(name)} is a link, which the model can't follow. Put the data itself there.",
        stage=Stage.VALIDATION,
    )


def _unreadable(workspace: Workspace, path: Path, error: OSError) -> AutoScorerError:
    name = escape(workspace.named(path))
    return AutoScorerError(
        ErrorCode.MISSING_FILE,
        f"{name} can't be read: {error.strerror}. Give this user the right to read it.",
        stage=Stage.VALIDATION,
        details={"file": name},
    )


def build_context(workspace: Workspace) -> list[Path]:
    """Files of the workspace that an image is built from, in order: never the data, the answers or the results."""
    return sorted(
        path
        for entry in workspace.root.iterdir()
        if entry.name not in NOT_CODE
        for path in ([entry] if entry.is_symlink() or not entry.is_dir() else _tree(entry))
    )


def exposures(workspace: Workspace, ground_truth: Path, *, code: bool = True) -> list[str]:
    """What leads to the ground truth's bytes where the model could read them, as paths in the workspace.

    Files with the same bytes, links to one, and links in the data to a folder that the ground truth lies in.
    Compared by size first, then by content: a large data folder costs a ``stat`` a file.

    Args:
        workspace: The workspace.
        ground_truth: A file in its input.
        code: Also in what an image is built from.

    Raises:
        AutoScorerError: ``MISSING_FILE`` when a file that has to be compared can't be read; ``OUTPUT_REJECTED`` when
            the ground truth is not a plain file.
    """
    with open_regular(ground_truth, stage=Stage.VALIDATION) as file:
        size = os.fstat(file.fileno()).st_size
    truth: bytes | None = None
    found = []
    for path in _readable_by_model(workspace, code=code):
        try:
            status = path.stat()
        except OSError:
            continue  # a link to nowhere
        if stat.S_ISDIR(status.st_mode):
            # Only links come as folders. In a container this one leads nowhere, elsewhere it might.
            if path.is_relative_to(workspace.input) and ground_truth.resolve().is_relative_to(path.resolve()):
                found.append(path)
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size != size or size == 0:
            continue
        truth = truth or _content(workspace, ground_truth)
        if _content(workspace, path) == truth:
            found.append(path)
    return sorted(escape(workspace.named(path)) for path in found)


def _content(workspace: Workspace, path: Path) -> bytes:
    try:
        return sha256_file(path)
    except OSError as error:
        raise _unreadable(workspace, path, error) from None


def _readable_by_model(workspace: Workspace, *, code: bool) -> Iterator[Path]:
    if workspace.input.is_dir():
        for entry in visible_inputs(workspace):
            yield from _tree(entry) if entry.is_dir() else [entry]
    if code:
        yield from build_context(workspace)


def _tree(root: Path) -> Iterator[Path]:
    """Everything below a folder that is no folder itself, links to folders included; in order, and in any depth."""
    for path, is_folder in _walk(root):
        if not is_folder:
            yield path


def _walk(root: Path) -> Iterator[tuple[Path, bool]]:
    # os.walk recurses, and a thousand folders in each other end it.
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError:
            continue  # what we may not list, the model may not either
        yield from ((folder / name, is_folder) for name, is_folder in inside)
        pending.extend(folder / name for name, is_folder in reversed(inside) if is_folder)


def input_digest(workspace: Workspace) -> str:
    """sha256 over the names and contents of what the model sees of ``input/``.

    Per file and folder: length and bytes of the path, then what it is, then for a file the sha256 of the content,
    for a link that of its target's name. Folders are walked in the order of their names, so the digest depends on
    nothing but names and bytes.

    Raises:
        AutoScorerError: ``MISSING_FILE`` when a file can't be read.
    """
    total = hashlib.sha256()
    for entry in visible_inputs(workspace):
        for path in [entry, *(path for path, _ in _walk(entry))] if entry.is_dir() else [entry]:
            name = os.fsencode(path.relative_to(workspace.input))
            total.update(len(name).to_bytes(8, "little") + name)
            if path.is_symlink():
                total.update(b"link" + hashlib.sha256(os.fsencode(os.readlink(path))).digest())
            elif path.is_dir():
                total.update(b"dir ")
            elif path.is_file():
                total.update(b"file" + _content(workspace, path))
            else:
                total.update(b"none")
    return total.hexdigest()
