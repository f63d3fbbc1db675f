"""A folder tree that a stranger describes, written below one folder and nowhere else.

Everything goes through folder descriptors, one component at a time, and the kernel follows no link. Where a path leads
through a link of the tree, the link is resolved here as in a root of its own: ``/`` and ``..`` never lead out of it.
What is written belongs to who writes it: no owner, no setuid, no setgid, no sticky bit, no extended attribute.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Sequence
from typing import Protocol

__all__ = ["MAX_LEVELS", "Tree"]

# Each folder on the way is a descriptor. No image that people use is half as deep.
MAX_LEVELS = 100
_MAX_LINKS = 40
# Components of all paths together that may have to be gone through. Links could have every path take thousands.
_MAX_STEPS = 10_000_000
# Characters of all paths together, which are kept in memory for the time of a layer.
_MAX_CHARACTERS = 256 * 1024**2
_CHUNK = 1024 * 1024
_LATEST = 2**33
# What a file takes of the disk beside its bytes, roughly.
_PAGE = 4096

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Source(Protocol):
    def exactly(self, size: int) -> bytes: ...


class Tree:
    """Writes below one folder, a layer after the other; to be closed.

    Nobody else writes there meanwhile. A path that can't be is a ``ValueError``; an ``OSError`` is the disk's.

    Args:
        root: Descriptor of the folder, which stays the caller's.
    """

    def __init__(self, root: int) -> None:
        self.size = 0
        self._times: dict[str, int] = {}
        # The folder that was entered last: names, descriptors, and paths that end in '/', each from the root on.
        self._names: list[str] = []
        self._fds = [os.dup(root)]
        self._paths = [""]
        # What the layer has, folders that it only leads through among them. Its whiteouts don't hide that.
        self._made: set[str] = set()
        self._marked = 0  # how many of the folders entered are among it
        # Folders in which nothing of earlier layers is left, so that no whiteout has to look once more.
        self._pruned: set[str] = set()
        self._steps = self._characters = 0

    def close(self) -> None:
        self._leave(0)
        os.close(self._fds.pop())

    def begin_layer(self) -> None:
        """Forget what the layer before has made: whiteouts hide it from now on."""
        self._leave(0)
        self._made, self._pruned = set(), set()

    def enter(self, parts: Sequence[str], *, make: bool = True) -> None:
        """Go to a folder; everything below is done there.

        Args:
            parts: Its path, by components; links among them are resolved inside of the tree.
            make: Make what is missing, and take all of it for what this layer has.

        Raises:
            ValueError: It lies below something that is not a folder, too deep, or is missing.
        """
        same = 0
        for name, wanted in zip(self._names, parts, strict=False):
            if name != wanted:
                break
            same += 1
        self._leave(same)
        links = 0
        todo = list(reversed(parts[same:]))
        while todo:
            name = todo.pop()
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise ValueError("the paths of the image take too long to follow")
            if name in ("", "."):
                continue
            if name == "..":
                self._leave(max(len(self._names) - 1, 0))
                continue
            target = self._step(name, make)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise ValueError("it leads through too many links")
                if target.startswith("/"):
                    self._leave(0)
                todo.extend(reversed(target.split("/")))
        if make and self._marked < len(self._names):
            for path in self._paths[self._marked + 1 :]:
                self._mark(path[:-1])
            self._marked = len(self._names)

    def _step(self, name: str, make: bool) -> str | None:
        """Enter one folder; where it is a link, nothing but its target is told."""
        here = self._fds[-1]
        if len(self._names) >= MAX_LEVELS:
            raise ValueError(f"it lies more than {MAX_LEVELS} folders deep")
        try:
            fd = os.open(name, _OPEN_DIR, dir_fd=here)
        except FileNotFoundError:
            if not make:
                raise ValueError("it is not there") from None
            self._mkdir(name, 0o755)
            fd = os.open(name, _OPEN_DIR, dir_fd=here)
        except OSError:
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(name, dir_fd=here)
            if stat.S_ISDIR(status.st_mode):
                raise
            raise ValueError("it lies below something that is not a folder") from None
        self._paths.append(f"{self._paths[-1]}{name}/")
        self._names.append(name)
        self._fds.append(fd)
        return None

    def _mark(self, path: str) -> None:
        self._characters += len(path)
        if self._characters > _MAX_CHARACTERS:
            raise ValueError("the paths of the image are too long together")
        self._made.add(path)

    def _leave(self, levels: int) -> None:
        while len(self._names) > levels:
            self._names.pop()
            self._paths.pop()
            os.close(self._fds.pop())
        self._marked = min(self._marked, levels)

    def _mkdir(self, name: str, mode: int) -> None:
        os.mkdir(name, 0o700, dir_fd=self._fds[-1])
        # After any umask; and we can always remove it again.
        os.chmod(name, mode | 0o700, dir_fd=self._fds[-1])
        self.size += _PAGE

    def folder(self, name: str, mode: int, mtime: int) -> None:
        """Make a folder; one that is there keeps what it holds."""
        here, mode = self._fds[-1], mode & 0o777
        try:
            self._mkdir(name, mode)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                os.chmod(name, mode | 0o700, dir_fd=here)
            else:
                os.unlink(name, dir_fd=here)
                self._mkdir(name, mode)
        path = self._paths[-1] + name
        self._mark(path)
        self._times[path] = mtime

    def file(self, name: str, mode: int, mtime: int, size: int, source: _Source) -> None:
        """Write a file in place of whatever has the name."""
        try:
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=self._fds[-1])
        except FileExistsError:
            self.remove(name)
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=self._fds[-1])
        try:
            left = size
            while left:
                data = memoryview(source.exactly(min(left, _CHUNK)))
                left -= len(data)
                while data:
                    data = data[os.write(fd, data) :]
            os.fchmod(fd, mode & 0o777)
            # Python takes a compiled module for stale whose source is of another time.
            _set_time(fd, mtime)
        finally:
            os.close(fd)
        self.size += size + -size % _PAGE + _PAGE
        self._mark(self._paths[-1] + name)

    def symlink(self, name: str, target: str) -> None:
        """Make a link in place of whatever has the name; where it leads is not looked at."""
        try:
            os.symlink(target, name, dir_fd=self._fds[-1])
        except FileExistsError:
            self.remove(name)
            os.symlink(target, name, dir_fd=self._fds[-1])
        self.size += _PAGE
        self._mark(self._paths[-1] + name)

    def hard_link(self, parts: Sequence[str], target: Sequence[str]) -> None:
        """Give a file or a link a second name, in place of whatever has that name.

        Args:
            parts: The new path.
            target: The path that there is, both by components.
        """
        self.enter(target[:-1], make=False)
        source = os.dup(self._fds[-1])
        try:
            self.enter(parts[:-1])
            here, name = self._fds[-1], parts[-1]
            old = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(old.st_mode):
                raise ValueError("a hard link leads to a folder")
            if not _is_at(old, name, here):  # else the name is one of its already
                self.remove(name)
                os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            raise ValueError("a hard link leads to what is not there") from None
        finally:
            os.close(source)
        self._mark(self._paths[-1] + parts[-1])

    def nothing(self, name: str) -> None:
        """Leave out what the layer has here, and hide what has the name."""
        self.remove(name)
        self._mark(self._paths[-1] + name)

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; what is not there is fine."""
        _remove(name, self._fds[-1])

    def hide(self, name: str) -> None:
        """Remove what earlier layers have under a name, and keep what this one has."""
        path = self._paths[-1] + name
        if path not in self._made:
            self.remove(name)
            return
        try:
            fd = os.open(name, _OPEN_DIR, dir_fd=self._fds[-1])
        except OSError:
            return  # a file of this layer
        try:
            self._prune(fd, path + "/")
        finally:
            os.close(fd)

    def hide_all(self) -> None:
        """Remove what earlier layers have in this folder, and keep what this one has."""
        self._prune(self._fds[-1], self._paths[-1])

    def _prune(self, folder: int, prefix: str) -> None:
        if prefix in self._pruned:
            return
        self._pruned.add(prefix)
        for name in os.listdir(folder):
            if prefix + name not in self._made:
                _remove(name, folder)
            elif stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                fd = os.open(name, _OPEN_DIR, dir_fd=folder)
                try:
                    self._prune(fd, f"{prefix}{name}/")
                finally:
                    os.close(fd)

    def finish(self) -> None:
        """Give folders their times, which whatever was written into them has changed."""
        self._leave(0)
        for path, mtime in sorted(self._times.items()):
            with contextlib.suppress(ValueError):  # it has gone since
                parts = path.split("/")
                self.enter(parts, make=False)
                if self._names == parts:
                    _set_time(self._fds[-1], mtime)
        self._leave(0)


def _is_at(status: os.stat_result, name: str, folder: int) -> bool:
    try:
        return os.path.samestat(status, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _set_time(fd: int, mtime: int) -> None:
    seconds = min(max(mtime, 0), _LATEST)
    os.utime(fd, (seconds, seconds))


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        # Of our own making: never deep, and each folder may be read and written.
        shutil.rmtree(name, dir_fd=folder)
