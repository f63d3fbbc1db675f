"""The worker's side of the fork server: forked processes, each with a channel to talk over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

__all__ = ["LONGEST", "ForkFailed", "ForkPool", "ForkedProcess", "read_line"]

Json = dict[str, Any]

# Seconds that the fork server has for its imports, and for what it does when the worker ends: it kills, and removes
# containers.
_START_TIMEOUT = 120.0
_SHUTDOWN_TIMEOUT = 20.0
# What a channel still holds after its process's end is read for this many seconds.
_DRAIN_TIMEOUT = 2.0
# Bytes of one message: the artifacts of a run come in one.
LONGEST = 256 * 1024 * 1024
# What no run needs, of the environment.
_SECRETS = frozenset(
    {"AUTOSCORER_LEDGER_URL", "AUTOSCORER_API_TOKENS", "AUTOSCORER_CALLBACKS__SECRET", "SCORE_API_TOKEN"}
)


class ForkFailed(Exception):
    """No process could be forked; says why."""


class ForkedProcess:
    """A process that works on one flow run. Made by ``ForkPool.fork``.

    Args:
        channel: To the process: JSON messages, one a line.
        control: To the fork server: it writes the process's id and how it ended, and kills it for any byte.
    """

    def __init__(
        self,
        pid: int,
        channel: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        control: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.pid = pid
        self._reader, self._writer = channel
        self._control = control[1]
        self._exited = asyncio.create_task(self._wait(control[0]))

    def send(self, message: Json) -> None:
        """Send a message; a process that is gone gets none, and its end is told by ``wait``."""
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def messages(self) -> AsyncIterator[Json]:
        """What the process says, until it is gone."""
        while True:
            line = asyncio.create_task(read_line(self._reader))
            try:
                await asyncio.wait({line, self._exited}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    # Its end is known, and nothing more than a remnant can come.
                    await asyncio.wait({line}, timeout=_DRAIN_TIMEOUT)
                if not line.done() or not line.result():
                    return
            finally:
                line.cancel()
            yield json.loads(line.result())

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if not self._exited.done():
            self._control.write(b"k")

    async def wait(self) -> int | None:
        """Wait for its end.

        Returns:
            Its exit code, negative for a signal; None when the fork server died, and it with it.
        """
        return await asyncio.shield(self._exited)

    async def _wait(self, control: asyncio.StreamReader) -> int | None:
        try:
            status = await read_line(control)
            return json.loads(status)["status"] if status else None
        finally:
            self._writer.close()
            self._control.close()


class ForkPool:
    """Forks processes. The fork server is started with the first, and again when it died.

    Args:
        environment: What the fork server's environment has besides the worker's.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Have a fork server that is ready.

        Raises:
            ForkFailed: It does not start.
        """
        async with self._starting:
            if self._process is None or self._process.poll() is not None:
                await self._launch()
            if self._is_ready:
                return
            assert self._process is not None and self._socket is not None
            try:
                said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, 16), _START_TIMEOUT)
            except TimeoutError:
                self._process.kill()
                raise ForkFailed(f"the fork server was not ready after {_START_TIMEOUT:.0f} s") from None
            if not said:
                raise ForkFailed("the fork server ended before it was ready; its reason stands above")
            self._is_ready = True

    async def _launch(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._is_ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        try:
            with theirs:
                # In a session of its own: what a terminal or a service manager sends to the worker's group is the
                # worker's to deal with.
                self._process = await asyncio.to_thread(
                    subprocess.Popen,
                    [sys.executable, "-m", "autoscorer.worker.forkserver", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**_without_secrets(), **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    start_new_session=True,
                )
        except OSError as error:
            raise ForkFailed(f"the fork server could not be started: {error.strerror}") from None

    async def fork(self, flow_run_id: str) -> ForkedProcess:
        """Fork a process. It waits for its order.

        Args:
            flow_run_id: Whose containers are removed when the worker dies.

        Raises:
            ForkFailed: No process could be forked.
        """
        for _ in range(2):
            await self.start()
            server = self._process
            assert server is not None
            try:
                return await self._order(flow_run_id)
            except BrokenPipeError:
                # Its end is closed, so it is dying, though it may be a moment until that can be seen.
                server.kill()
                await asyncio.to_thread(server.wait)
        raise ForkFailed("the fork server dies as soon as it has begun; its reason stands above")

    async def _order(self, flow_run_id: str) -> ForkedProcess:
        assert self._socket is not None
        async with contextlib.AsyncExitStack() as unused:
            channel, its_channel = socket.socketpair()
            control, its_control = socket.socketpair()
            with its_channel, its_control:
                try:
                    socket.send_fds(self._socket, [flow_run_id.encode()], [its_channel.fileno(), its_control.fileno()])
                except OSError as error:
                    channel.close()
                    control.close()
                    if isinstance(error, BrokenPipeError):
                        raise
                    raise ForkFailed(f"the fork server does not listen: {error.strerror}") from None
            streams = [await asyncio.open_connection(sock=end, limit=LONGEST) for end in (channel, control)]
            for _, writer in streams:
                unused.callback(writer.close)
            answer = json.loads(await read_line(streams[1][0]) or '{"failed": "the fork server died"}')
            if "failed" in answer:
                raise ForkFailed(answer["failed"])
            unused.pop_all()
            return ForkedProcess(answer["pid"], streams[0], streams[1])

    async def close(self) -> None:
        """End the fork server and with it every process; returns when they are gone."""
        if self._process is None or self._socket is None:
            return
        self._socket.close()
        try:
            await asyncio.to_thread(self._process.wait, _SHUTDOWN_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty at the end, or where the writer died in the middle of one."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return b""
    return line if line.endswith(b"\n") else b""


def _without_secrets() -> dict[str, str]:
    """This process's environment without those: scorers are code of others, and could read them."""
    return {name: value for name, value in os.environ.items() if name not in _SECRETS}
