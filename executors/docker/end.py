"""Waiting for a container's end, through an engine that may go away and come back, and asking whose doing the end was.

An engine that is restarted takes its containers along (SIGTERM or SIGKILL, exit code 143, 137 or 255) unless it is set
to keep them (``live-restore``). None of that is the model's fault.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from ...core.errors import AutoScorerError
from ..base import Ending, Interruption
from .engine import engine_errors, engine_exceptions, knock

__all__ = ["ContainerEnd", "patiently"]

T = TypeVar("T")

# Seconds for which an engine may be away before a run counts as lost.
ENGINE_PATIENCE = 60.0
# Seconds that an engine which is being restarted has to come back and answer, kill or remove.
RESTARTING = 30.0
# Seconds for an engine's answer to come in that it has sent already.
ANSWER = 5.0


class ContainerEnd:
    """Waits for one container in a thread of its own.

    Args:
        client: The Engine's client.
        container: The container's id.
        on_return: Called when the engine is back and the container runs on: what was attached to it has to be again.
    """

    def __init__(self, client: Any, container: str, on_return: Callable[[], None]) -> None:
        self._client, self._container, self._on_return = client, container, on_return
        self._ended = threading.Event()
        self._exit_code: int | None = None
        self._failed: Exception | None = None
        self._engine_away = False
        threading.Thread(target=self._wait, name="autoscorer-wait", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds``; True when it has ended."""
        return self._ended.wait(seconds)

    def ask(self) -> bool:
        """Ask the engine whether it has ended, where the answer that was waited for is late.

        One that is being restarted is waited for: it may have taken the container along.
        """
        if self._ended.is_set():
            return True
        try:
            if patiently(self._runs):
                return False
        except AutoScorerError:
            return False  # the engine stays away: nobody knows
        self._ended.wait(ANSWER)
        return True

    def give_up(self) -> None:
        """Wait no more."""
        self._ended.set()

    def ending(self, *, killed: bool) -> Ending:
        """How it ended.

        Args:
            killed: Whether the supervisor killed it, which is no interruption.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` when the engine did not come back.
        """
        if self._failed is not None:
            with engine_errors("wait for the container"):
                raise self._failed
        try:
            state = self._state()
        except AutoScorerError as error:
            if not _unreachable(error):
                raise
            # It is being shut down, and has ended the container first.
            self._engine_away = True
            state = patiently(self._state)
        away = Interruption.ENGINE_AWAY if self._engine_away else None
        if state is None:
            return Ending(exit_code=None, interrupted=away)
        code = self._exit_code if self._exit_code is not None else state.get("ExitCode")
        oom_killed = bool(state.get("OOMKilled"))
        if away is None and code != 0 and not killed and not oom_killed:
            away = self._asked_to_stop(state)
        return Ending(exit_code=code, oom_killed=oom_killed, interrupted=away)

    def _wait(self) -> None:
        import docker.errors

        stumbles: tuple[type[Exception], ...] = (*engine_exceptions(), ValueError, AutoScorerError)
        lost = None
        while not self._ended.is_set():
            try:
                if lost is not None and not self._engine_away:
                    # Back. What has ended meanwhile, ended while nobody could see why.
                    if self._runs():
                        self._on_return()
                        lost = None
                    else:
                        self._engine_away = True
                knock(self._client)
                self._exit_code = self._client.wait(self._container, timeout=None)["StatusCode"]
                self._ended.set()
            except docker.errors.NotFound:
                self._ended.set()  # somebody removed it: no exit code
            except stumbles as error:
                now = time.monotonic()
                lost = now if lost is None else lost
                if now - lost > ENGINE_PATIENCE:
                    self._failed = error
                    self._ended.set()
                time.sleep(0.2)

    def _runs(self) -> bool:
        state = self._state()
        return state is not None and bool(state.get("Running"))

    def _state(self) -> dict[str, Any] | None:
        """What the engine says of it; None when it is gone."""
        import docker.errors

        with engine_errors("inspect the container"):
            knock(self._client)
            try:
                state: dict[str, Any] = self._client.inspect_container(self._container)["State"]
            except docker.errors.NotFound:
                return None
        return state

    def _asked_to_stop(self, state: dict[str, Any]) -> Interruption | None:
        """Whether somebody had the engine stop it (``docker stop``, its own shutdown): the engine notes that."""
        since, until = _seconds(state.get("StartedAt")), _seconds(state.get("FinishedAt"))
        if since is None or until is None:
            return None
        filters = {"container": [self._container], "event": ["kill"]}
        down: tuple[type[Exception], ...] = (*engine_exceptions(), ValueError)
        try:
            knock(self._client)
            noted = self._client.events(since=since, until=until + 1, filters=filters, decode=True)
            return Interruption.STOPPED if any(True for _ in noted) else None
        except down:
            return Interruption.ENGINE_AWAY  # it went down right behind the model


def _seconds(stamp: Any) -> int | None:
    try:
        return int(datetime.fromisoformat(stamp).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


def patiently(action: Callable[[], T]) -> T:
    """Do what needs the engine; one that is being restarted gets half a minute to come back.

    Raises:
        AutoScorerError: What ``action`` raised last.
    """
    end = time.monotonic() + RESTARTING
    while True:
        try:
            return action()
        except AutoScorerError as error:
            if not _unreachable(error) or time.monotonic() > end:
                raise
        time.sleep(0.2)


def _unreachable(error: AutoScorerError) -> bool:
    """Whether nobody was there to answer, as opposed to an engine that says no or is slow."""
    import requests

    return isinstance(error.__cause__, requests.ConnectionError | ConnectionError | FileNotFoundError)
