"""How long to wait before the next attempt, and calling something for as long as a process lives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

from .errors import AutoScorerError

__all__ = ["delay", "delays", "periodic", "seldom"]

logger = logging.getLogger(__name__)

# Doublings after which any delay is beyond any limit; a float has an end.
_MOST_DOUBLINGS = 60


def delay(attempt: int, first: float, longest: float = float("inf"), *, factor: float = 2.0) -> float:
    """Seconds to wait after an attempt that failed.

    Args:
        attempt: Its number, from 1 on.
        first: Seconds after the first attempt.
        longest: Seconds at most.
        factor: By which the wait grows from one attempt to the next.
    """
    return min(first * factor ** min(attempt - 1, _MOST_DOUBLINGS), longest)


def delays(first: float, longest: float, *, factor: float = 2.0) -> Iterator[float]:
    """Seconds to wait after each attempt that fails, without end; the arguments are as of ``delay``."""
    return (delay(attempt, first, longest, factor=factor) for attempt in itertools.count(1))


def seldom(tell: Callable[[str], None], seconds: float) -> Callable[[str], None]:
    """Have what is told again and again passed on now and then; the rest of it is left out.

    Args:
        tell: Told.
        seconds: That lie between two times at least, and before the first one.
    """
    last = time.monotonic()

    def told(what: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= seconds:
            last = now
            tell(what)

    return told


async def periodic(
    name: str,
    look: Callable[[], Awaitable[float | None]],
    every: float,
    *,
    woken: asyncio.Event | None = None,
    away: type[AutoScorerError] | tuple[type[AutoScorerError], ...] = (),
    when_away: str | None = None,
    pauses: tuple[float, float] = (0.5, 5.0),
) -> None:
    """Call something again and again, until cancelled; a fault in it is logged and ends nothing.

    Args:
        name: Of the loop, for the log.
        look: What is called. It may return the seconds until the next call, in place of ``every``.
        every: Seconds from the end of a call to the next one.
        woken: Ends a wait when it is set. It does not shorten the wait for what was away.
        away: What ``look`` raises when what it needs does not answer.
        when_away: What is logged with the reason, once each time that it goes away; None where others say so.
        pauses: Seconds after the first call that met ``away``, and after so many in a row at most.
    """
    waits: Iterator[float] | None = None
    while True:
        if woken is not None:
            woken.clear()
        try:
            pause = await look()
        except away as error:
            if waits is None:
                waits = delays(*pauses)
                if when_away is not None:
                    logger.warning("%s: %s", when_away, error.message)
            await asyncio.sleep(next(waits))
            continue
        except Exception:
            logger.exception("the loop %s failed and goes on", name)
            await asyncio.sleep(1.0)
            continue
        waits = None
        pause = every if pause is None else pause
        if woken is None:
            await asyncio.sleep(pause)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await woken.wait()
