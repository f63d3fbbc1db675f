"""The folder that unpacked images lie in: who uses one, who makes one, which goes, and what is remembered of them.

Below ``<home>/images``: a folder for each image, ``work/`` for what is being made, ``locks/`` with a lock for each of
both, ``known/`` with what is remembered. Whoever uses an image shares its lock; whoever makes or removes one holds it
alone. The kernel frees the lock of a process that dies, so what a killed one has left in ``work/`` is told by its lock,
and goes with the next call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.locks import is_at, open_lock, try_lock, wait_lock
from ..files import remove_tree

__all__ = ["StoreFolder", "is_key"]

_KEY = re.compile(r"[0-9a-f]{64}")
_MOST_KNOWN = 2000


def is_key(text: str) -> bool:
    """Whether a text names an image's folder: the digits of a sha256."""
    return _KEY.fullmatch(text) is not None


class StoreFolder:
    """Folders by keys, each with a lock.

    Args:
        root: The folder, which is made when it is needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._work, self._locks, self._known = (root / name for name in ("work", "locks", "known"))

    def prepare(self) -> None:
        """Make the folders, and remove what killed processes have left in them."""
        if not self._known.is_dir():
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            for folder in (self._work, self._locks, self._known):
                folder.mkdir(mode=0o700, exist_ok=True)
            # A model's own user has to pass, whatever the umask says.
            self.root.chmod(0o711)
        for name in os.listdir(self._work):
            with self._locked_now(name) as is_ours:
                if is_ours:
                    remove_tree(self._work / name)

    def place(self, key: str) -> Path:
        """Where an image lies, once it is whole."""
        return self.root / key

    def making(self, key: str) -> Path:
        """Where it is made by who holds its lock alone."""
        return self._work / key

    @contextlib.contextmanager
    def workplace(self, name: str) -> Iterator[Path]:
        """A new folder that nobody else has at the time; it is gone afterwards.

        Args:
            name: Who wants a place of the same name waits.
        """
        key = _digest(name)
        fd = self.lock(key)
        try:
            remove_tree(self.making(key))  # of who had the lock before, and was killed
            self.making(key).mkdir()
            yield self.making(key)
        finally:
            remove_tree(self.making(key))
            self.unlock(key, fd)

    def lock(self, key: str, *, shared: bool = False) -> int:
        """Wait for the lock of an image or a workplace.

        Returns:
            Its descriptor. The lock is held until it is closed.
        """
        path = self._locks / key
        while True:
            fd = open_lock(path)
            try:
                wait_lock(fd, shared=shared)
                if is_at(fd, path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # removed together with what it stood for, while we waited

    def unlock(self, key: str, fd: int) -> None:
        """Let go of a lock, and remove its file where it stands for nothing and nobody else has it."""
        with contextlib.suppress(OSError):
            if not self.place(key).exists() and try_lock(fd) and is_at(fd, self._locks / key):
                os.unlink(self._locks / key)
        os.close(fd)

    def mark_used(self, fd: int) -> None:
        """Note at an image's lock, which is held, that it is used now."""
        now = time.time_ns()
        os.utime(fd, ns=(now, now))

    @contextlib.contextmanager
    def _locked_now(self, key: str) -> Iterator[bool]:
        """Whether nobody else has the lock; then it is held alone, and gone afterwards where it stands for nothing."""
        fd = open_lock(self._locks / key)
        ours = False
        try:
            ours = try_lock(fd) and is_at(fd, self._locks / key)
            yield ours
        finally:
            if ours:
                self.unlock(key, fd)
            else:
                os.close(fd)

    def evict(self, most: int, size_of: Callable[[str], int]) -> None:
        """Remove images that nobody uses, the one used longest ago first, until all of them fit.

        Args:
            most: Bytes that they may have together.
            size_of: Bytes of the image of a key.
        """
        found = []
        for key in filter(is_key, os.listdir(self.root)):
            with contextlib.suppress(FileNotFoundError):
                found.append((os.stat(self._locks / key).st_mtime_ns, key, size_of(key)))
        total = sum(size for _, _, size in found)
        for _, key, size in sorted(found):
            if total <= most:
                return
            with self._locked_now(key) as is_ours:
                if is_ours:
                    # In one step: a half of it never has its name.
                    os.rename(self.place(key), self.making(key))
                    remove_tree(self.making(key))
                    total -= size

    def remember(self, name: str, value: str) -> None:
        """Keep a text under a name."""
        aside = self._known / f".{secrets.token_hex(8)}"
        aside.write_text(value)
        os.replace(aside, self._known / _digest(name))
        names = os.listdir(self._known)
        if len(names) > _MOST_KNOWN:
            for old in sorted(names, key=self._kept)[: _MOST_KNOWN // 2]:
                with contextlib.suppress(OSError):
                    os.unlink(self._known / old)

    def recall(self, name: str) -> str | None:
        """What is kept under a name."""
        try:
            return (self._known / _digest(name)).read_text()
        except (OSError, ValueError):
            return None

    def _kept(self, name: str) -> int:
        with contextlib.suppress(OSError):
            return os.stat(self._known / name).st_mtime_ns
        return 0


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
