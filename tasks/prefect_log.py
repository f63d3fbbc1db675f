"""A run's stages and container log, live in the logs of its Prefect run.

The model decides how much it prints, and the server may stand still: so lines are gathered and sent once a second as
one record, the whole of a run is bounded, and the thread that reads the container's output never waits for Prefect.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import deque
from types import TracebackType
from typing import Any

from ..executors.base import Observer

__all__ = ["RunLog", "Tee"]

# Seconds between two records of container lines.
_PAUSE = 1.0
# Characters of one record, and of all records of a run: Prefect's database is no place for a model's whole output.
_RECORD = 32 * 1024
_RUN = 1024 * 1024
# Lines kept for the end of the run once the budget is spent: how it ended is what a reader looks for.
_TAIL = 30
# Marks what the model wrote: it could print lines that look like ours or Prefect's.
_MARK = "model | "


class RunLog:
    """An Observer that writes to the logger of a Prefect run. Leave it (``with``) to send what is still held.

    Args:
        logger: What ``get_run_logger`` gave inside the run; its records carry the run's id from any thread.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._logger = logger
        self._left = _RUN
        self._spent = False
        self._lines: list[str] = []
        self._size = 0
        self._skipped = 0
        self._tail: deque[str] = deque(maxlen=_TAIL)
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
                self._tail.append(line)
            else:
                self._tail.clear()
                self._lines.append(_MARK + line)
                self._size += len(line) + len(_MARK) + 1
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
        with self._gathering:
            last = [_MARK + line for line in self._tail]
        if last:
            self._logger.info("%s", "\n".join(["how the model's log ended:", *last]))

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
