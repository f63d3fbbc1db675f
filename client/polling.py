"""Asking again and again, through times in which the API does not answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..core.errors import AutoScorerError
from .connection import ApiAway, ApiBusy

__all__ = ["Patience", "poll", "resumed"]

T = TypeVar("T")

# Seconds between two looks: at first often, because much ends at once.
FIRST, MORE, LONGEST = 0.1, 1.3, 1.0
# Seconds between two tries when nobody answers, and how long there is any sense in it.
AWAY, PATIENCE = 2.0, 600.0
# Seconds of a pause that an API may ask for.
LONGEST_PAUSE = 60.0


class Patience:
    """How long an API that does not answer is asked again.

    Args:
        on_away: Called once each time that it stops answering.
    """

    def __init__(self, on_away: Callable[[], None] | None = None) -> None:
        self._on_away = on_away
        self._since: float | None = None

    def answered(self) -> None:
        """It is there."""
        self._since = None

    def pause(self, error: AutoScorerError, *, deadline: float = math.inf) -> None:
        """Wait a little before the next try.

        Args:
            error: What came instead of an answer.
            deadline: Of ``time.monotonic``; nobody waits longer.

        Raises:
            AutoScorerError: ``error``, when it is another one than ``ApiAway`` or ``ApiBusy``, or when it is too late.
        """
        now = time.monotonic()
        if isinstance(error, ApiBusy):
            if now > deadline:
                raise error
            time.sleep(min(error.after or AWAY, LONGEST_PAUSE))
            return
        if not isinstance(error, ApiAway):
            raise error
        if self._since is None:
            self._since = now
            if self._on_away is not None:
                self._on_away()
        if now - self._since > PATIENCE or now > deadline:
            raise error
        time.sleep(AWAY)


def poll(
    look: Callable[[], tuple[T, bool]], *, timeout: float = math.inf, on_away: Callable[[], None] | None = None
) -> T:
    """Look until it is enough.

    Args:
        look: What there is, and whether it is enough.
        timeout: Seconds, at most; at least one look is taken.
        on_away: As ``Patience`` takes it.

    Returns:
        What there was at last.

    Raises:
        ApiAway: The API did not come back for minutes.
        AutoScorerError: What it answered instead.
    """
    patience, deadline, pause = Patience(on_away), time.monotonic() + timeout, FIRST
    while True:
        try:
            found, enough = look()
        except AutoScorerError as error:
            patience.pause(error, deadline=deadline)
            continue
        patience.answered()
        left = deadline - time.monotonic()
        if enough or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * MORE, LONGEST)


def resumed(connect: Callable[[], Iterator[T]], on_away: Callable[[], None] | None) -> Iterator[T]:
    """What a stream brings, without an end: where it ends or breaks, it is asked for again.

    Args:
        connect: Asks for the stream, from the beginning or from where it was left: it knows.
        on_away: As ``Patience`` takes it.

    Raises:
        AutoScorerError: As ``Patience.pause``.
    """
    patience, pause = Patience(on_away), FIRST
    while True:
        began = False
        try:
            for each in connect():
                patience.answered()
                began = True
                yield each
        except AutoScorerError as error:
            if not (began and isinstance(error, ApiAway)):
                patience.pause(error)
                continue
        time.sleep(pause)
        pause = min(pause * MORE, LONGEST)
