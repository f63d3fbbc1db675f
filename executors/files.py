"""Folders that a stranger filled: measure, audit and remove them.

Nothing here follows a link, and nothing here recurses: a model can nest folders a million deep, longer than any
path and any stack. Everything goes through folder file descriptors.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.text import escape
from .base import KillReason, RunLimits

__all__ = [
    "MAX_DEPTH",
    "RESERVED",
    "Audit",
    "audit",
    "exchange",
    "link_tree",
    "measure",
    "rejected",
    "remove_tree",
    "too_much",
]

MAX_DEPTH = 32
# What the model may not deliver: these names under output/ are ours.
RESERVED = ("result.json", "artifacts", "history")

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Audit:
    """What an audited output folder holds."""

    files: int
    size: int
    notes: tuple[str, ...]


def measure(root: Path, limits: RunLimits, hidden: int = 0) -> KillReason | None:
    """Say whether a folder in use already holds more than allowed; stops at the first excess.

    Args:
        root: The output folder of a running model. Files may come and go meanwhile.
        limits: Its ``disk`` counts apparent sizes, so a sparse file counts in full.
        hidden: Bytes that the run holds elsewhere on the same disk, in files it has deleted.

    Folders that their owner may not read are made readable: a mode is no place to hide in.
    """
    entries, size = 0, hidden
    if size > limits.disk:
        return KillReason.DISK
    try:
        for _, _, status, depth in _walk(root):
            entries += 1
            if stat.S_ISREG(status.st_mode):
                size += _held(status)
            if entries > limits.output_files or depth > MAX_DEPTH:
                return KillReason.FILES
            if size > limits.disk:
                return KillReason.DISK
    except OSError:
        return None  # it changes under us; the next look or the audit after the end will see
    return None


def audit(root: Path, limits: RunLimits) -> Audit:
    """Check a model's output after its end and make it ours: plain files with plain modes, or nothing.

    Every file is opened without following links and loses setuid bits and foreign ownership. Names that are ours
    (``result.json``, ``artifacts``, ``history``) are removed and noted.

    Args:
        root: The folder, no longer in use.
        limits: Caps on count and bytes.

    Raises:
        AutoScorerError: ``OUTPUT_REJECTED`` for a link, FIFO, socket or device; ``RESOURCE_ERROR`` for too much.
    """
    os.close(_open_dir(root, None))  # whatever modes the model left it with
    notes = []
    for name in RESERVED:
        if os.path.lexists(root / name):
            remove_tree(root / name)
            notes.append(f"The model wrote output/{name}; that name is AutoScorer's, so it was ignored.")
    files = entries = size = held = 0
    for parent, name, status, depth in _walk(root, ours=True):
        entries += 1
        if entries > limits.output_files or depth > MAX_DEPTH:
            raise too_much("files", f"more than {limits.output_files:,} files, or folders more than {MAX_DEPTH} deep")
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise rejected(name, _kind(status.st_mode))
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o600, dir_fd=parent)
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            opened = os.fstat(fd)
            if not stat.S_ISREG(opened.st_mode):  # pragma: no cover - nothing runs that could swap it
                raise rejected(name, _kind(opened.st_mode))
            if os.geteuid() == 0:
                os.fchown(fd, 0, os.getegid())
            os.fchmod(fd, 0o644)
        finally:
            os.close(fd)
        files += 1
        size += opened.st_size
        held += _held(opened)
        if held > limits.disk:
            raise too_much("disk", f"more than {limits.disk:,} bytes")
    return Audit(files, size, tuple(notes))


def _held(status: os.stat_result) -> int:
    """Bytes a file counts for: its size, also where it is sparse; its blocks where more than one is held beyond that.

    ``fallocate`` can reserve a whole disk for an empty file, whatever RLIMIT_FSIZE says.
    """
    blocks = status.st_blocks * 512
    return blocks if blocks > status.st_size + 4096 else status.st_size


def _walk(root: Path, *, ours: bool = False) -> Iterator[tuple[int, str, os.stat_result, int]]:
    """Yield (folder descriptor, name, lstat, depth) of everything below ``root``, depth first.

    With ``ours``, folders are first made readable and owned by this process. Deeper than ``MAX_DEPTH`` nothing is
    opened, so at most that many descriptors are held.
    """
    top = _opened(root, None)
    stack = [(top, _names(top, in_order=ours))]
    try:
        while stack:
            fd, names = stack[-1]
            name = next(names, None)
            if name is None:
                os.close(fd)
                stack.pop()
                continue
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield fd, name, status, len(stack)
            if stat.S_ISDIR(status.st_mode) and len(stack) <= MAX_DEPTH:
                child = _enter(name, fd, ours=ours)
                if child is not None:
                    stack.append((child, _names(child, in_order=ours)))
    finally:
        for fd, _ in stack:
            with contextlib.suppress(OSError):
                os.close(fd)


def _names(fd: int, *, in_order: bool) -> Iterator[str]:
    """Names in a folder; in order for a stable verdict, or as they come, so that a huge folder costs nothing."""
    if in_order:
        yield from sorted(os.listdir(fd))
        return
    with os.scandir(fd) as entries:
        for entry in entries:
            yield entry.name


def _enter(name: str, parent: int, *, ours: bool) -> int | None:
    try:
        fd = _opened(name, parent)
    except OSError:
        if ours:
            raise
        return None
    if ours:
        if os.geteuid() == 0:
            os.fchown(fd, 0, os.getegid())
        os.fchmod(fd, 0o755)
    return fd


def remove_tree(path: Path) -> None:
    """Remove a file or a folder of any depth and any modes; what is not there is fine.

    Folders inside folders are first moved up to the top, so no path ever grows.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        path.unlink(missing_ok=True)
        return
    # The common case is shallow and quick; it must not be trusted with the rest.
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path)
        return
    top = _open_dir(path, None)
    # Nobody who left names in there can have guessed this one.
    prefix, moved = secrets.token_hex(8), 0
    try:
        pending = True
        while pending:
            pending = False
            for name in os.listdir(top):
                if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=top)
                    continue
                pending = True
                child = _open_dir(name, top)
                try:
                    for inner in os.listdir(child):
                        if stat.S_ISDIR(os.stat(inner, dir_fd=child, follow_symlinks=False).st_mode):
                            moved += 1
                            # A folder that can't be written can't be moved either: its own '..' changes.
                            os.chmod(inner, 0o700, dir_fd=child)
                            os.rename(inner, f"{prefix}-{moved}", src_dir_fd=child, dst_dir_fd=top)
                        else:
                            os.unlink(inner, dir_fd=child)
                finally:
                    os.close(child)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    path.rmdir()


