"""A stranger's zip or tar, member by member; what must not be unpacked is refused while it is read.

Only plain files and folders with plain names come out of here, each name once, and no more bytes than allowed,
whatever the headers say. A hard link in a tar is how tar writes one file that has two names, as the kept artifacts of
a scored workspace have: it comes out as a plain file again, whose bytes are counted again.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from .errors import AutoScorerError, ErrorCode
from .plain_names import has_hidden_characters
from .tar_stream import TarSource, TooMuch, members

__all__ = ["ArchiveLimits", "Member", "read_archive"]

# A name must fit into any file system (255 bytes a component) with its folders and the workspace's own path.
_MAX_PATH = 1000
_MAX_COMPONENT = 255
_MAX_LEVELS = 64
# How often more bytes may come out than went in, once there are enough of them: deflate of text gives 3 to 20, of
# long runs of one byte 1000.
_MAX_RATIO = 200
_RATIO_FROM = 64 * 1024**2
# A dictionary that an .xz names is memory; its own tool makes them of up to 64 MiB.
_XZ_MEMORY = 128 * 1024**2
_CHUNK = 256 * 1024
# Two more headers for a member are usual (a long name and its records).
_HEADERS_A_MEMBER = 4
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1 | 0x40


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold.

    Args:
        files: Files and folders.
        unpacked: Bytes.
        named: What the two are called in messages.
    """

    files: int
    unpacked: int
    named: tuple[str, str] = ("api.max_files", "api.max_unpacked")


@dataclass(frozen=True)
class Member:
    """A plain file or folder.

    Args:
        parts: Its path, component by component.
        is_dir: A folder; it has no content.
        executable: Whether its owner may execute it.
        chunks: Its content, to be read before the next member is asked for.
    """

    parts: tuple[str, ...]
    is_dir: bool
    executable: bool = False
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))


Opener = Callable[[tuple[str, ...]], IO[bytes]]


def read_archive(file: IO[bytes], limits: ArchiveLimits, written: Opener | None = None) -> Iterator[Member]:
    """The members of a zip, a tar, or a tar packed by gzip, bzip2 or xz, in their order; told by the first bytes.

    Args:
        file: The archive, seekable, at its beginning.
        limits: What it may hold.
        written: Opens a file that came out before, for a hard link to it; None refuses hard links.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for what is not such an archive or holds what may not be in one,
            ``PAYLOAD_TOO_LARGE`` for one that holds too much.
    """
    checks = _Checks(limits, file.seek(0, os.SEEK_END))
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    with _refusing(limits):
        for member in _zip(file, checks) if start.startswith(b"PK") else _tar(file, start, checks, written):
            yield member
            # What was not read is counted, too, and a checksum is compared at the end.
            for _ in member.chunks:
                pass


@contextlib.contextmanager
def _refusing(limits: ArchiveLimits) -> Iterator[None]:
    """Whatever the libraries raise for a broken archive, as the one refusal."""
    try:
        yield
    except TooMuch:
        raise _too_large(
            f"it unpacks to more than {limits.unpacked:,} bytes ({limits.named[1]})", limits.unpacked
        ) from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        ValueError,
        NotImplementedError,  # a zip of a later version
        OverflowError,
        RuntimeError,  # zipfile: a password would be needed
        struct.error,
    ) as error:
        raise _refused(f"it can't be read ({error})") from None
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's, not the archive's
        raise _refused(f"it can't be read ({error})") from None


