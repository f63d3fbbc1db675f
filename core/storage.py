"""A disk without room: told apart from every other fault, named, and told with how much is free.

There are two disks that AutoScorer writes to: that of its home and that of the workspaces. Neither is the submission's
fault, neither is a fault of the code, and what was accepted can wait for room.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import AutoScorerError, ErrorCode, Stage, internal_error

__all__ = [
    "fault_of",
    "free_bytes",
    "full_database",
    "full_disk",
    "is_short_of_room",
    "naming_full_disks",
    "no_room",
    "sync_folder",
    "writing_home",
]

_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
# Bytes below which a disk counts as full: what could not be written may be larger than what is left.
_SHORT = 16 * 1024 * 1024
_HOME, _WORKSPACES, _BOTH, _ANOTHER = (
    "The home's disk",
    "The workspaces' disk",
    "The disk of the home and the workspaces",
    "A disk that AutoScorer writes to",
)
_DISKS = {_HOME: "home", _WORKSPACES: "workspaces", _BOTH: "home and workspaces", _ANOTHER: "another"}


@contextlib.contextmanager
def naming_full_disks(*, home: Path | None = None, workspace: Path | None = None) -> Iterator[None]:
    """Turn an ``OSError`` for want of room into the catalogue's error; every other exception passes.

    Args:
        home: The installation's folder, where it is written to.
        workspace: The workspace, where it is written to.

    Raises:
        AutoScorerError: ``STORAGE_FULL``.
    """
    try:
        yield
    except OSError as error:
        full = full_disk(error, home=home, workspace=workspace)
        if full is None:
            raise
        raise full from error


@contextlib.contextmanager
def writing_home(home: Path) -> Iterator[None]:
    """Turn every ``OSError`` of a write to the home into the catalogue's error.

    Raises:
        AutoScorerError: ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage ``config`` for another reason.
    """
    try:
        with naming_full_disks(home=home):
            yield
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"AutoScorer's own folder {str(home)!r} can't be written: {error.strerror}. Set AUTOSCORER_HOME to a "
            "folder you may write.",
            stage=Stage.CONFIG,
        ) from None


def sync_folder(folder: Path) -> None:
    """Have the disk hold which files a folder has: what was made, renamed or removed in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fault_of(error: Exception, *, home: Path | None = None, workspace: Path | None = None) -> AutoScorerError:
    """An exception that nobody foresaw as an error of the catalogue: ``STORAGE_FULL``, or a fault of ours."""
    return full_disk(error, home=home, workspace=workspace) or internal_error(error)


def full_disk(
    error: BaseException, *, home: Path | None = None, workspace: Path | None = None
) -> AutoScorerError | None:
    """``STORAGE_FULL`` for an exception that a full, exhausted or read-only disk has raised; else None.

    Args:
        error: The exception.
        home: The installation's folder, where that may be the one.
        workspace: The workspace, where that may be the one.
    """
    if not isinstance(error, OSError) or error.errno not in _ERRORS:
        return None
    if workspace is None and home is None:
        return _error(_ANOTHER, None, error.errno)
    disk, folder = _which(error, home, workspace)
    return _error(disk, folder, error.errno)


def full_database(error: BaseException | None, home: Path) -> AutoScorerError | None:
    """``STORAGE_FULL`` for what SQLite says when the home's disk has no room; else None."""
    import sqlite3

    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (
        # SQLite tells some of it in other words: what it could not extend, open or lock.
        code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) and is_short_of_room(home)
    ):
        return _error(_HOME, home, errno.EROFS if _is_read_only(home) else errno.ENOSPC)
    return None


def no_room(free: int, needed: int, *, stage: Stage | None = None) -> AutoScorerError:
    """``STORAGE_FULL`` for workspaces whose disk has less free than ``security.limits.free_disk`` (in bytes)."""
    return AutoScorerError(
        ErrorCode.STORAGE_FULL,
        f"The workspaces' disk has {free:,} bytes free and keeps {needed:,} (security.limits.free_disk). Make room "
        "there; tasks of the service wait for it.",
        stage=stage,
        details={"disk": "workspaces", "free_bytes": free, "needed_bytes": needed},
    )


def is_short_of_room(folder: Path, needed: int = 0) -> bool:
    """Whether a folder's disk is full, nearly full, or mounted read-only.

    Args:
        folder: The folder; it need not exist yet.
        needed: Bytes that must be free, where that is more than a little.
    """
    status = os.statvfs(_existing(folder))
    no_files = status.f_files > 0 and status.f_favail == 0
    return no_files or _is_read_only(folder) or status.f_bavail * status.f_frsize < max(_SHORT, needed)


def free_bytes(folder: Path) -> int:
    """Bytes that are free on a folder's disk."""
    status = os.statvfs(_existing(folder))
    return status.f_bavail * status.f_frsize


def _which(error: OSError, home: Path | None, workspace: Path | None) -> tuple[str, Path | None]:
    if home is None or workspace is None:
        return (_HOME, home) if workspace is None else (_WORKSPACES, workspace)
    if os.stat(_existing(home)).st_dev == os.stat(_existing(workspace)).st_dev:
        return _BOTH, home
    if isinstance(error.filename, str | bytes):
        named = Path(os.fsdecode(error.filename))
        # The longer one first: either may lie in the other.
        for disk, folder in sorted(((_HOME, home), (_WORKSPACES, workspace)), key=lambda pair: -len(str(pair[1]))):
            if named.is_relative_to(folder):
                return disk, folder
    # A write tells no name. Which of the two is it, as they are now?
    short = [pair for pair in ((_HOME, home), (_WORKSPACES, workspace)) if is_short_of_room(pair[1])]
    return min(short, key=lambda pair: free_bytes(pair[1]), default=(_ANOTHER, None))


def _error(disk: str, folder: Path | None, number: int) -> AutoScorerError:
    free = free_bytes(folder) if folder is not None else None
    left = "" if free is None else f": {free:,} bytes are free"
    match number:
        case errno.EROFS:
            why, what = "read-only", f"{disk} is mounted read-only"
        case errno.EDQUOT:
            why, what = "quota", f"The quota on {disk[0].lower()}{disk[1:]} is used up{left}"
        case _:
            why, what = "full", f"{disk} is full{left}"
    return AutoScorerError(
        ErrorCode.STORAGE_FULL,
        f"{what}. {'Make it writable' if why == 'read-only' else 'Make room there'}; tasks of the service wait for it.",
        details={"disk": _DISKS[disk], "free_bytes": free, "why": why},
    )


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(_existing(folder)).f_flag & os.ST_RDONLY)


def _existing(folder: Path) -> Path:
    for path in (folder, *folder.parents):
        if path.exists():
            return path
    return Path("/")