def _open_dir(name: Path | str, parent: int | None) -> int:
    fd = _opened(name, parent)
    with contextlib.suppress(PermissionError):
        os.fchmod(fd, 0o700)
    return fd


def _opened(name: Path | str, parent: int | None) -> int:
    """Open a folder, never through a link; one of our own that its modes keep us out of is made readable first."""
    try:
        fd = os.open(name, _OPEN_DIR, dir_fd=parent)
    except PermissionError:
        # By a descriptor and not by name: a model still running could put a link there in between.
        place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{place}", 0o700)
            fd = os.open(".", _OPEN_DIR, dir_fd=place)
        finally:
            os.close(place)
    status = os.fstat(fd)
    if status.st_uid == os.geteuid() and status.st_mode & 0o500 != 0o500:
        os.fchmod(fd, stat.S_IMODE(status.st_mode) | 0o500)
    return fd


def link_tree(source: Path, target: Path) -> bool:
    """Make ``target`` the same file, or a folder of the same files by hard links, without following any link.

    Args:
        source: A file, or a folder of any depth; a link to one is taken as the link that it is.
        target: A path that does not exist yet, on the same mount.

    Returns:
        False where that can't be done; nothing is left then.
    """
    try:
        if stat.S_ISDIR(os.lstat(source).st_mode):
            target.mkdir()
            _link_folders(_pair(source, target))
        else:
            os.link(source, target, follow_symlinks=False)
    except OSError:
        remove_tree(target)
        return False
    return True


def _link_folders(top: tuple[int, int]) -> None:
    # By descriptors: somebody who changes the source meanwhile must not lead us out of it.
    stack: list[tuple[tuple[int, int], list[str]]] = [(top, [])]
    try:
        stack[0][1].extend(_link_files(*top))
        while stack:
            (here, there), folders = stack[-1]
            if not folders:
                stack.pop()
                os.close(here)
                os.close(there)
                continue
            name = folders.pop()
            os.mkdir(name, dir_fd=there)
            below = _pair(name, name, here, there)
            stack.append((below, []))
            stack[-1][1].extend(_link_files(*below))
    finally:
        for pair, _ in stack:
            for fd in pair:
                os.close(fd)


def _link_files(here: int, there: int) -> list[str]:
    """Link what is no folder; the names of the folders."""
    folders = []
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.link(entry.name, entry.name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    return folders


def _pair(source: Path | str, target: Path | str, here: int | None = None, there: int | None = None) -> tuple[int, int]:
    """A folder and its new counterpart, opened; the latter may be listed by anybody who gets that far."""
    left = os.open(source, _OPEN_DIR, dir_fd=here)
    try:
        right = os.open(target, _OPEN_DIR, dir_fd=there)
        os.fchmod(right, 0o755)
    except BaseException:
        os.close(left)
        raise
    return left, right


def exchange(new: Path, place: Path) -> None:
    """Put the folder ``new`` where ``place`` is and ``place`` where ``new`` was, in one step of the kernel."""
    if not os.path.lexists(place):
        os.rename(new, place)
        new.mkdir()
        return
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    cwd, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2 is not None and renameat2(cwd, os.fsencode(new), cwd, os.fsencode(place), flag) == 0:
        return
    # A file system without RENAME_EXCHANGE (NFS): two renames, with the old folder beside the new in between.
    aside = new.with_name(new.name + ".replaced")
    os.rename(place, aside)
    os.rename(new, place)
    os.rename(aside, new)


def rejected(name: str, kind: str) -> AutoScorerError:
    """The error for something in an output that is no plain file."""
    return AutoScorerError(
        ErrorCode.OUTPUT_REJECTED,
        f"The model left {kind} in output: {escape(name)[:200]!r}. Only plain files are taken.",
        details={"file": escape(name)[:200], "kind": kind},
    )


def too_much(resource: str, what: str) -> AutoScorerError:
    """The error for an output that is larger than allowed."""
    return AutoScorerError(
        ErrorCode.RESOURCE_ERROR,
        f"The model left {what} in output.",
        stage=Stage.EXECUTION,
        details={"resource": resource},
    )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
