"""Advisory locks on files. The kernel lets go of them when their holder dies, so a lock is never stale.

A lock belongs to an open file: processes that are forked share it, and it is free once all of them have closed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "acquire",
    "held",
    "is_at",
    "is_locked",
    "lock_byte",
    "open_lock",
    "open_shared_lock",
    "try_lock",
    "unlock",
    "unlock_byte",
    "wait_lock",
]


def open_lock(path: Path, *, mode: int = 0o644) -> int:
    """A descriptor of a lock file, which is made if it is not there; never of one that a link leads to.

    Raises:
        OSError: It can't be opened for writing.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def open_shared_lock(path: Path) -> int:
    """A descriptor of a lock file that every user may lock, whoever made it; its folder may be ``/run/lock``.

    Raises:
        OSError: It can't be opened or made.
    """
    while True:
        try:
            # Without O_CREAT: where everybody may write, the kernel does not let it open the file of another user
            # (fs.protected_regular).
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except PermissionError:
            # To read is enough for a lock, but for one on NFS.
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        # Nobody sees it before everybody may open it, whatever the umask is.
        made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o644)
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
        finally:
            os.close(fd)
            os.unlink(made)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file; False when another one holds it.

    Args:
        fd: The open file.
        shared: Whether others may have it too who share it.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Let go of an open file, for every process that shares it: one that was forked meanwhile would keep the lock."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def wait_lock(fd: int, *, shared: bool = False) -> None:
    """Lock an open file, and wait for it where another one holds it.

    Args:
        fd: Its descriptor. A lock that it has already becomes one of the other kind; others may come in between.
        shared: Hold it together with others that share it, and shut out who wants it alone.
    """
    fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def acquire(path: Path, *, mode: int = 0o644) -> int | None:
    """A locked descriptor of a file, to be closed by the caller; None when another one holds it.

    Raises:
        OSError: As ``open_lock``.
    """
    fd = open_lock(path, mode=mode)
    try:
        if try_lock(fd):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock, and hold it for the time of the block. Its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Whether a lock is held at this moment; False where there is no such file. Makes no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def is_at(fd: int, path: Path) -> bool:
    """Whether an open file is still the one at a path: whoever held the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def lock_byte(fd: int, offset: int) -> bool:
    """Lock one byte of an open file; False when another one holds it. The byte need not be there."""
    try:
        _set(fd, offset, fcntl.F_WRLCK)
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock_byte(fd: int, offset: int) -> None:
    """Let go of one byte, for every process that shares the open file."""
    _set(fd, offset, fcntl.F_UNLCK)


def _set(fd: int, offset: int, kind: int) -> None:
    # For this open file and not, as ``lockf`` does, for the whole process.
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, offset, 1, 0))
