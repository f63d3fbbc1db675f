"""A ledger in a file: whose it is, what becomes of an earlier one, and of one that is broken or has no room."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Awaitable
from pathlib import Path
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.records import TaskEnd, TaskFilter
from autoscorer.service.ledger.revisions import HEAD
from autoscorer.service.ledger.sqlite import SqliteDatabase
from autoscorer.service.ledger.writer import GroupCommit
from sqlalchemy import create_engine, event, text

from ..support.ledger import new, opened

EARLIER = Path(__file__).parent / "data" / "ledger_0_1.sql"


@pytest.fixture
def earlier(settings: Settings) -> Path:
    """A ledger as AutoScorer 0.1 left it."""
    path = settings.home / "ledger.sqlite3"
    with sqlite3.connect(path) as db:
        db.executescript(EARLIER.read_text())
    db.close()
    return path


def test_the_ledger_is_its_owners_alone(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            await ledger.add(new())
            for path in settings.home.glob("ledger*"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name

    asyncio.run(work())


def test_only_one_process_serves_a_home(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings):
            with pytest.raises(AutoScorerError) as caught:
                await Ledger.open(settings)
            assert caught.value.code is ErrorCode.CONFLICT

    asyncio.run(work())
    asyncio.run(work())  # and it was let go of


def test_an_earlier_ledger_is_taken_over_with_everything_in_it(settings: Settings, earlier: Path) -> None:
    assert asyncio.run(upgrade_ledger(settings)) == {"from": None, "to": HEAD}
    assert asyncio.run(upgrade_ledger(settings)) == {"from": HEAD, "to": HEAD}

    async def work() -> None:
        async with opened(settings) as ledger:
            rows, total, *_ = await ledger.page(TaskFilter(), None, 10)
            assert total == 4 and [row.state for row, _ in rows] == ["queued", "running", "failed", "completed"]
            assert await ledger.counts() == {
                "queued": 1, "running": 1, "cancelling": 0, "completed": 1, "failed": 1, "cancelled": 0,
            }  # fmt: skip
            queued, running, failed, ended = (row for row, _ in rows)
            view = await ledger.view(ended.id)
            assert view.result is not None and view.result["summary"]["score"] == 0.75
            assert view.outcome is not None and view.outcome.metric == "accuracy"
            error = (await ledger.view(failed.id)).error
            assert error is not None and error.code == "MISSING_FILE"
            assert (running.attempts, running.reason, running.started_at) == (2, "again", 1795000005.0)
            assert [(due.task_id, due.role) for due in await ledger.due_callbacks(1.8e9)] == [(ended.id, "admin")]
            # It works on as before: keys stand, a workspace has one task, what ends is counted.
            known = await ledger.keyed("admin-1", "k2", "h2") if running.created_at > 0 else None
            assert known is None or known.id == running.id
            again, created = await ledger.add(new("/srv/queued"))
            assert (again.id, created) == (queued.id, False)
            assert [row.id for row in await ledger.claim_undispatched(9)] == [queued.id]
            await ledger.finish([TaskEnd(running.id, TaskState.CANCELLED)])
            assert (await ledger.counts())["cancelled"] == 1 and (await ledger.counts())["running"] == 0

    asyncio.run(work())


def test_an_earlier_ledger_is_not_served_before_it_was_brought_up_to_date(settings: Settings, earlier: Path) -> None:
    before = earlier.read_bytes()

    async def work() -> None:
        with pytest.raises(AutoScorerError, match="autoscorer ledger upgrade") as caught:
            await Ledger.open(settings)
        assert caught.value.code is ErrorCode.INVALID_REQUEST

    asyncio.run(work())
    with sqlite3.connect(earlier) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    db.close()
    assert len(before) > 0


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_ledger_that_nobody_knows_is_left_as_it_is(settings: Settings, earlier: Path, version: int) -> None:
    with sqlite3.connect(earlier) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(AutoScorerError, match=f"version {version}") as caught:
        asyncio.run(upgrade_ledger(settings))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_a_ledger_of_a_later_autoscorer_is_refused(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings):
            pass
        await in_ledger(settings, lambda db: db.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        for refused in (Ledger.open(settings), upgrade_ledger(settings)):
            with pytest.raises(AutoScorerError, match="made by a later AutoScorer") as caught:
                await refused
            assert caught.value.code is ErrorCode.INVALID_REQUEST

    asyncio.run(work())


def test_an_upgrade_is_whole_or_not_at_all(settings: Settings, earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power is cut")

    # The last step of it.
    monkeypatch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
    with pytest.raises(RuntimeError):
        asyncio.run(upgrade_ledger(settings))
    monkeypatch.undo()
    monkeypatch.setenv("AUTOSCORER_HOME", str(settings.home))
    assert asyncio.run(upgrade_ledger(settings)) == {"from": None, "to": HEAD}


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 5000])
def test_a_broken_ledger_is_told_in_words(settings: Settings, content: bytes) -> None:
    (settings.home / "ledger.sqlite3").write_bytes(content)

    async def work() -> None:
        with pytest.raises(AutoScorerError) as caught:
            await Ledger.open(settings)
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        assert str(settings.home) not in caught.value.message

    asyncio.run(work())


def test_a_disk_that_is_full_refuses_and_breaks_nothing(settings: Settings) -> None:
    async def work() -> None:
        engine = create_engine(
            f"sqlite:///{settings.home}/db", connect_args={"check_same_thread": False}, isolation_level="AUTOCOMMIT"
        )
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        db = engine.raw_connection()
        db.cursor().execute("CREATE TABLE t (x)")
        db.close()
        connection = engine.connect()
        connection.exec_driver_sql("PRAGMA max_page_count = 20")
        connection.commit()
        writer = GroupCommit(connection, "ledger", settings.home)

        def put(size: int) -> Awaitable[int]:
            row = {"x": "x" * size}
            return writer.write(lambda db: db.execute(text("INSERT INTO t VALUES (:x)"), row).rowcount)

        assert await put(10) == 1
        refused = await asyncio.gather(put(10), put(1_000_000), put(10), return_exceptions=True)
        errors = [each for each in refused if isinstance(each, AutoScorerError)]
        assert errors and {error.code for error in errors} == {ErrorCode.STORAGE_FULL}
        assert all("home" in error.message and str(settings.home) not in error.message for error in errors)
        assert await put(10) == 1
        # What failed for a reason of its own fails alone.
        mixed = await asyncio.gather(put(10), writer.write(lambda _: 1 / 0), put(10), return_exceptions=True)
        assert [type(each) for each in mixed] == [int, ZeroDivisionError, int]
        count = await writer.write(lambda db: db.execute(text("SELECT count(*) FROM t")).scalar())
        assert count == 4 + sum(each == 1 for each in refused)
        writer.close()
        engine.dispose()

    asyncio.run(work())


def test_whom_a_task_waits_for_is_known_without_a_scan(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            tasks = [new(action="pipeline"), new(), new(action="run"), new(action="validate"), new("/data/b")]
            rows = [(await ledger.add(task))[0] for task in tasks]
            first, second = rows[0].id, rows[1].id
            assert [await ledger.waits_for(row) for row in rows] == [None, first, first, None, None]
            await ledger.dispatched([(rows[1], str(uuid4()))])
            rows = [await ledger.row(row.id) for row in rows]
            assert [await ledger.waits_for(row) for row in rows] == [second, None, second, None, None]
            asked: list[str] = []
            assert isinstance(ledger._database, SqliteDatabase)
            reader: sqlite3.Connection = ledger._database._reader.connection.dbapi_connection  # type: ignore[assignment]
            reader.set_trace_callback(asked.append)
            await ledger.waits_for(rows[0])
            reader.set_trace_callback(None)
            plan = [str(each[3]) for each in reader.execute("EXPLAIN QUERY PLAN " + asked[0])]
            assert any("one_active (action=? AND subject=?)" in step for step in plan), plan
            assert not any("SCAN" in step for step in plan), plan

    asyncio.run(work())
