"""A ledger in PostgreSQL: shared by several, and away for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.records import TaskEnd, TaskFilter
from autoscorer.service.ledger.revisions import HEAD
from autoscorer.service.ledger.tables import metadata
from sqlalchemy import Connection, text

from ..support.ledger import new, opened
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.postgres import postgres as postgres

pytestmark = pytest.mark.slow


@pytest.fixture
def empty(postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A schema that is not there yet."""
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())
    return load_settings()


@pytest.fixture
def shared(empty: Settings) -> Settings:
    asyncio.run(upgrade_ledger(empty))
    return empty


def test_it_is_served_once_it_was_made(empty: Settings) -> None:
    async def work() -> None:
        with pytest.raises(AutoScorerError, match="autoscorer ledger upgrade") as caught:
            await Ledger.open(empty)
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        # By whoever comes first; the others find it made.
        made = await asyncio.gather(*(upgrade_ledger(empty) for _ in range(4)))
        assert sorted(str(each["from"]) for each in made) == [HEAD, HEAD, HEAD, "None"]
        async with opened(empty) as ledger:
            assert (await ledger.add(new()))[1]

    asyncio.run(work())


def test_the_tables_are_those_that_the_statements_know(empty: Settings) -> None:
    def differences(db: Connection) -> list[object]:
        return [*compare_metadata(MigrationContext.configure(db), metadata)]

    for settings in (empty, empty.model_copy(update={"ledger_url": None})):
        asyncio.run(upgrade_ledger(settings))
        assert asyncio.run(in_ledger(settings, differences)) == []


def test_a_thousand_racing_submits_make_one_active_task_a_workspace(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as one, opened(shared) as other, opened(shared) as third:
            ledgers = (one, other, third)
            answers = await asyncio.gather(
                *(ledgers[n % 3].add(new(f"/data/{n % 40}"), key=f"k{n % 100}", request_hash="h") for n in range(1000))
            )
            made = [row.id for row, created in answers if created]
            assert len(made) == len(set(made)) == 40
            _, total, _ = await one.page(TaskFilter(), None, 1)
            assert total == 40 and (await other.counts())["queued"] == 40
            # A key stands for one task, whoever is asked.
            for n in range(100):
                rows = {row.id for row, _ in answers[n::100]}
                known = await third.keyed("someone", f"k{n}", "h")
                assert known is not None and rows == {known.id}

    asyncio.run(work())


def test_one_key_with_two_requests_makes_one_task(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as one, opened(shared) as other:
            for n in range(30):
                answers = await asyncio.gather(
                    one.add(new(f"/data/a{n}"), key=f"k{n}", request_hash="a"),
                    other.add(new(f"/data/b{n}"), key=f"k{n}", request_hash="b"),
                    return_exceptions=True,
                )
                refused = [each for each in answers if isinstance(each, AutoScorerError)]
                assert [error.code for error in refused] == [ErrorCode.CONFLICT], answers
            assert (await one.counts())["queued"] == 30

    asyncio.run(work())


def test_no_task_is_claimed_by_two(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as one, opened(shared) as other:
            ids = {(await one.add(new(f"/data/{n}")))[0].id for n in range(60)}
            claimed = await asyncio.gather(*(ledger.claim_undispatched(10) for ledger in (one, other) * 2))
            found = [row.id for rows in claimed for row in rows]
            assert set(found) <= ids and all(len(rows) <= 10 for rows in claimed)
            ended = await asyncio.gather(
                *(ledger.finish([TaskEnd(each, TaskState.FAILED)]) for each in ids for ledger in (one, other))
            )
            assert sorted(each for some in ended for each in some) == sorted(ids)
            assert (await one.counts())["failed"] == 60

    asyncio.run(work())


def test_what_each_connection_has_counted_is_gathered(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as one, opened(shared) as other:
            await asyncio.gather(*((one, other)[n % 2].add(new(f"/data/{n}")) for n in range(40)))
            before = await one.counts()
            await asyncio.gather(one.prune(0.0), other.prune(0.0), *(one.add(new(f"/data/x{n}")) for n in range(20)))
            await one.prune(0.0)
            assert (await one.counts()) == {**before, "queued": 60}
            shares = await in_ledger(shared, lambda db: db.execute(text("SELECT DISTINCT share FROM counts")).all())
            assert [share for (share,) in shares] == [0]

    asyncio.run(work())


def test_a_database_that_is_restarted_costs_what_was_asked_meanwhile_and_nothing_else(
    own_postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", own_postgres.ledger_url())
    settings = load_settings()

    async def work() -> None:
        await upgrade_ledger(settings)
        async with opened(settings) as ledger:
            first, _ = await ledger.add(new("/data/a"))
            await asyncio.to_thread(own_postgres.stop)
            for asked in (ledger.add(new("/data/b")), ledger.find(first.id), Ledger.open(settings)):
                with pytest.raises(AutoScorerError) as caught:
                    await asked
                assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
                assert str(own_postgres.port) not in caught.value.message
            await asyncio.to_thread(own_postgres.start)
            async with asyncio.timeout(60):
                while True:
                    try:
                        assert (await ledger.find(first.id)) is not None
                        break
                    except AutoScorerError:
                        await asyncio.sleep(0.1)
            assert (await ledger.add(new("/data/b")))[1]
            assert (await ledger.counts())["queued"] == 2

    asyncio.run(work())


def test_who_stops_waiting_stops_no_write(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as ledger:
            task = new()
            asked = asyncio.ensure_future(ledger.add(task))
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        async with opened(shared) as ledger:
            assert await ledger.find(task.id) is not None

    asyncio.run(work())
