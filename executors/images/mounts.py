"""Mount points in an unpacked image, whose root a model sees read-only: they must be there before it runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import AutoScorerError, ErrorCode
from ...core.text import escape

__all__ = ["mount_points"]

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def mount_points(rootfs: Path, folders: Iterable[str], files: Iterable[str] = ()) -> None:
    """Make empty folders and files where something is to be mounted; what is there already stays as it is.

    They stay in the image, for every later run of it. Several runs may do this at once, each of which holds the image.

    Args:
        rootfs: The root of an image.
        folders: Paths inside of it, from ``/`` on.
        files: The same, for what a single file is mounted on.

    Raises:
        AutoScorerError: ``CONTAINER_FAILED`` where the image has a link in a path, or a file where a folder must be, or
            the other way round. No mount may follow a link of a stranger's image.
        OSError: The disk failed.
    """
    root = os.open(rootfs, _OPEN_DIR)
    try:
        for path in folders:
            os.close(_folder(root, path, _parts(path)))
        for path in files:
            parts = _parts(path)
            if not parts:
                raise _refused(path, "that is a folder")
            parent = _folder(root, path, parts[:-1])
            try:
                _file(parent, path, parts[-1])
            finally:
                os.close(parent)
    finally:
        os.close(root)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or ".." in parts or "\0" in path:
        raise _refused(path, "its path must begin with '/' and hold no '..'")
    return parts


def _folder(root: int, path: str, parts: list[str]) -> int:
    """A descriptor of a folder, which is made if it is not there."""
    here = os.dup(root)
    try:
        for part in parts:
            below = _entered(here, path, part)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def _entered(parent: int, path: str, name: str) -> int:
    made = False
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
        made = True
    except FileExistsError:
        pass
    except OSError as error:
        raise _of_name(path, error) from error
    try:
        fd = os.open(name, _OPEN_DIR, dir_fd=parent)
    except OSError as error:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise
        raise _refused(path, f"{escape(name)!r} is not a folder there") from error
    if made:
        os.fchmod(fd, 0o755)  # after any umask
    return fd


def _file(parent: int, path: str, name: str) -> None:
    try:
        fd = os.open(name, _NEW_FILE, 0o644, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _refused(path, f"{escape(name)!r} is not a plain file there") from None
        return
    except OSError as error:
        raise _of_name(path, error) from error
    try:
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)


def _of_name(path: str, error: OSError) -> Exception:
    """The image's error where the kernel takes no such name; else the disk's."""
    return _refused(path, str(error.strerror)) if len(os.fsencode(path)) > 255 else error


def _refused(path: str, why: str) -> AutoScorerError:
    shown = escape(path if len(path) <= 120 else path[:120] + "…")
    return AutoScorerError(
        ErrorCode.CONTAINER_FAILED,
        f"Nothing can be mounted on {shown!r} in the image: {why[:300]}. Give the image a plain folder or nothing in "
        "that place.",
        details={"exit_code": 127, "log": []},
    )
