"""The model's input as one tar, whose length is known before its first byte is sent."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import AutoScorerError, ErrorCode
from ..base import Staged

__all__ = ["PackedInput"]

_BLOCK = tarfile.BLOCKSIZE
CHUNK = 256 * 1024


@dataclass(frozen=True)
class _Member:
    header: bytes
    path: Path | None
    size: int


class PackedInput:
    """What of a staged run the model may see: ``input/``, ``meta.json`` and an empty ``output/`` to mount over.

    Args:
        staged: The staged run. Nothing in it may change until it was sent; a change is an error then.

    Attributes:
        size: Bytes of the tar.
    """

    def __init__(self, staged: Staged) -> None:
        members = [_folder("input"), _folder("output"), *_members("meta.json", staged.meta)]
        for name, path in sorted(staged.inputs.items()):
            members += _members(f"input/{name}", path)
        self._members = members
        content = sum(len(member.header) + _padded(member.size) for member in members)
        self.size = content + 2 * _BLOCK

    @property
    def sha256(self) -> str:
        """Of the whole tar; every file is read for it."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """Yield the tar.

        Raises:
            AutoScorerError: ``CONFLICT`` where a file is not what it was when it was staged.
        """
        for member in self._members:
            yield member.header
            if member.path is not None:
                yield from _content(member.path, member.size)
                yield bytes(_padded(member.size) - member.size)
        yield bytes(2 * _BLOCK)


def _content(path: Path, size: int) -> Iterator[bytes]:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        left = size
        while left:
            data = file.read(min(left, CHUNK))
            if not data:
                break
            left -= len(data)
            yield data
        if left or file.read(1):
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"input/{path.name} changed while it was sent to the model's pod. Leave the workspace alone while it "
                "runs.",
            )


def _members(name: str, path: Path) -> Iterator[_Member]:
    """Plain files and folders below a path, which hold no links: whoever staged them has seen to that."""
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        yield _folder(name)
        for below in sorted(os.listdir(path)):
            yield from _members(f"{name}/{below}", path / below)
    elif stat.S_ISREG(status.st_mode):
        info = tarfile.TarInfo(name)
        info.size, info.mtime = status.st_size, int(status.st_mtime)
        info.mode = 0o755 if status.st_mode & 0o100 else 0o644
        yield _Member(_header(info), path, info.size)


def _folder(name: str) -> _Member:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return _Member(_header(info), None, 0)


def _header(info: tarfile.TarInfo) -> bytes:
    # GNU's form for long names: busybox does not read the newer one.
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
