"""The fork server and the processes that it forks: each end is told, and nothing outlives the worker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from autoscorer.worker.processes import ForkedProcess, ForkFailed, ForkPool

from ..support.prefect_server import eventually
from ..support.processes import parent_of

pytestmark = pytest.mark.slow

RUN = "00000000-0000-0000-0000-000000000000"
ENVIRONMENT = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}


@asynccontextmanager
async def forking() -> AsyncIterator[ForkPool]:
    pool = ForkPool(ENVIRONMENT)
    try:
        yield pool
    finally:
        await pool.close()


async def said_hello(process: ForkedProcess) -> bool:
    async for message in process.messages():
        return "hello" in message
    return False


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_fork_server_forks_many_tells_each_end_and_is_replaced_when_it_dies(home: Path) -> None:
    async def story() -> None:
        async with forking() as pool:
            processes = await asyncio.gather(*[pool.fork(RUN) for _ in range(8)])
            assert all(await asyncio.gather(*map(said_hello, processes)))
            assert len({process.pid for process in processes}) == 8
            server = parent_of(processes[0].pid)
            assert {parent_of(process.pid) for process in processes} == {server}
            # One is killed, another dies by itself; the others go on.
            processes[0].kill()
            os.kill(processes[1].pid, signal.SIGTERM)
            assert [await process.wait() for process in processes[:2]] == [-signal.SIGKILL, -signal.SIGTERM]
            processes[0].kill()  # of one that has ended: nothing
            assert not any(is_gone(process.pid) for process in processes[2:])
            os.kill(server, signal.SIGKILL)
            assert [await process.wait() for process in processes[2:]] == [None] * 6
            again = await pool.fork(RUN)
            assert await said_hello(again) and parent_of(again.pid) != server
            await pool.close()
            assert await again.wait() == -signal.SIGKILL

    asyncio.run(story())


def test_a_fork_server_that_is_dying_is_replaced_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end of the socket is closed a moment before anybody can see that it has ended."""

    async def story() -> None:
        async with forking() as pool:
            first = await pool.fork(RUN)
            assert await said_hello(first)
            assert pool._process is not None
            server = pool._process
            os.kill(server.pid, signal.SIGKILL)
            assert await first.wait() is None
            with monkeypatch.context() as patch:
                patch.setattr(server, "poll", lambda: server.returncode)  # nobody has waited for it
                several = await asyncio.gather(*[pool.fork(RUN) for _ in range(3)])
            assert all(await asyncio.gather(*map(said_hello, several)))
            assert len({parent_of(process.pid) for process in several}) == 1 and pool._process is not server

    asyncio.run(story())


def test_a_fork_server_that_does_not_start_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_LOGGING__NO_SUCH_SETTING", "1")

    async def story() -> None:
        async with forking() as pool:
            for _ in range(2):  # not only the first time
                with pytest.raises(ForkFailed, match="ended before it was ready"):
                    await pool.fork(RUN)

    asyncio.run(story())


@pytest.fixture
def worker(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that forks two, prints their ids and does no more."""
    code = (
        "import asyncio\n"
        "from autoscorer.worker.processes import ForkPool\n"
        "async def work():\n"
        f"    pool = ForkPool({ENVIRONMENT!r})\n"
        f"    print(*[(await pool.fork({RUN!r})).pid for _ in range(2)], flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(work())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("who", ["worker", "fork server"])
def test_nothing_outlives_the_worker_or_the_fork_server(worker: subprocess.Popen[str], who: str) -> None:
    assert worker.stdout is not None
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    server = parent_of(pids[0])
    # What is meant for the worker is not heeded by it.
    os.kill(server, signal.SIGTERM)
    os.kill(server, signal.SIGINT)
    os.kill(worker.pid if who == "worker" else server, signal.SIGKILL)
    for pid in (*pids, server):
        eventually(lambda pid=pid: is_gone(pid))


def test_scorers_find_no_secret_in_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "postgresql+asyncpg://autoscorer:SECRET@127.0.0.1:9/autoscorer"
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", secret)
    monkeypatch.setenv("AUTOSCORER_API_TOKENS", "admin:SECRET")
    monkeypatch.setenv("SCORE_API_TOKEN", "SECRET")

    async def story() -> None:
        async with forking() as pool:
            process = await pool.fork(RUN)
            assert await said_hello(process)
            for pid in (process.pid, parent_of(process.pid)):
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                assert b"AUTOSCORER_HOME" in environment and b"SECRET" not in environment

    asyncio.run(story())
