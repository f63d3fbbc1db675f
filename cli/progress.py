"""Live progress on a terminal: stage, elapsed time, how far it is or the last line of the model's log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from ..executors.base import Observer, SilentObserver
from .output import printable

__all__ = ["progress"]


class _Terminal:
    """Keeps one line of stderr up to date."""

    def __init__(self) -> None:
        self._stage, self._detail, self._line = "", "", ""
        self._since = self._began = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._draw_on, name="autoscorer-progress", daemon=True)

    def stage(self, name: str, detail: str = "") -> None:
        if self._stage:
            self._finish_line()
        self._stage, self._detail, self._line = name, detail, ""
        self._since = time.monotonic()
        self._draw()

    def progress(self, told: str) -> None:
        self._line = told

    def log(self, line: str) -> None:
        self._line = line

    def left_out(self, lines: int) -> None:
        pass  # of one line that is shown anew again and again, all others are

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join(1)
        if self._stage:
            self._finish_line()

    def _draw_on(self) -> None:
        while not self._done.wait(0.2):
            self._draw()

    def _draw(self) -> None:
        if not self._stage:
            return
        import shutil

        text = f"{self._stage:<9}{time.monotonic() - self._since:6.1f} s  {printable(self._line or self._detail)}"
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[2K" + text.replace("\n", " ")[:width])
        sys.stderr.flush()

    def _finish_line(self) -> None:
        self._line = ""
        self._draw()
        sys.stderr.write("\n")
        sys.stderr.flush()


@contextlib.contextmanager
def progress(wanted: bool) -> Iterator[Observer]:
    """An observer that shows progress on stderr when it is a terminal, and is silent otherwise.

    Args:
        wanted: False to be silent anyway.
    """
    if not wanted or not sys.stderr.isatty():
        yield SilentObserver()
        return
    terminal = _Terminal()
    terminal.start()
    try:
        yield terminal
    finally:
        terminal.stop()
