"""Files that a model's processes have deleted and still hold: they fill the disk, and no folder shows them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["DeletedFiles"]

# For so many seconds in a row some process must have kept us out before that counts as hiding: a process that is just
# being started by the engine does so for a moment, and means nothing by it.
HIDING = 2.0


class DeletedFiles:
    """Looks for them through a process file system.

    Args:
        processes: The run's processes as they are now, each as its folder in that file system.
    """

    def __init__(self, processes: Callable[[], Iterable[Path]]) -> None:
        self._processes = processes
        self._shut_since: float | None = None
        self.hiding = False
        """Whether processes have kept this one from looking, and not just for a moment.

        Root sees everything. The model's own user sees what does not make itself undumpable (``prctl``), as any
        process may.
        """

    def bytes_on(self, device: int) -> int:
        """Bytes on a device in files that were deleted and are still held open or mapped.

        Args:
            device: ``st_dev`` of the device.
        """
        found: dict[int, int] = {}
        shut = False
        for process in self._processes():
            try:
                held = [*_deleted_open(process, device), *_deleted_mapped(process, device)]
            except PermissionError:
                shut = True
                continue
            for inode, size in held:
                found[inode] = max(found.get(inode, 0), size)
        now = time.monotonic()
        self._shut_since = (self._shut_since or now) if shut else None
        if self._shut_since is not None and now - self._shut_since >= HIDING:
            self.hiding = True
        return sum(found.values())


def _deleted_open(process: Path, device: int) -> Iterator[tuple[int, int]]:
    # Each thread by itself: it can have a table of its own, and where the first has ended the process shows none.
    for thread in _names(process / "task"):
        folder = process / "task" / thread / "fd"
        try:
            names = os.listdir(folder)
        except PermissionError:
            if _ended(folder.parent):
                continue
            raise
        except OSError:
            continue
        for name in names:
            try:
                status = os.stat(f"{folder}/{name}")
            except OSError:
                continue
            if status.st_dev == device and status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                yield status.st_ino, max(status.st_size, status.st_blocks * 512)


def _deleted_mapped(process: Path, device: int) -> Iterator[tuple[int, int]]:
    for thread in _names(process / "task"):
        try:
            lines = (process / "task" / thread / "maps").read_text(errors="replace").splitlines()
        except PermissionError:
            if _ended(process / "task" / thread):
                continue
            raise
        except OSError:
            continue
        for line in lines:
            if not line.endswith(" (deleted)"):
                continue
            addresses, _, offset, where, inode = line.split(maxsplit=5)[:5]
            major, minor = (int(part, 16) for part in where.split(":"))
            if os.makedev(major, minor) == device:
                start, end = (int(part, 16) for part in addresses.split("-"))
                yield int(inode), int(offset, 16) + end - start
        if lines:
            return  # threads share their memory; only one that has ended shows none


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _ended(thread: Path) -> bool:
    """Whether a thread is a zombie, which holds nothing, or gone."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True
