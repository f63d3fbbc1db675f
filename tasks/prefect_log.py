"""A run's stages and container log, live in the logs of its Prefect run.

The model decides how much it prints, and the server may stand still: so lines are gathered and sent once a second as
one record, the whole of a run is bounded, and the thread that reads the container's output never waits for Prefect.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from ..core.errors import AutoScorerError
from ..core.workspace import open_regular
from ..executors.base import Observer
from ..executors.verdict import clean_text

__all__ = ["RunLog", "Tee"]

# Seconds between two records of container lines.
_PAUSE = 1.0
# Characters of one record, and of all records of a run: Prefect's database is no place for a model's whole output.
_RECORD = 32 * 1024
_RUN = 1024 * 1024
# Of container.log, for the end of the log where lines were left out: how it ended is what a reader looks for.
_TAIL_LINES, _TAIL_BYTES = 30, 16 * 1024
# Marks what the model wrote: it could print lines that look like ours or Prefect's.
_MARK = "model | "


class RunLog:
    """An Observer that writes to the logger of a Prefect run. Leave it (``with``) to send what is still held.

    Args:
        logger: What ``get_run_logger`` gave inside the run; its records carry the run's id from any thread.
        container_log: The workspace's container.log. Who feeds us leaves out lines too, so when the last line of the
            file is not the last that came here, the end of the file is logged at the end.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any], container_log: Path) -> None:
        self._logger = logger
        self._file = container_log
        self._left = _RUN
        self._spent = False
        self._lines: list[str] = []
        self._size = 0
        self._skipped = 0
        # The last line that was taken; empty where it was left out, None where none ever came.
        self._last: str | None = None
        self._gathering = threading.Lock()
        self._sending = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def stage(self, name: str, detail: str = "") -> None:
        """Log that a stage began, after the lines that came before it."""
        self._send()
        self._logger.info("%s", f"stage {name}: {detail}" if detail else f"stage {name}")

    def log(self, line: str) -> None:
        """Take a line of the container's log. Never waits for Prefect."""
        with self._gathering:
            if self._spent or self._size + len(line) > _RECORD:
                self._skipped += 1
                self._last = ""
            else:
                self._lines.append(_MARK + line)
                self._size += len(line) + len(_MARK) + 1
                self._last = line
            if self._thread is None:
                # Not before there is a line: a batch of scorings needs no thread each.
                send_on = contextvars.copy_context().run
                self._thread = threading.Thread(
                    target=send_on, args=(self._send_on,), name="autoscorer-prefect-log", daemon=True
                )
                self._thread.start()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(5)
        self._send()
        if self._last is not None:
            tail = self._tail()
            if tail and tail[-1] != self._last:
                lines = [_MARK + line for line in tail]
                self._logger.info("%s", "\n".join(["Lines were left out. How the model's log ends:", *lines]))

    def _tail(self) -> list[str]:
        with contextlib.suppress(AutoScorerError, OSError), open_regular(self._file) as file:
            start = max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0)
            file.seek(start)
            text = clean_text(file.read(_TAIL_BYTES).decode("utf-8", "replace")).replace("\r", "\n")
            lines = [line for line in text.split("\n")[1 if start else 0 :] if line.strip()]
            return [line[:_TAIL_BYTES] for line in lines[-_TAIL_LINES:]]
        return []

    def _send_on(self) -> None:
        while not self._done.wait(_PAUSE):
            self._send()

    def _send(self) -> None:
        with self._sending:
            with self._gathering:
                lines, self._lines = self._lines, []
                skipped, self._skipped = self._skipped, 0
                self._left -= self._size
                self._size = 0
                was_spent, self._spent = self._spent, self._left <= 0
            if self._spent and not was_spent:
                lines.append("[the rest of the model's log, but for its end, is only in the workspace's logs/]")
            elif skipped and not was_spent:
                lines.append(f"[{skipped} lines left out here; logs/container.log in the workspace has more]")
            if lines:
                self._logger.info("%s", "\n".join(lines))


class Tee:
    """Tells several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def stage(self, name: str, detail: str = "") -> None:
        for observer in self._observers:
            observer.stage(name, detail)

    def log(self, line: str) -> None:
        for observer in self._observers:
            observer.log(line)