class _Checks:
    """The rules that hold for every member, whatever the format."""

    def __init__(self, limits: ArchiveLimits, packed: int) -> None:
        self.limits, self._packed = limits, packed
        self._unpacked = 0
        self._is_dir: dict[tuple[str, ...], bool] = {}
        self._named: set[tuple[str, ...]] = set()

    def parts(self, name: str, is_dir: bool) -> tuple[str, ...]:
        """The components of a member's name; empty for the archive's own folder."""
        parts, shown = self._plain(name, is_dir)
        if parts:
            self._note(parts, is_dir, shown)
        return parts

    def earlier(self, name: str) -> tuple[str, ...] | None:
        """The components of the plain file that a hard link names; None when none came before."""
        parts, _ = self._plain(name, False)
        return parts if self._is_dir.get(parts) is False else None

    @staticmethod
    def _plain(name: str, is_dir: bool) -> tuple[tuple[str, ...], str]:
        """The components of a name, and how it is shown."""
        shown = repr(name if len(name) <= 200 else name[:199] + "…")
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            raise _refused(f"the name {shown} is not UTF-8") from None
        if "\\" in name or has_hidden_characters(name):
            raise _refused(f"the name {shown} holds a backslash, or a character that is not seen")
        if name.startswith("/") or name[1:2] == ":":
            raise _refused(f"the path {shown} is absolute")
        path = name.rstrip("/") if is_dir else name
        parts = tuple(part for part in path.split("/") if part != ".")
        if ".." in parts:
            raise _refused(f"the path {shown} leads out of it")
        if not parts and is_dir:
            return (), shown
        if "" in parts or not parts:
            raise _refused(f"the path {shown} is not plain")
        longest = max(len(part.encode()) for part in parts)
        if len(encoded) > _MAX_PATH or longest > _MAX_COMPONENT or len(parts) > _MAX_LEVELS:
            raise _refused(
                f"the path {shown} is too long: at most {_MAX_PATH} bytes, {_MAX_COMPONENT} a name, and {_MAX_LEVELS} "
                "levels"
            )
        return parts, shown

    def _note(self, parts: tuple[str, ...], is_dir: bool, shown: str) -> None:
        if parts in self._named or (parts in self._is_dir and not (is_dir and self._is_dir[parts])):
            raise _refused(f"{shown} appears in it twice")
        self._named.add(parts)
        for length in range(1, len(parts)):
            if not self._is_dir.setdefault(parts[:length], True):
                raise _refused(f"{shown} lies below a file")
        self._is_dir[parts] = is_dir
        # Folders that are there only in the paths of others are made, too.
        if len(self._is_dir) > self.limits.files:
            raise _too_many(self.limits)

    def count(self, data: bytes) -> bytes:
        """Count what came out."""
        self._unpacked += len(data)
        if self._unpacked > self.limits.unpacked:
            raise TooMuch
        if self._unpacked > _RATIO_FROM and self._unpacked > _MAX_RATIO * self._packed:
            raise _too_large(
                f"it unpacks to more than {_MAX_RATIO} times its size; what is so empty is taken for a bomb",
                _MAX_RATIO * self._packed,
            )
        return data


# --- zip -------------------------------------------------------------------------------------------------------------


def _zip(file: IO[bytes], checks: _Checks) -> Iterator[Member]:
    with zipfile.ZipFile(_Directory(file, checks.limits)) as archive:
        infos = archive.infolist()
        if len(infos) > checks.limits.files:
            raise _too_many(checks.limits)
        for info in infos:
            name = info.orig_filename
            if info.flag_bits & _ENCRYPTED:
                raise _refused(f"{name[:200]!r} is encrypted")
            if info.compress_type not in _ZIP_METHODS:
                raise _refused(f"{name[:200]!r} is packed in a way other than deflate")
            mode = info.external_attr >> 16
            is_dir = name.endswith("/")
            if stat.S_IFMT(mode) not in (0, stat.S_IFDIR if is_dir else stat.S_IFREG):
                raise _not_plain(name, stat.S_ISLNK(mode))
            if is_dir and info.file_size:
                raise _refused(f"{name[:200]!r} is a folder with content")
            parts = checks.parts(name, is_dir)
            if not parts:
                continue
            if is_dir:
                yield Member(parts, True)
                continue
            with archive.open(info) as content:
                yield Member(parts, False, bool(mode & 0o100), _chunks(content.read, checks))


class _Directory:
    """The file, as zipfile reads it: the whole list of members at once, which must not fill the memory."""

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._file, self._limits = file, limits
        self.seek, self.tell, self.close = file.seek, file.tell, lambda: None
        self.seekable: Callable[[], bool] = lambda: True
        # A line of the list has 46 bytes and the name; time stamps and owners add some.
        self._most = 1024 * (limits.files + 256)

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise _too_many(self._limits)
        if size < 0:  # the comment at its end, of up to 64 KiB
            size = _CHUNK
        data = self._file.read(size)
        if size > _CHUNK and data.count(b"PK\x01\x02") > self._limits.files:
            raise _too_many(self._limits)
        return data


