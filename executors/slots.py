"""How many models run at a time on this host: each takes one of N files, and the kernel gives it back.

The files lie under ``<home>/slots``, so the limit holds for every process of an installation together: workers, the
command line, a batch's threads. A holder that is killed holds nothing any more.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.locks import acquire
from ..core.storage import writing_home
from .base import Observer

__all__ = ["slot"]

# Seconds between two attempts: short at first, then calmer.
_FIRST, _MOST = 0.02, 0.5


@contextlib.contextmanager
def slot(
    settings: Settings, executor: str, cancelled: Callable[[], bool], observer: Observer
) -> Iterator[float | None]:
    """Wait for the right to run a model, and have it inside.

    Args:
        settings: The configuration; ``executors.<executor>.concurrency`` is the number of slots.
        executor: ``bubblewrap``, ``docker``, ``kubernetes`` or ``process``.
        cancelled: Asked again and again while it waits.
        observer: Told of the stage ``wait``, if it has to.

    Yields:
        Seconds that it waited; None where there is no limit.

    Raises:
        AutoScorerError: ``CANCELLED`` while it waited; ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage ``config`` when
            the home can't be written for another reason.
    """
    number = _limit(settings, executor)
    if number is None:
        yield None
        return
    folder = settings.home / "slots"
    started = time.monotonic()
    pause = _FIRST
    while (fd := _take(folder, executor, number)) is None:
        if pause == _FIRST:
            observer.stage("wait", f"for one of {number} places to run a model")
        if cancelled():
            raise AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled while it waited for a place to run in.")
        # Not all at the same moment, and none always behind another.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        pause = min(1.5 * pause, _MOST)
    try:
        yield time.monotonic() - started
    finally:
        os.close(fd)


def _limit(settings: Settings, executor: str) -> int | None:
    limits = {
        "bubblewrap": settings.executors.bubblewrap.concurrency,
        "docker": settings.executors.docker.concurrency,
        "kubernetes": settings.executors.kubernetes.concurrency,
        "process": settings.executors.process.concurrency,
    }
    return limits.get(executor)  # what is no backend is refused by who makes one


def _take(folder: Path, executor: str, number: int) -> int | None:
    """A locked descriptor of a free slot."""
    for index in range(number):
        with writing_home(folder.parent):
            folder.mkdir(parents=True, exist_ok=True)
            fd = acquire(folder / f"{executor}.{index}")
        if fd is not None:
            return fd
    return None
