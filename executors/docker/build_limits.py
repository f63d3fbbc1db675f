"""Holding the number of processes in a build: the engine's builder takes no such limit, its containers do."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from .engine import connect, engine_exceptions

__all__ = ["ProcessLimit"]


# Seconds between tries to limit a container that the engine calls running and can't change.
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)


class ProcessLimit:
    """While it is entered, every container of one build gets a limit of processes as soon as the engine tells of it.

    That is some hundredths of a second after its start, in which the build's memory and CPUs are limited already. From
    then on no process is added above the limit. A container that can't be limited is killed, and the build fails.

    Args:
        settings: Where the engine is.
        mark: A name in the containers' hosts file that only this build asked for. A Dockerfile can't choose it, so no
            other container is ever taken for one of the build's.
        pids: Processes and threads.
    """

    def __init__(self, settings: Settings, mark: str, pids: int) -> None:
        self._settings = settings
        self._mark = mark
        self._pids = pids
        self._failed: Exception | None = None
        self._leaving = False

    def __enter__(self) -> Self:
        self._client = connect(self._settings, timeout=None)
        try:
            self._events = self._client.events(
                decode=True, filters={"type": ["container"], "event": ["create", "start"]}
            )
        except BaseException:
            self._client.close()
            raise
        self._thread = threading.Thread(target=self._watch, name="autoscorer-build-limit", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        self._events.close()
        self._thread.join(10)
        self._client.close()

    def check(self) -> None:
        """Raise when a container of the build could not be limited.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        if self._failed is not None:
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                "The Docker Engine did not limit the processes of a build, so the build was ended. Check that the "
                "kernel has the pids control group.",
            ) from self._failed

    def _watch(self) -> None:
        # Closing the stream from the other thread ends the iteration in one of these, too.
        ends: tuple[type[Exception], ...] = (*engine_exceptions(), ValueError, KeyError, AttributeError)
        try:
            for event in self._events:
                self._limit(event["id"])
            if not self._leaving:
                raise ConnectionError("the engine ended its events")
        except ends as error:
            if not self._leaving:
                self._failed = error
                self._kill_all()

    def _limit(self, container: str) -> None:
        import docker.errors

        for pause in (*_PAUSES, None):
            try:
                if self._is_mine(container):
                    response = self._client._post_json(
                        self._client._url("/containers/{0}/update", container), data={"PidsLimit": self._pids}
                    )
                    self._client._raise_for_status(response)
                return
            except docker.errors.APIError:
                # One that is being removed can't be changed, and needs no limit; one that has not begun is told of
                # again. The engine may still call one running that has just ended.
                if not self._is_running(container):
                    return
                if pause is None:
                    raise
            time.sleep(pause)

    def _is_mine(self, container: str) -> bool:
        hosts = self._client.inspect_container(container)["HostConfig"].get("ExtraHosts") or []
        return any(self._mark in entry for entry in hosts)

    def _is_running(self, container: str) -> bool:
        import docker.errors

        try:
            return bool(self._client.inspect_container(container)["State"]["Running"])
        except docker.errors.NotFound:
            return False

    def _kill_all(self) -> None:
        errors: tuple[type[Exception], ...] = (*engine_exceptions(), ValueError)
        with contextlib.suppress(*errors):
            for container in self._client.containers():
                with contextlib.suppress(*errors):
                    if self._is_mine(container["Id"]):
                        self._client.kill(container["Id"])
