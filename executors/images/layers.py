"""Applying the layers of an image to a folder, as the OCI image specification says.

A layer is a tar of what changed: entries replace what is there, folders are merged, ``.wh.NAME`` hides what earlier
layers have under a name, ``.wh..wh..opq`` all that they have in a folder. Its bytes are a stranger's. So they are
counted and hashed while they are read, and what must not be in a model's root (devices, FIFOs) is left out.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import importlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...core.tar_stream import TarSource, TooMuch, members
from ...core.text import escape
from .tree import Tree

__all__ = ["LayerBudget", "LayerDigests", "apply_layer"]

MAX_ENTRIES = 500_000
# Long names and records have headers of their own.
_HEADERS_AN_ENTRY = 4
_MAX_PATH = 4000
_MAX_COMPONENT = 255
_BUFFER = 1024 * 1024
_WHITEOUT, _OPAQUE, _AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
# What the kernel says of a name or link that it does not take; everything else is the disk's fault.
_NAMES_FAULTS = frozenset(
    [errno.ENAMETOOLONG, errno.EMLINK, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ENOENT]
)
# Told one by one; the rest is counted.
_MOST_TOLD = 3


@dataclass
class LayerBudget:
    """What all layers of an image together may still hold, and what was left out of them.

    Args:
        size: Bytes of the unpacked tars.
        entries: Members of the tars.
        told: Called with bytes read, now and then.
    """

    size: int
    entries: int = MAX_ENTRIES
    told: Callable[[int], None] = lambda size: None
    left_out: int = 0
    _names: list[str] = field(default_factory=list)

    def leave_out(self, name: str) -> None:
        """Note that a member was left out."""
        self.left_out += 1
        if len(self._names) < _MOST_TOLD:
            self._names.append(escape(name[:100]))

    def notes(self) -> tuple[str, ...]:
        """What a reader of the Result must know."""
        if not self.left_out:
            return ()
        more = self.left_out - len(self._names)
        names = ", ".join(self._names)
        also = f" and {more:,} more" if more else ""
        return (f"Devices and FIFOs of the image were left out: {names}{also}.",)


@dataclass(frozen=True)
class LayerDigests:
    """The digests that a layer must have.

    Args:
        content: Of the unpacked tar: the configuration's ``diff_id``.
        blob: Of the bytes as they are stored; None where nothing says.
    """

    content: str
    blob: str | None = None


class _Bytes(Protocol):
    def readinto(self, buffer: Any, /) -> int | None: ...


class _Hashed(io.RawIOBase):
    """Passes bytes on, hashed."""

    told: Callable[[int], None] | None = None

    def __init__(self, source: _Bytes) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with _broken_data():
            count = self._source.readinto(buffer) or 0
        self._sha256.update(memoryview(buffer)[:count])
        if self.told is not None:
            self.told(count)
        return count

    def check(self, expected: str, what: str) -> None:
        """Compare the digest of all that is there.

        Raises:
            ValueError: It is another one.
        """
        found = f"sha256:{self._sha256.hexdigest()}"
        if found != expected:
            raise ValueError(f"{what} has the digest {found}, where {expected} was expected")


def apply_layer(tree: Tree, stored: io.BufferedReader, digests: LayerDigests, budget: LayerBudget) -> None:
    """Unpack one layer over those before it, and check its digests.

    What was written stays when it fails; the caller throws all of it away.

    Args:
        tree: Where it goes.
        stored: The layer as it is stored: a tar, plain or packed by gzip or zstd; at its beginning, seekable.
        digests: What it must be.
        budget: What it may hold; less afterwards.

    Raises:
        ValueError: It is broken, another one, or holds what an image must not.
        TooMuch: It is larger than allowed.
        OSError: The disk failed.
    """
    start = stored.read(6)
    stored.seek(0)
    raw = _Hashed(stored)
    with _unpacked(io.BufferedReader(raw, _BUFFER), start) as plain:
        # Where nothing is packed, one reading gives both digests.
        content = raw if plain is None else _Hashed(plain)
        content.told = budget.told
        reader = io.BufferedReader(content, _BUFFER)
        source = TarSource(reader, budget.size)
        tree.begin_layer()
        for member in members(source, _HEADERS_AN_ENTRY * (budget.entries + 1)):
            budget.entries -= 1
            if budget.entries < 0:
                raise ValueError(f"it holds more than {MAX_ENTRIES:,} files and folders")
            _apply(tree, member, source, budget)
        source.drain()
        budget.size = source.left
        if reader.read(1):
            raise TooMuch("it is larger than allowed")
    content.check(digests.content, "a layer, unpacked,")
    if digests.blob is not None:
        raw.check(digests.blob, "a layer")


def _apply(tree: Tree, member: tarfile.TarInfo, source: TarSource, budget: LayerBudget) -> None:
    try:
        parts = _parts(member.name)
        if parts and not _is_metadata(parts):
            _put(tree, parts, member, source, budget)
        else:
            source.skip(member.size)  # the root itself, which is always there
    except TooMuch:
        raise
    except ValueError as error:
        raise ValueError(f"{_shown(member.name)}: {error}") from error
    except OSError as error:
        if error.errno not in _NAMES_FAULTS:
            raise
        raise ValueError(f"{_shown(member.name)}: {error.strerror}") from error


def _put(tree: Tree, parts: list[str], member: tarfile.TarInfo, source: TarSource, budget: LayerBudget) -> None:
    name = parts[-1]
    if name.startswith(_WHITEOUT):
        tree.enter(parts[:-1])
        if name == _OPAQUE:
            tree.hide_all()
        else:
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise ValueError("it hides nothing that has a name")
            tree.hide(hidden)
        source.skip(member.size)
    elif member.type in _FILES:
        tree.enter(parts[:-1])
        tree.file(name, member.mode, int(member.mtime), member.size, source)
        source.skip(-member.size % tarfile.BLOCKSIZE, padded=False)
    elif member.isdir():
        tree.enter(parts[:-1])
        tree.folder(name, member.mode, int(member.mtime))
    elif member.issym():
        tree.enter(parts[:-1])
        tree.symlink(name, _target(member.linkname))
    elif member.islnk():
        target = _parts(_target(member.linkname))
        if not target:
            raise ValueError("a hard link leads to a folder")
        tree.hard_link(parts, target)
    elif member.type in _DEVICES:
        tree.enter(parts[:-1])
        tree.nothing(name)
        budget.leave_out(member.name)
    else:
        kind = "a sparse file" if member.type == tarfile.GNUTYPE_SPARSE else f"of the unknown type {member.type!r}"
        raise ValueError(f"it is {kind}")


def _parts(path: str) -> list[str]:
    """The components of a path from the image's root on, with which it may begin; none for the root itself."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("its path must not hold '..'")
    # A character has at most four bytes, so most names need no second look.
    if "\0" in path or (len(path) > _MAX_COMPONENT // 4 and _is_long(path, parts)):
        raise ValueError(f"a name has at most {_MAX_COMPONENT} bytes, a path {_MAX_PATH:,}, and no NUL is among them")
    if _WHITEOUT in path and any(part.startswith(_WHITEOUT) for part in parts[:-1]) and not _is_metadata(parts):
        raise ValueError("names that begin with '.wh.' hide others, and are never folders")
    return parts


def _is_long(path: str, parts: list[str]) -> bool:
    return len(os.fsencode(path)) > _MAX_PATH or any(len(os.fsencode(part)) > _MAX_COMPONENT for part in parts)


def _is_metadata(parts: list[str]) -> bool:
    """What AUFS kept for itself, and old engines saved: ``.wh..wh.plnk/…``."""
    return parts[0].startswith(_AUFS) and parts[0] != _OPAQUE


def _target(link: str) -> str:
    if not link or "\0" in link or len(os.fsencode(link)) > _MAX_PATH:
        raise ValueError(f"a link leads to 1 to {_MAX_PATH:,} bytes without NUL")
    return link


def _shown(name: str) -> str:
    return repr(escape(name if len(name) <= 120 else name[:120] + "…"))


@contextlib.contextmanager
def _unpacked(stored: io.BufferedReader, start: bytes) -> Iterator[_Bytes | None]:
    """The reader of what is packed in a layer; None where nothing is."""
    if start.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=stored) as plain:
            yield plain
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        with _zstd(stored) as plain:
            yield plain
    elif start.startswith((b"BZh", b"\xfd7zXZ")):
        raise ValueError("a layer is packed by bzip2 or xz; gzip, zstd and none are read")
    else:
        yield None


def _zstd(stored: io.BufferedReader) -> Any:
    with contextlib.suppress(ImportError):
        return importlib.import_module("compression.zstd").ZstdFile(stored)  # from Python 3.14 on
    with contextlib.suppress(ImportError):
        arrow = importlib.import_module("pyarrow")
        return arrow.CompressedInputStream(arrow.PythonFile(stored, mode="r"), "zstd")
    raise ValueError(
        "a layer is packed by zstd, which takes Python 3.14 or the extra [parquet] (pyarrow) here; install it, or save "
        "the image with gzip"
    )


@contextlib.contextmanager
def _broken_data() -> Iterator[None]:
    """What the unpackers raise for broken data, as the one error of layers; the disk's own errors pass."""
    try:
        yield
    except (ValueError, EOFError, zlib.error) as error:
        raise ValueError(f"a layer is broken: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"a layer is broken: {error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("compression", "pyarrow"):
            raise
        raise ValueError(f"a layer is broken: {error}") from error
