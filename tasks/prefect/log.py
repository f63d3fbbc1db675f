"""A run's stages and container log, live in the logs of its Prefect run.

The model decides how much it prints, and the server may stand still: so lines are gathered and sent once a second as
one record, the whole of a run is bounded, and the thread that reads the container's output never waits for Prefect.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from ...core.backoff import seldom
from ...core.errors import AutoScorerError
from ...core.text import strip
from ...core.workspace import open_regular
from ...executors.base import Observer

__all__ = ["ASIDE", "FILE_GAP", "MODEL_MARK", "TELLING", "RunLog", "Tee", "gap", "prefix_of"]

# Seconds between two records of container lines.
_PAUSE = 1.0
# Seconds between two records of how far a stage is.
TELLING = 10.0
# Characters of one record, and of all records of a run: Prefect's database is no place for a model's whole output.
_RECORD = 32 * 1024
_RUN = 1024 * 1024
# Of container.log, for the end of the log where lines were left out.
_TAIL_LINES, _TAIL_BYTES = 30, 16 * 1024
# What container.log itself says of its middle.
FILE_GAP = re.compile(r"\[\.\.\. ([0-9]+) bytes left out \.\.\.]")
_TOO_LONG = "[the log is too long: from here on, only the end of each stage's log is shown]"
# What is said among the model's lines of those that are missing: how many, where that is said.
ASIDE = re.compile(
    r"\[([0-9,]+) lines? left out here; see logs/container\.log]|\[the last (?:[0-9,]+ )?of them:]|"
    + re.escape(_TOO_LONG)
)
# Marks what the model wrote: it could print lines that look like ours or Prefect's.
MODEL_MARK = "model | "


class RunLog:
    """An Observer that writes to the logger of a Prefect run. Leave it (``with``) to send what is still held.

    Lines that it leaves out, for want of room or because it was not given them, are counted where they are missing; of
    those at the end of a stage, the last ones are told from the file all the same.

    Args:
        logger: What ``get_run_logger`` gave inside the run; its records carry the run's id from any thread.
        container_log: The workspace's container.log.
        member: Which workspace of a batch it is, for a log that others write to as well; "" for the only one.
    """

    def __init__(
        self, logger: logging.Logger | logging.LoggerAdapter[Any], container_log: Path, *, member: str = ""
    ) -> None:
        self._logger = logger
        self._file = container_log
        self._whose = prefix_of(member)
        self._mark = self._whose + MODEL_MARK
        self._left = _RUN
        self._tell = seldom(lambda told: logger.info("%s", self._whose + told), TELLING)
        self._spent = False
        self._lines: list[str] = []
        self._size = 0
        # Lines left out since the last that was told: all of them, and those that no record has counted yet.
        self._missing = self._uncounted = 0
        self._gathering = threading.Lock()
        self._sending = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def stage(self, name: str, detail: str = "") -> None:
        """Log that a stage began, after the lines that came before it."""
        self._conclude()
        self._logger.info("%s", self._whose + (f"stage {name}: {detail}" if detail else f"stage {name}"))

    def progress(self, told: str) -> None:
        """Log how far the stage is, now and then; what is done within seconds needs no such line."""
        self._tell(told)

    def log(self, line: str) -> None:
        """Take a line of the container's log. Never waits for Prefect."""
        with self._gathering:
            if self._spent or self._size + len(line) > _RECORD:
                self._missing += 1
                self._uncounted += 1
            else:
                self._count()
                self._hold(self._mark + line)
                self._missing = 0
            self._begin()

    def left_out(self, lines: int) -> None:
        """So many lines were not given to ``log``. Never waits for Prefect."""
        with self._gathering:
            self._missing += lines
            self._uncounted += lines
            self._begin()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(5)
        self._conclude()

    def _begin(self) -> None:
        if self._thread is None:
            # Not before there is a line: a batch of scorings needs no thread each.
            send_on = contextvars.copy_context().run
            self._thread = threading.Thread(
                target=send_on, args=(self._send_on,), name="autoscorer-prefect-log", daemon=True
            )
            self._thread.start()

    def _hold(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1

    def _count(self) -> None:
        """Say at this place how many lines are missing."""
        if self._uncounted:
            self._hold(self._gap(self._uncounted))
            self._uncounted = 0

    def _gap(self, lines: int) -> str:
        return self._whose + gap(lines)

    def _conclude(self) -> None:
        """Send what is held. Where the last lines are missing, they are told: how it ended is what a reader wants."""
        with self._gathering:
            missing = self._missing
        tail = [self._mark + line for line in self._tail(missing)] if missing else []
        self._send(tail)

    def _tail(self, most: int) -> list[str]:
        with contextlib.suppress(AutoScorerError, OSError), open_regular(self._file) as file:
            start = max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0)
            file.seek(start)
            text = strip(file.read(_TAIL_BYTES).decode("utf-8", "replace")).replace("\r", "\n")
            lines = text.split("\n")[1 if start else 0 :]
            # What stands before a gap of the file itself is not its end.
            gaps = [number for number, line in enumerate(lines) if FILE_GAP.fullmatch(line)]
            lines = [line for line in lines[gaps[-1] + 1 if gaps else 0 :] if line.strip()]
            return lines[-min(_TAIL_LINES, most) :]
        return []

    def _send_on(self) -> None:
        while not self._done.wait(_PAUSE):
            self._send()

    def _send(self, tail: list[str] | None = None) -> None:
        """Send what is held, and at the end of a stage the last of the lines that are missing."""
        with self._sending:
            with self._gathering:
                if tail:
                    # Some of them may have been counted already, as missing.
                    if self._missing == self._uncounted:
                        self._uncounted -= len(tail)
                    else:
                        tail = [f"{self._whose}[the last {f'{len(tail):,} ' if len(tail) > 1 else ''}of them:]", *tail]
                if tail is not None or not self._spent:
                    self._count()
                if tail is not None:
                    self._missing = 0
                lines, self._lines = self._lines, []
                self._left -= self._size
                self._size = 0
                was_spent, self._spent = self._spent, self._left <= 0
            lines += tail or []
            if self._spent and not was_spent:
                lines.append(self._whose + _TOO_LONG)
            if lines:
                self._logger.info("%s", "\n".join(lines))


def gap(lines: int) -> str:
    """What is said where lines of the model's log are missing."""
    return f"[{lines:,} line{'s' if lines > 1 else ''} left out here; see logs/container.log]"


def prefix_of(member: str) -> str:
    """What each line of a batch's log begins with, to say whose it is; "" for no batch."""
    return f"[{member}] " if member else ""


class Tee:
    """Tells several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def stage(self, name: str, detail: str = "") -> None:
        for observer in self._observers:
            observer.stage(name, detail)

    def progress(self, told: str) -> None:
        for observer in self._observers:
            observer.progress(told)

    def log(self, line: str) -> None:
        for observer in self._observers:
            observer.log(line)

    def left_out(self, lines: int) -> None:
        for observer in self._observers:
            observer.left_out(lines)
