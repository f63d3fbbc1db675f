"""Scorer files as they lie on the disk: which there are, what is in them, whether they have changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

__all__ = ["is_there", "read_source", "same_file", "scorer_files", "source_sha256", "unchanged"]

MAX_SOURCE_BYTES = 8 * 1024 * 1024


def scorer_files(directory: Path) -> list[Path]:
    """The files of a folder that are loaded from it: ``*.py``, but no helpers (``_*``), tests and hidden files.

    Subfolders are not looked into.

    Raises:
        OSError: The folder can't be read.
    """
    return sorted(
        Path(entry.path)
        for entry in os.scandir(directory)
        if entry.name.endswith(".py")
        and not entry.name.startswith(("_", ".", "test_"))
        and not entry.name.endswith("_test.py")
        and entry.name not in ("conftest.py", "setup.py")
        and not _is_folder(entry)
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: a file that can't be read, which hides none of the others
        return False


def read_source(path: Path) -> bytes:
    """The bytes of a source file. A FIFO or a device must not hang a watcher.

    Raises:
        OSError: Not there, not readable, no plain file, or larger than any scorer.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("it is not a plain file")
        data = file.read(MAX_SOURCE_BYTES + 1)
    if len(data) > MAX_SOURCE_BYTES:
        raise OSError(f"it is larger than {MAX_SOURCE_BYTES // 1024**2} MiB")
    return data


def source_sha256(path: Path) -> str:
    """Of a source file, in hex; "" when it can't be read."""
    try:
        return hashlib.sha256(read_source(path)).hexdigest()
    except OSError:
        return ""


def unchanged(files: Mapping[Path, str]) -> bool:
    """Whether each of these files still has its sha256 ("" for one that is not there)."""
    return all(source_sha256(path) == sha256 for path, sha256 in files.items())


def same_file(one: Path | None, other: Path | None) -> bool:
    """Whether both are there and are one file (by different names, through a link)."""
    try:
        return one is not None and other is not None and os.path.samefile(one, other)
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether the file exists; also true when that can't be told (a file server that stumbles)."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
