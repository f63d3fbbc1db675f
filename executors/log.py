"""container.log: written as it comes, readable while the run goes on, and never larger than its cap."""

from __future__ import annotations

import codecs
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..core.text import strip
from .files import remove_tree

__all__ = ["CappedLog"]

_MAX_LINE = 2000
# How much of one write is looked at for lines.
_MAX_CHUNK = 64 * 1024
# Of bytes that are only counted: a line that holds anything ends in "x\n", one that holds nothing is no line.
_NOTHING = bytes(byte for byte in range(33) if byte not in b"\r\n") + b"\x7f"
_SHAPE = bytes(10 if byte in b"\r\n" else ord("x") for byte in range(256))


class CappedLog:
    """Keeps the head and the tail of a stream in one file.

    The head is written at once; past it, the last bytes are kept in memory and laid behind the head by ``flush``
    (the supervisor calls it about once a second) and by ``close``, with a line between that says how much is left
    out. So the file is a good log at any moment, and a model that logs without end costs ``cap`` bytes. A disk that is
    full costs lines of the log, never the run: whoever reads the model's output must not stop, or the model would
    wait for it until its deadline.

    Args:
        path: The file; replaced.
        cap: Most bytes kept, half of it head and half tail; the line between comes on top.
        on_line: Takes each line of the log (control characters removed), at most ``lines_per_flush`` between flushes.
            It is called in turn, and must be quick.
        on_gap: Takes how many lines ``on_line`` was not given, where they would have come; blank ones do not count.
    """

    lines_per_flush = 200

    def __init__(
        self,
        path: Path,
        cap: int,
        on_line: Callable[[str], None] | None = None,
        on_gap: Callable[[int], None] | None = None,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(path)  # it may be a link or a folder that somebody left
        self._file = path.open("xb", buffering=0)
        self._half = max(cap // 2, 1)
        self._head, self._head_end = 0, self._half
        # The last bytes past the head: at least the half that is kept, at most twice that.
        self._tail = bytearray()
        self._dirty = False
        self._omitted = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._quota = self.lines_per_flush
        self._on_line, self._on_gap = on_line, on_gap
        # Lines left out since the last one that was told, and whether another one has begun.
        self._gap, self._passing = 0, False
        self._lock = threading.Lock()
        self.total = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        with self._lock:
            if self._file.closed:
                return
            self.total += len(data)
            rest = self._write_head(data)
            if rest:
                self._keep_tail(rest)
            if self._on_line is not None:
                self._tell(data, self._on_line)

    def _write_head(self, data: bytes) -> bytes:
        """Write what still belongs to the head; returns the rest."""
        part = data[: max(self._head_end - self._head, 0)]
        if not part:
            return data
        written = 0
        with contextlib.suppress(OSError):
            written = self._file.write(part) or 0
        self._head += written
        if written < len(part):
            self._head_end = self._head  # the disk is full: the head ends here
        return data[written:]

    def _keep_tail(self, data: bytes) -> None:
        if len(data) >= self._half:
            self._drop(len(self._tail))
            self._omitted += len(data) - self._half
            data = data[-self._half :]
        self._tail += data
        if len(self._tail) > 2 * self._half:
            self._drop(len(self._tail) - self._half)
        self._dirty = True

    def _drop(self, size: int) -> None:
        del self._tail[:size]
        self._omitted += size

    def _tell(self, data: bytes, on_line: Callable[[str], None]) -> None:
        if self._quota <= 0:
            self._pass(data)
            return
        if self._passing:
            # The end of a line that was left out is none by itself.
            ends = [end for end in (data.find(b"\n"), data.find(b"\r")) if end >= 0]
            end = min(ends) + 1 if ends else len(data)
            self._pass(data[:end])
            data = data[end:]
        text = self._line + self._decoder.decode(data[:_MAX_CHUNK])
        *whole, rest = text.replace("\r", "\n").split("\n")
        self._line = rest[: _MAX_LINE + 1]
        lines = [line for line in map(strip, whole) if line.strip()]
        taken = lines[: self._quota]
        if taken:
            self._tell_gap()
        for line in taken:
            on_line(_shortened(line))
        self._quota -= len(taken)
        self._gap += len(lines) - len(taken)
        if len(data) > _MAX_CHUNK:
            self._pass(data[_MAX_CHUNK:])

    def _pass(self, data: bytes) -> None:
        """Count the lines of what is not looked at: a model may print faster than Python reads."""
        # What was begun goes on in bytes that were not looked at; its end would be glued to another line's.
        if strip(self._line).strip() or self._decoder.getstate()[0]:
            self._passing = True
        self._line = ""
        self._decoder.reset()
        shape = (b"x" if self._passing else b"") + data.translate(_SHAPE, _NOTHING)
        self._gap += shape.count(b"x\n")
        self._passing = shape.endswith(b"x")

    def _tell_gap(self) -> None:
        gap, self._gap = self._gap, 0
        if gap and self._on_gap is not None:
            self._on_gap(gap)

    def flush(self) -> None:
        """Lay the tail behind the head, so that a reader of the file sees the newest lines."""
        with self._lock:
            self._quota = self.lines_per_flush
            self._tell_gap()
            self._flush()

    def _flush(self) -> None:
        if not self._dirty or self._file.closed:
            return
        if len(self._tail) > self._half:
            self._drop(len(self._tail) - self._half)
        gap = b"\n[... %d bytes left out ...]\n" % self._omitted if self._omitted else b""
        with contextlib.suppress(OSError):
            self._file.seek(self._head)
            self._file.write(gap + self._tail)
            self._file.truncate()
        self._dirty = False

    def tail(self, size: int = 8192) -> str:
        """The last ``size`` bytes of the stream as text."""
        with self._lock:
            data = bytes(self._tail[-size:])
            if len(data) < size and self._head and not self._omitted:
                with contextlib.suppress(OSError), open(self._file.name, "rb") as file:
                    start = max(self._head - (size - len(data)), 0)
                    file.seek(start)
                    data = file.read(self._head - start) + data
            return data.decode("utf-8", "replace")

    def close(self) -> None:
        """Write what is held back, the last unfinished line too."""
        with self._lock:
            if self._file.closed:
                return
            self._flush()
            self._file.close()
            last = strip(self._line)
            self._line = ""
            self._gap += self._passing
            self._tell_gap()
            if self._on_line is not None and last.strip():
                self._on_line(_shortened(last))

    def __enter__(self) -> CappedLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shortened(line: str) -> str:
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…"
