"""How long a run has had, without the time in which the supervising process itself stood still."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["RunClock"]

# Seconds between two looks at the clock, and the most that may lie between two before the rest counts as standstill.
TICK, LATE = 0.25, 2.0


class RunClock:
    """A clock that stands still with its process.

    A process that was stopped, a host that was suspended, a virtual machine that was paused: when it goes on, its
    monotonic clock may be minutes ahead, and neither the supervisor nor, often, the model had them. A thread looks at
    the clock every quarter of a second; what lies between two looks counts for two seconds at most. So time goes on
    whenever the process does, and a deadline by this clock always comes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._elapsed = self._stood_still = 0.0
        self._last = time.monotonic()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        threading.Thread(target=self._tick, name="autoscorer-clock", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()

    def elapsed(self) -> float:
        """Seconds since the start in which this process went on."""
        with self._lock:
            now = time.monotonic()
            passed, self._last = now - self._last, now
            counted = min(passed, LATE)
            self._elapsed += counted
            self._stood_still += passed - counted
            return self._elapsed

    @property
    def stood_still(self) -> float:
        """Seconds since the start in which it did not."""
        self.elapsed()
        return self._stood_still

    def _tick(self) -> None:
        while not self._stopped.wait(TICK):
            self.elapsed()
