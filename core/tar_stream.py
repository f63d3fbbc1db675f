"""Reading a stranger's tar archive in order, without believing what its headers say.

Headers are read here and not by ``tarfile``, which reads a name of any length into memory.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator
from typing import Protocol

__all__ = ["TarSource", "TooMuch", "members"]

# Headers that only say something of the next one: long names (GNU) and records (PAX).
_EXTRA = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
_MAX_EXTRA = 64 * 1024
_BLOCK = tarfile.BLOCKSIZE
# Name, mode, size, time, checksum, type, link and prefix; owners, devices and what is padding are left out.
_FIELDS = struct.Struct("100s 8s 16x 12s 12s 8s c 100s 88x 155s 12x")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class TooMuch(ValueError):
    """The archive is larger than the cap."""


class TarSource:
    """The unpacked archive, read in order and only up to a cap.

    Args:
        file: The plain tar; what is compressed is unpacked by its reader.
        most: Bytes that are read from it at most.
    """

    def __init__(self, file: _Readable, most: int) -> None:
        self._file = file
        self._left = self._most = most

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, as a file gives them."""
        size = self._left if size < 0 else size
        self.want(size)
        data = self._file.read(size)
        self._left -= len(data)
        return data

    @property
    def left(self) -> int:
        """Bytes that may still be read from it."""
        return self._left

    def want(self, size: int) -> None:
        """Refuse what would go past the cap, before any of it is read (``TooMuch``)."""
        if size > self._left:
            raise TooMuch(f"it unpacks to more than the allowed {self._most:,} bytes")

    def exactly(self, size: int) -> bytes:
        """``size`` bytes, no fewer."""
        data = self.read(size)
        if len(data) != size:
            raise EOFError("it ends too early")
        return data

    def drain(self) -> None:
        """Read to the end: there gzip keeps the checksum of everything before it."""
        while self._left and self.read(min(self._left, 1024 * 1024)):
            pass

    def skip(self, size: int, *, padded: bool = True) -> None:
        """Leave out ``size`` bytes, and the rest of the last block where ``padded``."""
        size += -size % _BLOCK if padded else 0
        while size > 0:
            size -= len(self.exactly(min(size, 1024 * 1024)))


def members(source: TarSource, most: int) -> Iterator[tarfile.TarInfo]:
    """Headers in order; whoever takes one reads its content, up to the next block, before asking for another.

    Args:
        source: The archive at its beginning.
        most: Members that are read at most.

    Raises:
        ValueError: It holds more, or a header is not what it must be.
        EOFError: It ends too early.
        tarfile.TarError: A block is no header.
    """
    extra: dict[str, str] = {}
    for _ in range(most):
        block = source.exactly(_BLOCK)
        if not any(block):
            return
        member = _header(block)
        if member.type in _EXTRA:
            if not 0 <= member.size <= _MAX_EXTRA:
                raise ValueError(f"a name or record in it is {member.size:,} bytes long")
            data = source.exactly(member.size)
            source.skip(-member.size % _BLOCK, padded=False)
            if member.type == tarfile.XHDTYPE:
                extra.update(_records(data))
            elif member.type != tarfile.XGLTYPE:
                key = "path" if member.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                extra[key] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        member.name = extra.get("path", member.name)
        member.linkname = extra.get("linkpath", member.linkname)
        member.size = int(extra.get("size", member.size)) if member.isreg() else 0
        if member.size < 0:
            raise ValueError(f"{member.name!r} has a negative size")
        source.want(member.size)
        extra = {}
        yield member
    raise ValueError(f"it holds more than {most:,} files")


def _header(block: bytes) -> tarfile.TarInfo:
    """What a header says, apart from owners and devices, of which nobody here wants to know.

    As ``tarfile`` reads it, which takes three times as long and is asked for whatever is rare.
    """
    name, mode, size, mtime, checksum, kind, link, prefix = _FIELDS.unpack(block)
    try:
        if _octal(checksum) != sum(block) - sum(checksum) + 8 * 0x20 or kind == tarfile.GNUTYPE_SPARSE:
            raise ValueError
        member = tarfile.TarInfo(_text(name))
        member.mode, member.size, member.mtime = _octal(mode), _octal(size), _octal(mtime)
    except ValueError:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    is_old_folder = kind == tarfile.AREGTYPE and member.name.endswith("/")
    member.type = tarfile.DIRTYPE if is_old_folder else kind
    member.linkname = _text(link)
    if member.type == tarfile.DIRTYPE:
        member.name = member.name.rstrip("/")
    if prefix[0] and kind not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        member.name = f"{_text(prefix)}/{member.name}"
    return member


def _octal(field: bytes) -> int:
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(data: bytes) -> dict[str, str]:
    """PAX records: ``length key=value`` and a newline, the length counting all of it."""
    found = {}
    while data:
        length = int(data.partition(b" ")[0])
        record, data = data[:length], data[length:]
        key, separator, value = record.partition(b" ")[2].partition(b"=")
        if length < 5 or not separator or not value.endswith(b"\n"):
            raise ValueError("a record in it is broken")
        name = key.decode("utf-8", "surrogateescape")
        if name.startswith("GNU.sparse"):
            raise ValueError("a file in it is sparse")
        found[name] = value[:-1].decode("utf-8", "surrogateescape")
    return found
