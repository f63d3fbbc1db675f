"""The model's log as it comes, byte for byte, and resumed after a cut without doubling or losing a line.

The API server is asked for timestamps, which stand before each line and are taken off again: after a cut they say where
to go on, also where the node has begun a new file meanwhile. Nothing reads what is in a line.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from .api import FIRST, MOST, KubernetesApi, interrupt
from .errors import ApiError
from .names import MODEL, pod_path

if TYPE_CHECKING:
    import httpx

__all__ = ["LogFollower", "TimedLines"]

_STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) "
_AT = re.compile(_STAMP)
_EACH = re.compile(rb"^" + _STAMP, re.MULTILINE)
_LONGEST = 36
# Runtimes cut a line at 16 KiB or 8 KiB, and servers before 1.27 put a timestamp before each part.
_PART = 8192
_LONG_LINE = re.compile(rb"[^\n]{%d}" % (_PART + 20))
# Seconds that reading the rest may take after the model's end.
REST = 20.0
LEFT_OUT = b"\n[... lines left out: the model logged faster than the cluster hands it out ...]\n"


class _Place(Enum):
    """Where in the stream the next byte stands."""

    START = auto()  # before a line, and so before its timestamp
    LINE = auto()
    PART = auto()  # where a runtime may have cut a line, and a timestamp may stand


class TimedLines:
    """Takes timestamps off a stream of lines, and knows where it was.

    Args:
        on_log: Takes the bytes without them.

    Attributes:
        stamp: That of the newest line; empty before the first.
    """

    def __init__(self, on_log: Callable[[bytes], None]) -> None:
        self._on_log = on_log
        self._held = b""
        self._place = _Place.START
        # Bytes of the line under way; and how many of it were given on before a cut, -1 for all of it.
        self._seen, self._given = 0, -1
        self.stamp = b""
        # How many lines had that timestamp; and in a resumed stream, how many of them have come by again.
        self._same = 0
        self._repeated: int | None = None
        self._skip_line, self._skip_bytes = False, 0

    def resume(self) -> None:
        """The stream was cut, and comes again from somewhere before its end."""
        self._held = b""
        if self._repeated is None:
            if self._place is _Place.START:
                self._given = -1
            elif not self._skip_bytes:
                self._given = self._seen
        self._place = _Place.START
        self._repeated = 0 if self.stamp else None

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        data, self._held = self._held + data, b""
        at = 0
        while at < len(data):
            if self._place is _Place.START:
                at = self._whole_lines(data, at)
            if at < len(data):
                after = self._next(data, at)
                if after is None:
                    self._held = data[at:]
                    return
                at = after

    def finish(self) -> None:
        """Give on what was held back: the stream is over."""
        rest, self._held = self._held, b""
        if rest and self._place is not _Place.START:
            self._give(rest)

    def _next(self, data: bytes, at: int) -> int | None:
        """Read a timestamp or a part of a line; returns where it ends, None where more is needed to tell."""
        if self._place is _Place.LINE:
            cut = at + _PART - self._seen % _PART
            newline = data.find(b"\n", at, cut)
            end = newline + 1 if newline >= 0 else min(cut, len(data))
            self._give(data[at:end])
            if newline >= 0:
                self._place = _Place.START
            elif end == cut:
                self._place = _Place.PART
            return end
        found = _AT.match(data, at)
        if found is None and len(data) - at < _LONGEST and b"\n" not in data[at:]:
            return None
        if self._place is _Place.START:
            self._begin(found[0] if found is not None else None)
        elif found is not None and _moment(found[0]) < _moment(self.stamp):
            found = None  # the model's own text
        self._place = _Place.LINE
        return found.end() if found is not None else at

    def _whole_lines(self, data: bytes, at: int) -> int:
        """The common case, without a loop over lines; returns where it ends."""
        end = data.rfind(b"\n") + 1
        if self._repeated is not None or end <= at:
            return at
        block = data[at:end]
        count = block.count(b"\n")
        if _LONG_LINE.search(block) or len(_EACH.findall(block)) != count:
            return at
        last = _AT.match(block, block.rfind(b"\n", 0, -1) + 1)
        assert last is not None
        same = block.count(b"\n" + last[0]) + block.startswith(last[0])
        self._same = same if same < count or last[0] != self.stamp else same + self._same
        self.stamp = last[0]
        self._on_log(_EACH.sub(b"", block))
        return end

    def _begin(self, stamp: bytes | None) -> None:
        self._seen, self._skip_line, self._skip_bytes = 0, False, 0
        if stamp is None:
            return  # no line of the log: a word of the server's
        if self._repeated is not None:
            if _moment(stamp) < _moment(self.stamp):
                self._skip_line = True
                return
            if stamp == self.stamp:
                self._repeated += 1
                if self._repeated < self._same or (self._repeated == self._same and self._given < 0):
                    self._skip_line = True
                    return
                if self._repeated == self._same:
                    self._skip_bytes, self._repeated = self._given, None
                    return
            self._repeated = None
        self._same = self._same + 1 if stamp == self.stamp else 1
        self.stamp = stamp

    def _give(self, part: bytes) -> None:
        self._seen += len(part)
        if self._skip_line:
            return
        skipped = min(self._skip_bytes, len(part))
        self._skip_bytes -= skipped
        if part[skipped:]:
            self._on_log(part[skipped:])


def _moment(stamp: bytes) -> tuple[bytes, bytes]:
    """What orders timestamps: of one node all have one time zone."""
    fraction = re.match(rb"\.(\d+)", stamp[19:])
    return stamp[:19], (fraction[1] if fraction else b"").ljust(9, b"0")


class LogFollower:
    """Follows the log of a pod's model in a thread of its own.

    Args:
        api: The API server.
        namespace: The pod's.
        pod: Its name.
        on_log: Takes the bytes.
    """

    def __init__(self, api: KubernetesApi, namespace: str, pod: str, on_log: Callable[[bytes], None]) -> None:
        self._api, self._path = api, pod_path(namespace, pod) + "/log"
        self._lines = TimedLines(on_log)
        self._on_log = on_log
        self._stopped = threading.Event()
        self._is_whole = False
        self._answer: httpx.Response | None = None
        self._thread = threading.Thread(target=self._follow, name="autoscorer-log", daemon=True)
        self._thread.start()

    def finish(self, *, is_there: bool) -> None:
        """The model has ended: read what is left, as long as that does not take too long.

        Args:
            is_there: Whether the pod is, so that its log can be asked for.
        """
        # A stream that is followed ends some seconds after the model; what is left is there at once.
        self._stop()
        if is_there and not self._is_whole:
            with contextlib.suppress(ApiError):
                if not self._read(follow=False, until=time.monotonic() + REST):
                    self._on_log(LEFT_OUT)
                    self._read(follow=False, until=time.monotonic() + REST, tail=1000)
        self._lines.finish()

    def close(self) -> None:
        """End it without reading on."""
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        interrupt(self._answer)
        self._thread.join(5)

    def _follow(self) -> None:
        pause = FIRST
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._read(follow=True)
                # It ends with the model; or early, as some servers end what takes long. Who ends us knows which.
            except ApiError as error:
                if error.status == 404:
                    return
            if self._stopped.wait(pause):
                return
            pause = FIRST if time.monotonic() - began > 10 else min(2 * pause, MOST)

    def _read(self, *, follow: bool, until: float | None = None, tail: int | None = None) -> bool:
        """Read the log from where it was; whether its end was reached."""
        query: dict[str, str | int] = {"container": MODEL, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if tail is not None:
            query["tailLines"] = tail
        elif self._lines.stamp:
            # To the second, and in the form that the server reads.
            text = self._lines.stamp.decode().strip()
            zone = re.search(r"(Z|[+-]\d\d:\d\d)$", text)
            query["sinceTime"] = text[:19] + (zone[0] if zone else "Z")
        quiet = None if follow else 30.0
        with self._api.stream(self._path, "read the model's log", query=query, quiet=quiet) as answer:
            self._answer = answer if follow else None
            self._lines.resume()
            try:
                for chunk in answer.iter_bytes():
                    self._lines.feed(chunk)
                    if follow and self._stopped.is_set():
                        return False
                    if until is not None and time.monotonic() > until:
                        return False
            finally:
                self._answer = None
        return True
