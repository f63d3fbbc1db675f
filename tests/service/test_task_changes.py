"""The ledger says which tasks have changed since somebody looked, and never leaves one out: in both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.changes import KEPT
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.migrations.versions import v0008_task_changes
from autoscorer.service.ledger.records import Observed, TaskEnd
from autoscorer.service.ledger.tables import task_changes
from autoscorer.service.policy import Subject
from sqlalchemy import Connection, make_url, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from ..support.ledger import ledger_of as ledger_of
from ..support.ledger import new, opened
from ..support.postgres import Postgres
from ..support.postgres import postgres as postgres


async def position(ledger: Ledger) -> int:
    return (await ledger.changed_since(None, 0)).now.number


async def changed(ledger: Ledger, since: int, most: int = 100) -> list[str]:
    found = (await ledger.changed_since(since, most)).found
    assert found is not None
    return [change.task_id for change in found]


def test_what_is_made_changed_ended_and_forgotten_is_found_and_what_came_before_is_not(
    ledger_of: Callable[[], Settings],
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            before, _ = await ledger.add(new("/data/before"))
            start = await position(ledger)
            assert await changed(ledger, start) == []
            one, _ = await ledger.add(new("/data/one"))
            other, _ = await ledger.add(new("/data/other"))
            assert await changed(ledger, start) == [one.id, other.id]
            after = await position(ledger)
            await ledger.observe([Observed(one.id, TaskState.RUNNING, "RUNNING", 1, 1.0, None)])
            assert await changed(ledger, after) == [one.id]
            await ledger.finish([TaskEnd(one.id, TaskState.COMPLETED)])
            # Each task once, whatever happened to it.
            assert sorted(await changed(ledger, start)) == sorted([one.id, other.id])
            end = await position(ledger)
            await ledger.forget(one.id)
            assert await changed(ledger, end) == [one.id]
            there = await ledger.listed([one.id, other.id, before.id])
            assert {row.id for row, _ in there} == {other.id, before.id}
            # From the beginning on everything that is remembered.
            assert sorted(await changed(ledger, 0)) == sorted([before.id, one.id, other.id])

    settings = ledger_of()
    asyncio.run(work())


def test_what_nobody_is_shown_is_no_change(ledger_of: Callable[[], Settings]) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task, _ = await ledger.add(new())
            seen = Observed(task.id, TaskState.QUEUED, "SCHEDULED", 0, None, None)
            await ledger.observe([seen])
            start = await position(ledger)
            await ledger.observe([seen])
            assert [row.id for row in await ledger.claim_undispatched(5)] == [task.id]
            assert await changed(ledger, start) == []
            await ledger.unclaim([task.id], "Prefect is away.")
            assert await changed(ledger, start) == [task.id]

    settings = ledger_of()
    asyncio.run(work())


def test_a_change_says_whose_the_task_is_also_when_it_is_gone(ledger_of: Callable[[], Settings]) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            start = await position(ledger)
            job, _ = await ledger.add(new("/data/j", "rag-score", caller="asker"))
            theirs, _ = await ledger.add(new("/data/t", benchmark="flowers", team="team-a"))
            plain, _ = await ledger.add(new("/data/p"))
            for task in (job, theirs, plain):
                await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED)])
                await ledger.forget(task.id)
            found = (await ledger.changed_since(start, 10)).found or []
            subjects = {each.task_id: each.subject for each in found}
            assert subjects == {
                job.id: Subject(owner="asker"),
                theirs.id: Subject("flowers", "team-a"),
                plain.id: Subject(),
            }

    settings = ledger_of()
    asyncio.run(work())


def test_more_changes_than_are_wanted_and_positions_of_another_ledger_are_not_answered(
    ledger_of: Callable[[], Settings],
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            start = await position(ledger)
            for number in range(3):
                await ledger.add(new(f"/data/{number}"))
            assert len(await changed(ledger, start, most=3)) == 3
            assert (await ledger.changed_since(start, 2)).found is None
            assert (await ledger.changed_since(2**62, 10)).found is None

    settings = ledger_of()
    asyncio.run(work())


def test_changes_of_long_ago_are_deleted_and_no_others(ledger_of: Callable[[], Settings]) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            start = await position(ledger)
            old, _ = await ledger.add(new("/data/old"))
            recent, _ = await ledger.add(new("/data/recent"))
        await in_ledger(settings, lambda db: _aged(db, old.id, 3 * KEPT))
        await in_ledger(settings, lambda db: _aged(db, recent.id, KEPT))
        async with opened(settings) as ledger:
            assert await ledger.forget_changes() == 1
            assert await ledger.forget_changes() == 0
            assert await changed(ledger, start) == [recent.id]
            # The task is there, and its next change is known.
            await ledger.finish([TaskEnd(old.id, TaskState.COMPLETED)])
            assert sorted(await changed(ledger, start)) == sorted([old.id, recent.id])

    settings = ledger_of()
    asyncio.run(work())


def _aged(db: Connection, task_id: str, seconds: float) -> None:
    db.execute(update(task_changes).where(task_changes.c.task_id == task_id).values(at=task_changes.c.at - seconds))


@pytest.mark.slow
def test_a_transaction_that_ends_late_is_not_missed(
    postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began before others that were seen, so its number is smaller than theirs."""
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())
    settings = load_settings()
    asyncio.run(upgrade_ledger(settings))

    async def work() -> None:
        assert settings.ledger_url is not None
        url = make_url(settings.ledger_url.get_secret_value()).set(drivername="postgresql+asyncpg")
        engine = create_async_engine(url.difference_update_query(["schema"]))
        async with opened(settings) as ledger, engine.connect() as late:
            slow, _ = await ledger.add(new("/data/slow"))
            start = await position(ledger)
            schema = url.query.get("schema", "autoscorer")
            await late.execute(text(f"UPDATE \"{schema}\".tasks SET reason = 'late' WHERE id = :id"), {"id": slow.id})
            quick, _ = await ledger.add(new("/data/quick"))
            seen = await ledger.changed_since(start, 10)
            assert [each.task_id for each in seen.found or ()] == [quick.id]
            await late.commit()
            assert slow.id in await changed(ledger, seen.now.number)
            await late.close()
        await engine.dispose()

    asyncio.run(work())


