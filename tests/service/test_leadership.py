"""Of several processes with one ledger at most one is at work, and there is one again soon after it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.sync import leadership
from autoscorer.service.sync.leadership import Leadership

from ..support.ledger import opened
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.postgres import postgres as postgres


class Work:
    """What is done by one at a time; it notes who is at it."""

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.most = self.begun = 0

    def of(self, name: str) -> Callable[[], asyncio.Future[None]]:
        async def work() -> None:
            self.begun += 1
            self.at_work.append(name)
            self.most = max(self.most, len(self.at_work))
            try:
                await asyncio.Event().wait()
            finally:
                self.at_work.remove(name)

        return lambda: asyncio.ensure_future(work())


@asynccontextmanager
async def leading(ledger: Ledger, work: Work, name: str) -> AsyncIterator[asyncio.Task[None]]:
    loop = asyncio.create_task(Leadership(ledger, work.of(name)).run())
    try:
        yield loop
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not met():
            await asyncio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_LASTS", 6.0), ("_RENEW", 1.0), ("_LOOK", 0.1), ("_MARGIN", 2.0)):
        monkeypatch.setattr(leadership, name, seconds)


def shared(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())
    settings = load_settings()
    asyncio.run(upgrade_ledger(settings))
    return settings


def test_alone_it_is_at_work_at_once_and_begins_anew_after_a_fault(settings: Settings, quick: None) -> None:
    async def story() -> None:
        begun = 0

        async def work() -> None:
            nonlocal begun
            begun += 1
            raise RuntimeError("a fault of the work")

        async with opened(settings) as ledger:
            loop = asyncio.create_task(Leadership(ledger, work).run())
            await until(lambda: begun >= 3)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    asyncio.run(story())


@pytest.mark.slow
def test_one_of_three_is_at_work_and_another_follows_when_it_goes(
    postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    settings, work = shared(postgres, monkeypatch), Work()

    async def story() -> None:
        async with (
            opened(settings) as one,
            opened(settings) as other,
            opened(settings) as third,
            leading(one, work, "one") as first,
        ):
            await until(lambda: work.at_work == ["one"])
            async with leading(other, work, "other"), leading(third, work, "third"):
                await asyncio.sleep(4.0)  # longer than a lease lasts
                assert work.at_work == ["one"] and work.begun == 1
                assert not await other.take_lease("sync", "nobody", 3.0)
                first.cancel()
                await until(lambda: work.at_work in (["other"], ["third"]))
            assert work.at_work == [] and work.most == 1

    asyncio.run(story())


@pytest.mark.slow
def test_a_lease_that_nobody_renews_is_taken_when_it_is_over(
    postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    settings, work = shared(postgres, monkeypatch), Work()

    async def story() -> None:
        async with opened(settings) as ledger:
            assert await ledger.take_lease("sync", "a process that was killed", 2.0)
            async with leading(ledger, work, "next"):
                await asyncio.sleep(1.0)
                assert work.at_work == []
                await until(lambda: work.at_work == ["next"])

    asyncio.run(story())


@pytest.mark.slow
def test_who_can_not_renew_it_stops_before_another_may_begin(
    own_postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    settings, work = shared(own_postgres, monkeypatch), Work()

    async def story() -> None:
        async with (
            opened(settings) as one,
            opened(settings) as other,
            leading(one, work, "one"),
            leading(other, work, "other"),
        ):
            await until(lambda: bool(work.at_work))
            await asyncio.to_thread(own_postgres.stop)
            await until(lambda: work.at_work == [])
            await asyncio.to_thread(own_postgres.start)
            await until(lambda: bool(work.at_work))
            # On a loaded machine a renewal may come too late more than once.
            assert work.most == 1 and work.begun >= 2

    asyncio.run(story())
