"""Reading a tar whose content a stranger chose, as it comes, into a folder: plain files, and no more than allowed.

It goes by what a header says before it takes one byte of what follows. Links, devices and the like are refused as the
audit of an output would refuse them; nothing that a name says leads out of the folder; and no header makes it hold more
than a name in memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...core.errors import AutoScorerError
from ..base import RunLimits
from ..files import MAX_DEPTH, RESERVED, rejected, too_much
from .errors import unavailable

__all__ = ["TarReader"]

_BLOCK = 512
# Longest name, and longest record of extended headers, that is read.
_NAME, _EXTENDED = 16 * 1024, 64 * 1024
_KINDS = {
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
}
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Header(NamedTuple):
    kind: bytes
    name: bytes
    link: bytes
    size: int


class TarReader:
    """Takes a tar in pieces of any length.

    Args:
        target: An empty folder.
        limits: Caps on entries, depth and bytes.

    Attributes:
        done: Whether the end of the archive was seen; what follows it is ignored.
    """

    def __init__(self, target: Path, limits: RunLimits) -> None:
        self._limits = limits
        self._root = os.open(target, _OPEN_DIR)
        self._held = bytearray()
        # What the next bytes are: how many, and who takes them.
        self._left = 0
        self._padding = 0
        self._take: Callable[[bytes], None] | None = None
        self._file: int | None = None
        self._whole = bytearray()
        self._then: Callable[[bytes], None] | None = None
        # What the headers before an entry said of it.
        self._long_name: bytes | None = None
        self._long_link: bytes | None = None
        self._long_size: int | None = None
        self._entries = self._size = self._zeros = 0
        self._plain: set[tuple[bytes, ...]] = set()
        self._told: set[bytes] = set()
        self.done = False

    def close(self) -> None:
        """Let go of what is open."""
        self._end_file()
        with contextlib.suppress(OSError):
            os.close(self._root)

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            AutoScorerError: ``OUTPUT_REJECTED`` for what is no plain file, ``RESOURCE_ERROR`` for too much,
                ``BACKEND_UNAVAILABLE`` for what is no tar.
        """
        view = memoryview(data)
        while view and not self.done:
            if self._left:
                part = view[: self._left]
                if self._take is not None:
                    self._take(bytes(part))
                self._left -= len(part)
                view = view[len(part) :]
                if not self._left:
                    self._end_content()
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
            else:
                wanted = _BLOCK - len(self._held)
                self._held += view[:wanted]
                view = view[wanted:]
                if len(self._held) == _BLOCK:
                    block = bytes(self._held)
                    self._held.clear()
                    self._block(block)

    def _block(self, block: bytes) -> None:
        if not any(block):
            self._zeros += 1
            self.done = self._zeros == 2
            return
        self._zeros = 0
        header = _parsed(block)
        if header.kind in (b"L", b"K", b"x", b"g"):
            most = _NAME if header.kind in (b"L", b"K") else _EXTENDED
            if header.size > most:
                raise too_much("files", f"a name of more than {most:,} bytes")
            self._then = {b"L": self._name, b"K": self._link, b"x": self._extended}.get(header.kind)
            self._whole.clear()
            self._expect(header.size, self._whole.extend)
            return
        name, link = self._long_name or header.name, self._long_link or header.link
        size = header.size if self._long_size is None else self._long_size
        self._long_name = self._long_link = self._long_size = None
        self._entry(header.kind, name, link, size)

    def _expect(self, size: int, take: Callable[[bytes], None] | None) -> None:
        self._left, self._padding, self._take = size, -size % _BLOCK, take
        if not size:
            self._end_content()

    def _end_content(self) -> None:
        self._take = None
        self._end_file()
        then, self._then = self._then, None
        if then is not None:
            then(bytes(self._whole))
            self._whole.clear()

    def _end_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _name(self, content: bytes) -> None:
        self._long_name = content.rstrip(b"\0")

    def _link(self, content: bytes) -> None:
        self._long_link = content.rstrip(b"\0")

    def _extended(self, content: bytes) -> None:
        """Records of the newer form: ``LENGTH KEY=VALUE\\n``."""
        while content:
            length, space, _ = content.partition(b" ")
            if not (space and length.isdigit() and len(length) < 10 and 0 < int(length) <= len(content)):
                raise _broken("an extended header that is none")
            key, _, value = content[len(length) + 1 : int(length)].rstrip(b"\n").partition(b"=")
            content = content[int(length) :]
            if key == b"path":
                self._long_name = value
            elif key == b"linkpath":
                self._long_link = value
            elif key == b"size" and value.isdigit() and len(value) < 20:
                self._long_size = int(value)

    def _entry(self, kind: bytes, name: bytes, link: bytes, size: int) -> None:
        parts = _parts(name)
        shown = os.fsdecode(name)
        if not parts:  # the folder itself
            self._expect(size if kind in (b"0", b"\0", b"7") else 0, None)
            return
        self._entries += 1
        if self._entries > self._limits.output_files or len(parts) > MAX_DEPTH:
            raise too_much(
                "files", f"more than {self._limits.output_files:,} files, or folders more than {MAX_DEPTH} deep"
            )
        is_plain = kind in (b"0", b"\0", b"7")
        if is_plain:
            self._count(size)
        if os.fsdecode(parts[0]) in RESERVED:
            # Such a name is ours: the audit drops it with a note, whatever it is.
            self._mark_reserved(parts[0])
            self._expect(size if is_plain else 0, None)
        elif kind == b"5":
            os.close(self._folder(parts))
            self._expect(0, None)
        elif is_plain:
            self._file = self._create(parts)
            self._plain.add(parts)
            file = self._file
            self._expect(size, lambda data: _write(file, data))
        elif kind == b"1":
            self._join(parts, _parts(link), shown)
            self._expect(0, None)
        else:
            raise rejected(shown, _KINDS.get(kind, "a special file"))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.disk:
            raise too_much("disk", f"more than {self._limits.disk:,} bytes")

    def _folder(self, parts: tuple[bytes, ...]) -> int:
        """Open a folder, made where it is not there; nothing there is a link, for nobody else writes."""
        fd = os.dup(self._root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=fd)
                below = os.open(part, _OPEN_DIR, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError as error:
            os.close(fd)
            if isinstance(error, NotADirectoryError):
                raise _broken("a file that is a folder as well") from error
            raise
        return fd

    def _create(self, parts: tuple[bytes, ...]) -> int:
        folder = self._folder(parts[:-1])
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(parts[-1], flags, 0o644, dir_fd=folder)
        except FileExistsError as error:
            raise _broken("one file twice") from error
        finally:
            os.close(folder)

    def _join(self, parts: tuple[bytes, ...], target: tuple[bytes, ...], shown: str) -> None:
        """A second name of a file that came before."""
        if target not in self._plain:
            raise rejected(shown, "a link")
        there, here = self._folder(target[:-1]), self._folder(parts[:-1])
        try:
            self._count(os.stat(target[-1], dir_fd=there, follow_symlinks=False).st_size)
            os.link(target[-1], parts[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
            self._plain.add(parts)
        except FileExistsError as error:
            raise _broken("one file twice") from error
        finally:
            os.close(there)
            os.close(here)

    def _mark_reserved(self, name: bytes) -> None:
        if name not in self._told:
            self._told.add(name)
            os.close(self._create((name,)))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _parsed(block: bytes) -> _Header:
    summed = sum(block[:148]) + 8 * 32 + sum(block[156:])
    if _number(block[148:156]) != summed:
        raise _broken("a header whose checksum is wrong")
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    kind = block[156:157]
    # Of what is neither a file nor one of the headers before one, nothing follows, whatever stands there.
    return _Header(kind, name, block[157:257].split(b"\0", 1)[0], _number(block[124:136]))


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # what does not fit as digits is written as it is
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError as error:
        raise _broken("a header with a number that is none") from error


def _parts(name: bytes) -> tuple[bytes, ...]:
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts or name.startswith(b"/"):
        raise rejected(os.fsdecode(name), "a name that leads elsewhere")
    if any(len(part) > 255 for part in parts):
        raise _broken("a name that no file has")
    return parts


def _broken(what: str) -> AutoScorerError:
    return unavailable(f"What came out of the model's pod is no tar that AutoScorer reads: it has {what}.")
