"""The worker's side of the fork server: children to work in, each with a channel to talk over."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from .forkserver import MESSAGE

__all__ = ["ForkFailed", "ForkPool", "ForkedProcess"]

Json = dict[str, Any]

_LENGTH = struct.Struct("!I")
# Seconds that the fork server has for what it does when the worker ends: it kills, and removes containers.
_SHUTDOWN_TIMEOUT = 20.0
# Seconds for its imports.
_START = 120.0
# What a channel still holds after its child's end is read for this many seconds.
_DRAIN_TIMEOUT = 2.0


class ForkFailed(Exception):
    """No child could be made; says why."""


class ForkedProcess:
    """A process that works on one flow run. Made by ``ForkPool.fork``."""

    def __init__(
        self, pool: ForkPool, number: int, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self._pool = pool
        self._number = number
        self._reader = reader
        self._writer = writer
        self._exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def send(self, message: Json) -> None:
        """Send a message; a child that is gone gets none, and its end is told by ``wait``."""
        data = json.dumps(message).encode()
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def messages(self) -> AsyncIterator[Json]:
        """What the child says, until it is gone."""
        pending = asyncio.ensure_future(self._receive())
        try:
            while True:
                both: set[asyncio.Future[Any]] = {pending, self._exited}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not pending.done():
                    # Its end is known, and nothing more than a remnant can come.
                    await asyncio.wait({pending}, timeout=_DRAIN_TIMEOUT)
                if not pending.done() or (message := pending.result()) is None:
                    return
                yield message
                pending = asyncio.ensure_future(self._receive())
        finally:
            pending.cancel()

    async def _receive(self) -> Json | None:
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            message: Json = json.loads(await self._reader.readexactly(length))
            return message
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._pool.kill(self._number)

    async def wait(self) -> int | None:
        """Wait for its end.

        Returns:
            Its exit code, negative for a signal; None when the fork server died, and it with it.
        """
        try:
            return await asyncio.shield(self._exited)
        finally:
            if self._exited.done():
                self._writer.close()

    def has_exited(self, status: int | None) -> None:
        """Called once, by ``ForkPool``."""
        if not self._exited.done():
            self._exited.set_result(status)


class ForkPool:
    """Forks children. The fork server is started with the first, and again when it died.

    Args:
        environment: What the fork server's environment has besides the worker's.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._numbers = itertools.count(1)
        self._forking: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, ForkedProcess] = {}
        # A child may end before its beginning has been heard of to the end.
        self._ended_early: dict[int, int | None] = {}
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The fork server's, for those who measure it."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Have a fork server that is ready.

        Raises:
            ForkFailed: It does not start.
        """
        async with self._starting:
            if self._ready is None:
                await self._start()
            assert self._ready is not None
            try:
                await asyncio.wait_for(asyncio.shield(self._ready), _START)
            except TimeoutError:
                self._on_lost()
                raise ForkFailed(f"the fork server was not ready after {_START:.0f} s") from None

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                # In a session of its own: what a terminal or a service manager sends to the worker's group is the
                # worker's to deal with.
                self._process = await asyncio.to_thread(
                    subprocess.Popen,
                    [sys.executable, "-m", "autoscorer.worker.forkserver", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise ForkFailed(f"the fork server could not be started: {error.strerror}") from None
        loop = asyncio.get_running_loop()
        self._control, self._ready = ours, loop.create_future()
        loop.add_reader(ours, self._on_message)

    async def fork(self, flow_run_id: str) -> ForkedProcess:
        """Fork a child. It waits for its order.

        Args:
            flow_run_id: Whose containers are removed when the worker dies.

        Raises:
            ForkFailed: No child could be made.
        """
        await self.start()
        assert self._control is not None
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._forking[number] = forked
        try:
            with theirs:
                message = json.dumps({"do": "fork", "number": number, "flow_run": flow_run_id}).encode()
                try:
                    socket.send_fds(self._control, [message], [theirs.fileno()])
                except OSError as error:
                    raise ForkFailed(f"the fork server does not listen: {error.strerror}") from None
            pid = await forked
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            self._forking.pop(number, None)
            ours.close()
            raise
        child = ForkedProcess(self, number, pid, reader, writer)
        if number in self._ended_early:
            child.has_exited(self._ended_early.pop(number))
        else:
            self._children[number] = child
        return child

    def kill(self, number: int) -> None:
        """Kill a child by its number."""
        if number in self._children and self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"do": "kill", "number": number}).encode())

    async def close(self) -> None:
        """End the fork server and with it every child; returns when they are gone."""
        process = self._process
        self._on_lost()
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, _SHUTDOWN_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)

    def _on_message(self) -> None:
        assert self._control is not None
        while self._control is not None:
            try:
                data = self._control.recv(MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._on_lost()
                return
            self._handle(json.loads(data))

    def _handle(self, message: Json) -> None:
        if "ready" in message:
            assert self._ready is not None
            if not self._ready.done():
                self._ready.set_result(None)
        elif "failed" in message:
            if forking := self._forking.pop(message["failed"], None):
                forking.set_exception(ForkFailed(f"no process could be forked: {message['why']}"))
        elif "forked" in message:
            if (forking := self._forking.pop(message["forked"], None)) and not forking.done():
                forking.set_result(message["pid"])
        elif child := self._children.pop(message["exited"], None):
            child.has_exited(message["status"])
        else:
            self._ended_early[message["exited"]] = message["status"]

    def _on_lost(self) -> None:
        """The fork server is gone, and the kernel has killed its children."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ForkFailed("the fork server ended before it was ready; its reason stands above"))
            self._ready.exception()  # somebody may wait for it, or nobody
        self._ready = None
        if self._process is not None:
            self._process.poll()
        for forking in self._forking.values():
            if not forking.done():
                forking.set_exception(ForkFailed("the fork server died"))
        self._forking.clear()
        for child in self._children.values():
            child.has_exited(None)
        self._children.clear()
        self._ended_early.clear()