@pytest.mark.slow
def test_of_many_who_write_at_once_nothing_is_missed(
    postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())
    settings = load_settings()
    asyncio.run(upgrade_ledger(settings))

    async def work() -> None:
        async with opened(settings) as one, opened(settings) as other, opened(settings) as reader:
            since, last = await position(reader), dict[str, int]()
            states: dict[str, str] = {}
            over = asyncio.Event()

            async def write(ledger: Ledger) -> None:
                for _ in range(25):
                    task, _ = await ledger.add(new(f"/data/{uuid4()}"))
                    await ledger.observe([Observed(task.id, TaskState.RUNNING, "RUNNING", 1, 1.0, None)])
                    await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED)])

            async def look() -> None:
                nonlocal since
                while True:
                    is_last = over.is_set()
                    found = await reader.changed_since(since, 1000)
                    new_ones = [each for each in found.found or () if last.get(each.task_id) != each.number]
                    last.update({each.task_id: each.number for each in new_ones})
                    for row, _ in await reader.listed([each.task_id for each in new_ones]):
                        states[row.id] = row.state
                    since = found.now.number
                    if is_last:
                        return

            looking = asyncio.create_task(look())
            await asyncio.gather(*(write(ledger) for ledger in (one, other) * 4))
            over.set()
            await looking
            assert len(states) == 200 and {*states.values()} == {"completed"}

    asyncio.run(work())


def test_an_upgraded_ledger_knows_the_changes_from_then_on(settings: Settings) -> None:
    def to_before(db: Connection) -> Any:
        from alembic import command
        from alembic.config import Config
        from autoscorer.service.ledger import revisions

        config = Config()
        config.set_main_option("script_location", str(Path(revisions.__file__).parent / "migrations"))
        config.attributes["connection"] = db
        command.downgrade(config, v0008_task_changes.down_revision)

    async def work() -> None:
        await upgrade_ledger(settings)
        async with opened(settings) as ledger:
            task, _ = await ledger.add(new())
        await in_ledger(settings, to_before)
        await upgrade_ledger(settings)
        async with opened(settings) as ledger:
            start = await position(ledger)
            assert await changed(ledger, 0) == []
            await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED)])
            assert await changed(ledger, start) == [task.id]

    asyncio.run(work())
