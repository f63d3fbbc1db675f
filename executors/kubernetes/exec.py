"""Running a command in a container of a pod: bytes in, bytes out, and how it ended.

The sub-protocol v4.channel.k8s.io over a WebSocket: each message begins with the number of its channel. There is no way
to close standard input alone, so what is started must know how much to read.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from ...core.errors import AutoScorerError, ErrorCode
from .api import KubernetesApi
from .errors import ApiError, api_errors, short
from .names import pod_path

__all__ = ["STALLED", "Exec", "ExecFailed"]

PROTOCOL = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = b"\0", 1, 2, 3
# Seconds in which not one byte may move, either way, before a connection counts as dead.
STALLED = 60.0
# How much of what a command says on standard error is kept.
_TOLD = 4096


class ExecFailed(ApiError):
    """The command ended with an error of its own: ``command_code``, and what it said."""

    command_code: int | None = None


class Exec:
    """One command in one container, while it runs.

    Args:
        api: The API server.
        namespace: The pod's.
        pod: Its name.
        container: Its container.
        command: Program and arguments.
        cancelled: Asked while bytes move; True ends it.
        patience: Seconds in which not one byte may move.
    """

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        *,
        cancelled: Callable[[], bool] = lambda: False,
        patience: float = STALLED,
    ) -> None:
        query = [("container", container), *(("command", part) for part in command)]
        query += [(stream, "true") for stream in ("stdin", "stdout", "stderr")]
        self._cancelled, self._patience = cancelled, patience
        self._moved = time.monotonic()
        self._over = threading.Event()
        self._was_cancelled = False
        self.stderr = b""
        self._socket = api.websocket(pod_path(namespace, pod) + "/exec", query, PROTOCOL)
        threading.Thread(target=self._watch, name="autoscorer-exec", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with contextlib.suppress(Exception):
            # Where something went wrong nobody waits for the other end's farewell.
            if error is not None:
                self._cut()
            self._socket.close()

    def send(self, chunks: Iterable[bytes]) -> None:
        """Send to standard input.

        Raises:
            ExecFailed: The command has ended before it took all of it.
            ApiError: The connection was lost, or nothing moved.
        """
        import websockets

        with self._mapped("send to the pod"):
            try:
                for chunk in chunks:
                    self._socket.send(STDIN + chunk)
                    self._moved = time.monotonic()
            except websockets.ConnectionClosed:
                for _ in self.output():  # why it ended is in what came
                    pass
                raise

    def output(self) -> Iterator[bytes]:
        """Yield what comes on standard output, until the command ends; nothing for what came on standard error.

        Raises:
            ExecFailed: It ended with an error.
            ApiError: The connection was lost before it ended, or nothing moved.
        """
        with self._mapped("read from the pod"):
            while True:
                message = self._socket.recv()
                self._moved = time.monotonic()
                data = message if isinstance(message, bytes) else message.encode()
                channel, content = (data[0], data[1:]) if data else (STDOUT, b"")
                if channel == STATUS and content:
                    _raise_failure(content, self.stderr)
                    return
                if channel == STDERR:
                    self.stderr = (self.stderr + content)[-_TOLD:]
                    yield b""
                elif channel == STDOUT and content:
                    yield content

    def finish(self) -> None:
        """Wait for the command's end; what it still prints is dropped.

        Raises:
            ApiError: As ``output``.
        """
        for _ in self.output():
            pass

    @contextlib.contextmanager
    def _mapped(self, action: str) -> Iterator[None]:
        try:
            with api_errors(action):
                yield
        except ApiError:
            if self._was_cancelled:
                raise AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled.") from None
            raise

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._was_cancelled = self._cancelled()
            if self._was_cancelled or time.monotonic() - self._moved > self._patience:
                self._cut()
                return

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket.socket, socket.SHUT_RDWR)


def _raise_failure(content: bytes, stderr: bytes) -> None:
    """Raise unless a ``Status`` object says success."""
    try:
        status: Any = json.loads(content)
        succeeded = status["status"] == "Success"
    except (ValueError, KeyError, TypeError):
        status, succeeded = {}, False
    if succeeded:
        return
    causes = (status.get("details") or {}).get("causes") or () if isinstance(status, dict) else ()
    codes = [cause.get("message") for cause in causes if cause.get("reason") == "ExitCode"]
    code = int(codes[0]) if codes and str(codes[0]).isdigit() else None
    ended = f" with exit code {code}" if code is not None else ""
    # A server may repeat the whole command, which is ours and says nothing.
    said = short(stderr) or (short(status.get("message") if status else content) if code is None else "it said nothing")
    failed = ExecFailed(ErrorCode.BACKEND_UNAVAILABLE, f"A command of ours in the pod failed{ended}: {said}.")
    failed.command_code = code
    raise failed
