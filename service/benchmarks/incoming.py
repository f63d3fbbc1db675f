"""A file that somebody hands in, while it comes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.storage import naming_full_disks

__all__ = ["Incoming", "writing_to"]

# In the benchmark's own hidden folder, which nobody reads by a token.
_INCOMING = "incoming"
# Seconds after which what a killed process left there is removed.
_LEFT_OVER = 24 * 3600.0


class Incoming:
    """A file that comes in, in a folder of its own that goes with it.

    Args:
        folder: The benchmark that it is for.
    """

    def __init__(self, folder: BenchmarkFolder) -> None:
        self._benchmark = folder
        self._digest = hashlib.sha256()
        self._place: Path | None = None
        self._file: IO[bytes] | None = None

    async def __aenter__(self) -> Incoming:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *what: object) -> None:
        await asyncio.to_thread(self._close)

    async def write(self, data: bytes) -> None:
        """Take the next part of it."""
        await asyncio.to_thread(self._write, data)

    @property
    def sha256(self) -> str:
        """Of what has come so far."""
        return self._digest.hexdigest()

    def named(self, name: str) -> Path:
        """The whole file, under a plain name."""
        assert self._place is not None and self._file is not None
        self._file.flush()
        path = self._place / name
        os.rename(self._place / "part", path)
        return path

    def _open(self) -> None:
        parent = self._benchmark.state / _INCOMING
        with writing_to(self._benchmark):
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_left_over(parent)
            self._place = Path(tempfile.mkdtemp(dir=parent))
            self._file = open(self._place / "part", "wb")  # noqa: SIM115 - closed with the folder

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._digest.update(data)
        with writing_to(self._benchmark):
            self._file.write(data)

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what is still to be written goes with it
                self._file.close()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)


@contextlib.contextmanager
def writing_to(folder: BenchmarkFolder) -> Iterator[None]:
    """Say in words why a benchmark's folder can't be written.

    Raises:
        AutoScorerError: ``STORAGE_FULL``, ``BACKEND_UNAVAILABLE``.
    """
    try:
        with naming_full_disks(workspace=folder.root):
            yield
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"The benchmark's folder can't be written: {error.strerror}. Nothing was accepted; the operator has to see "
            "to its rights.",
        ) from None


def _remove_left_over(parent: Path) -> None:
    before = time.time() - _LEFT_OVER
    with os.scandir(parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    shutil.rmtree(entry.path, ignore_errors=True)