# --- tar -------------------------------------------------------------------------------------------------------------


def _tar(file: IO[bytes], start: bytes, checks: _Checks, written: Opener | None) -> Iterator[Member]:
    limits = checks.limits
    # Headers and padding come on top of the contents, which are counted one by one.
    overhead = (limits.files * _HEADERS_A_MEMBER + 64) * 2 * tarfile.BLOCKSIZE
    with _plain(file, start) as plain:
        source = TarSource(plain, limits.unpacked + overhead)
        found = 0
        for member in members(source, limits.files * _HEADERS_A_MEMBER + 64):
            found += 1
            if found > limits.files + 1:  # its own folder, ./, is often in it
                raise _too_many(limits)
            # Old archives have folders that are told by their name only; the reader knows.
            is_dir = member.isdir()
            if member.islnk() and written is not None and (earlier := checks.earlier(member.linkname)) is not None:
                parts = checks.parts(member.name, False)
                with written(earlier) as again:
                    yield Member(parts, False, bool(member.mode & 0o100), _chunks(again.read, checks))
                continue
            if not is_dir and member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise _not_plain(member.name, member.issym() or member.islnk())
            parts = checks.parts(member.name, is_dir)
            if is_dir:
                if parts:
                    yield Member(parts, True)
                continue
            yield Member(parts, False, bool(member.mode & 0o100), _chunks(_exactly(source, member.size), checks))
            source.skip(-member.size % tarfile.BLOCKSIZE, padded=False)
        source.drain()
    if not found:
        raise _refused("it holds nothing, or it is neither a zip nor a tar")


def _exactly(source: TarSource, size: int) -> Callable[[int], bytes]:
    left = size

    def read(most: int) -> bytes:
        nonlocal left
        data = source.exactly(min(most, left))
        left -= len(data)
        return data

    return read


@contextlib.contextmanager
def _plain(file: IO[bytes], start: bytes) -> Iterator[Any]:
    if start.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield unzipped
    elif start.startswith(b"\xfd7zXZ\0"):
        yield io.BufferedReader(_Unpacked(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)))
    elif start.startswith(b"BZh"):
        yield io.BufferedReader(_Unpacked(file, bz2.BZ2Decompressor))
    else:
        yield file


class _Unpacked(io.RawIOBase):
    """What a decompressor makes of a file that holds one stream or several; ``lzma.open`` has no limit of memory."""

    def __init__(self, file: IO[bytes], make: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> None:
        self._file, self._make, self._stream = file, make, make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = b""
            if self._stream.eof:
                data = (self._stream.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
                if not data:
                    return 0
                self._stream = self._make()
            elif self._stream.needs_input and not (data := self._file.read(_CHUNK)):
                raise EOFError("it ends too early")
            if out := self._stream.decompress(data, len(buffer)):
                buffer[: len(out)] = out
                return len(out)


# --- both ------------------------------------------------------------------------------------------------------------


def _chunks(read: Callable[[int], bytes], checks: _Checks) -> Iterator[bytes]:
    # Read by whoever takes the member, outside of what runs in read_archive.
    with _refusing(checks.limits):
        while data := read(_CHUNK):
            yield checks.count(data)


def _not_plain(name: str, is_link: bool) -> AutoScorerError:
    what = "a link" if is_link else "not a plain file"
    return _refused(f"{name[:200]!r} is {what}; only plain files and folders are taken")


def _refused(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The archive is refused: {why}. Expected a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.",
        details={"reason": why},
    )


def _too_large(why: str, most: int) -> AutoScorerError:
    return AutoScorerError(ErrorCode.PAYLOAD_TOO_LARGE, f"The archive is refused: {why}.", details={"limit": most})


def _too_many(limits: ArchiveLimits) -> AutoScorerError:
    """More members than allowed."""
    return _too_large(f"it holds more than {limits.files:,} files and folders ({limits.named[0]})", limits.files)
