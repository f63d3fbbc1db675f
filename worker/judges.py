"""The worker's side of the process that asks the judges: a channel for each flow run, over the one that there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from .processes import ForkedProcess, ForkFailed, ForkPool

__all__ = ["JudgedRun", "Judges"]

Json = dict[str, Any]


class JudgedRun:
    """One flow run in the judges' process: as a ``ForkedProcess``, but that others have the process too.

    Args:
        run: The flow run's id.
        process: That of the judges.
        hello: Which process that is, as it says itself.
    """

    def __init__(self, run: str, process: ForkedProcess, hello: str) -> None:
        self.id, self.pid = run, process.pid
        self._process = process
        self._has_order = False
        self._inbox: asyncio.Queue[Json | None] = asyncio.Queue()
        self._exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"hello": hello})

    def send(self, message: Json) -> None:
        """Send the run's order; of others nothing is heard there."""
        if "parameters" in message:
            self._has_order = True
            self._process.send({"run": self.id, "order": message})

    async def messages(self) -> AsyncIterator[Json]:
        """What is said of the run, until it has ended."""
        while (message := await self._inbox.get()) is not None:
            yield message

    def kill(self) -> None:
        """End the work on it; the others go on."""
        if self._has_order:
            self._process.send({"run": self.id, "end": True})
        else:
            self.on_end(0)

    async def wait(self) -> int | None:
        """Wait for its end; as ``ForkedProcess.wait``."""
        return await asyncio.shield(self._exited)

    def on_message(self, message: Json) -> None:
        """Take a message of the process about this run."""
        if "exited" in message:
            self.on_end(message["exited"])
        else:
            self._inbox.put_nowait(message)

    def on_end(self, status: int | None) -> None:
        """It is over, or its process is."""
        if not self._exited.done():
            self._exited.set_result(status)
            self._inbox.put_nowait(None)


class Judges:
    """Has the judges' process, which is started with the first run, and again when it died.

    Args:
        fork_pool: Forks it.
    """

    def __init__(self, fork_pool: ForkPool) -> None:
        self._fork_pool = fork_pool
        self._process: ForkedProcess | None = None
        self._hello = ""
        self._runs: dict[str, JudgedRun] = {}
        self._starting = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None

    async def fork(self, flow_run_id: str) -> JudgedRun:
        """A place in the process for a flow run; it waits for its order.

        Raises:
            ForkFailed: The process does not start.
        """
        async with self._starting:
            if self._process is None:
                await self._start()
            assert self._process is not None
            run = self._runs[flow_run_id] = JudgedRun(flow_run_id, self._process, self._hello)
            return run

    async def _start(self) -> None:
        process = await self._fork_pool.fork("judges")
        messages = process.messages()
        hello = await anext(messages, None)
        if hello is None or "hello" not in hello:
            process.kill()
            raise ForkFailed("the process that asks the judges ended before it was ready; its reason stands above")
        process.send({"kind": "judges"})
        if await anext(messages, None) is None:
            raise ForkFailed("the process that asks the judges ended before it was ready; its reason stands above")
        self._process, self._hello = process, hello["hello"]
        self._listening = asyncio.create_task(self._listen(process, messages))

    async def _listen(self, process: ForkedProcess, messages: AsyncIterator[Json]) -> None:
        async for message in messages:
            run = self._runs.get(message.pop("run"))
            if run is not None:
                run.on_message(message)
                if "exited" in message:
                    del self._runs[run.id]
        status = await process.wait()
        self._process = None
        runs, self._runs = self._runs, {}
        for run in runs.values():
            run.on_end(status)
