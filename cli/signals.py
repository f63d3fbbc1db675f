"""Ctrl-C, SIGTERM and SIGHUP end a command as ``CANCELLED``, with the container removed and the Result written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["cancel_on_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def cancel_on_signals() -> Iterator[None]:
    """Raise ``CANCELLED`` in the main thread at the first signal; let nothing disturb the clearing up after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    fired = False

    def cancel(number: int, frame: Any) -> None:
        nonlocal fired
        if fired:
            return  # impatience must not leave a container behind; SIGKILL remains, and the reaper after it
        fired = True
        raise AutoScorerError(ErrorCode.CANCELLED, f"Cancelled by {signal.Signals(number).name}.")

    before = {number: signal.signal(number, cancel) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
