"""container.log: written as it comes, readable while the run goes on, and never larger than its cap."""

from __future__ import annotations

import codecs
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from .verdict import clean_text

__all__ = ["CappedLog"]

_MAX_LINE = 2000


class CappedLog:
    """Keeps the head and the tail of a stream in one file.

    The head is written at once; past it, the last bytes are kept in memory and laid behind the head by ``flush``
    (the supervisor calls it about once a second) and by ``close``, with a line between that says how much is left
    out. So the file is a good log at any moment, and a model that logs without end costs ``cap`` bytes.

    Args:
        path: The file; replaced.
        cap: Most bytes kept, half of it head and half tail.
        on_line: Takes each line of the log (control characters removed), at most ``lines_per_flush`` between flushes.
    """

    lines_per_flush = 200

    def __init__(self, path: Path, cap: int, on_line: Callable[[str], None] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link that somebody left
        self._file = path.open("xb", buffering=0)
        self._half = max(cap // 2, 1)
        self._head = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._dirty = False
        self._omitted = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._quota = self.lines_per_flush
        self._on_line = on_line
        self._lock = threading.Lock()
        self.total = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        with self._lock:
            if self._file.closed:
                return
            self.total += len(data)
            lines = self._lines(data)
            room = self._half - self._head
            if room > 0:
                self._file.write(data[:room])
                self._head += min(len(data), room)
                data = data[room:]
            if data:
                self._keep_tail(data)
        if self._on_line is not None:
            for line in lines:
                self._on_line(line)

    def _keep_tail(self, data: bytes) -> None:
        self._tail.append(data[-self._half :])
        self._omitted += max(len(data) - self._half, 0)
        self._tail_size += min(len(data), self._half)
        while self._tail_size - len(self._tail[0]) >= self._half:
            gone = len(self._tail.popleft())
            self._tail_size -= gone
            self._omitted += gone
        self._dirty = True

    def _lines(self, data: bytes) -> list[str]:
        if self._on_line is None or self._quota <= 0:
            return []
        text = self._line + self._decoder.decode(data[: 64 * 1024])
        *whole, rest = text.replace("\r", "\n").split("\n")
        self._line = rest[-_MAX_LINE:]
        taken = [clean_text(line[:_MAX_LINE]) for line in whole if line.strip()][: self._quota]
        self._quota -= len(taken)
        return taken

    def flush(self) -> None:
        """Lay the tail behind the head, so that a reader of the file sees the newest lines."""
        with self._lock:
            self._quota = self.lines_per_flush
            self._flush()

    def _flush(self) -> None:
        if not self._dirty or self._file.closed:
            return
        tail = b"".join(self._tail)
        gap = b"\n[... %d bytes left out ...]\n" % self._omitted if self._omitted else b""
        self._file.seek(self._head)
        self._file.write(gap + tail)
        self._file.truncate()
        self._dirty = False

    def tail(self, size: int = 8192) -> str:
        """The last ``size`` bytes of the stream as text."""
        with self._lock:
            data = b"".join(self._tail)[-size:]
            if len(data) < size and self._head and not self._omitted:
                with open(self._file.name, "rb") as file:
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
            last = clean_text(self._line)
            self._line = ""
        if self._on_line is not None and last.strip():
            self._on_line(last)

    def __enter__(self) -> CappedLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
