"""A ledger in PostgreSQL: shared by several, and away for a while."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger import accepting
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.records import TaskEnd, TaskFilter
from autoscorer.service.ledger.revisions import HEAD
from autoscorer.service.ledger.tables import metadata
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncTransaction, create_async_engine
from sqlalchemy.pool import NullPool

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
        found = [*compare_metadata(MigrationContext.configure(db), metadata)]
        if db.dialect.name != "sqlite":
            return found
        # Of a reference that came with a column of its own, SQLAlchemy does not read what becomes of it.
        return [each for each in found if each[0] not in ("add_fk", "remove_fk")] + [
            (table.name, key.parent.name)
            for table in metadata.sorted_tables
            for key in table.foreign_keys
            if (key.parent.name, key.column.table.name, key.column.name, key.ondelete)
            not in _references(db, table.name)
        ]

    for settings in (empty, empty.model_copy(update={"ledger_url": None})):
        asyncio.run(upgrade_ledger(settings))
        assert asyncio.run(in_ledger(settings, differences)) == []


def _references(db: Connection, table: str) -> set[tuple[str, str, str, str]]:
    """Column, table and column that it refers to, and what becomes of it: as SQLite has them."""
    asked = text('SELECT "from", "table", "to", on_delete FROM pragma_foreign_key_list(:name)')
    return {tuple(row) for row in db.execute(asked, {"name": table})}


def test_a_thousand_racing_submits_make_one_active_task_a_workspace(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as one, opened(shared) as other, opened(shared) as third:
            ledgers = (one, other, third)
            answers = await asyncio.gather(
                *(ledgers[n % 3].add(new(f"/data/{n % 40}"), key=f"k{n % 100}", request_hash="h") for n in range(1000))
            )
            made = [row.id for row, created in answers if created]
            assert len(made) == len(set(made)) == 40
            _, total, *_ = await one.page(TaskFilter(), None, 1)
            assert total == 40 and (await other.counts())["queued"] == 40
            # A key stands for one task, whoever is asked.
            for n in range(100):
                rows = {row.id for row, _ in answers[n::100]}
                known = await third.keyed("someone", f"k{n}", "h")
                assert known is not None and rows == {known.id}

    asyncio.run(work())


RACING = """
import asyncio, json, sys
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger import accepting
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import TaskEnd
from tests.support.ledger import new

async def main():
    ledger = await Ledger.open(load_settings())

    async def one(n):
        key, request = (f"k{n % 90}" if n % 3 else None), f"h{n % 90 % 7 + n // 360}"
        try:
            row, created = await ledger.add(new(f"/data/{n % 7}"), key=key, request_hash=request)
        except AutoScorerError as error:
            if error.code != "CONFLICT":
                raise
            return key, request, error.details["task_id"], False, True
        if created and n % 2:
            await ledger.finish([TaskEnd(row.id, TaskState.FAILED)])
        return key, request, row.id, created, False

    async def client(first):
        return [await one(n) for n in range(first, 400, 20)]

    print("ready", flush=True)
    sys.stdin.readline()
    answers = await asyncio.gather(*(client(first) for first in range(20)))
    print(json.dumps([answer for some in answers for answer in some]))
    await ledger.close()

asyncio.run(main())
"""


def test_processes_that_race_for_the_same_workspaces_and_keys_answer_alike(shared: Settings) -> None:
    command = [sys.executable, "-c", RACING]
    root = Path(__file__).parents[2]
    racing = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=root) for _ in range(3)]
    for process in racing:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [tuple(answer) for process in racing for answer in json.loads(process.communicate(timeout=300)[0])]
    assert [process.returncode for process in racing] == [0, 0, 0] and len(answers) == 1200

    made = [task for _, _, task, created, _ in answers if created]
    known = asyncio.run(in_ledger(shared, lambda db: {*db.scalars(text("SELECT id FROM tasks"))}))
    # None was made twice or is there without having been told, and whoever was not first was told of one that is there.
    assert len(made) == len(set(made)) and set(made) == known
    assert {task for _, _, task, _, _ in answers} == known and 7 < len(made) < 1200
    of_keys: dict[str, set[tuple[str, str]]] = {}
    for key, request, task, _, refused in answers:
        if key is not None and not refused:
            of_keys.setdefault(key, set()).add((request, task))
    # A key stands for one request and one task, and whoever comes with another request is told of that task.
    assert all(len(stands_for) == 1 for stands_for in of_keys.values())
    refusals = [(request, task) != one for key, request, task, _, refused in answers if refused for one in of_keys[key]]
    assert refusals and all(refusals)
    assert {t for k, _, t, _, refused in answers if refused for _, held in of_keys[k] if t != held} == set()


@pytest.mark.parametrize("is_undone", [False, True], ids=["committed", "undone"])
@pytest.mark.parametrize("key", [None, "k", "other"])
@pytest.mark.parametrize("request_hash", ["h", "another"])
def test_whoever_meets_an_unfinished_accept_waits_for_what_becomes_of_it(
    shared: Settings, key: str | None, request_hash: str, is_undone: bool
) -> None:
    """The first has the workspace and the key ``k``, and has not committed when the second asks."""
    first, second = new(), new()

    async def work() -> None:
        async with opened(shared) as ledger, transaction(shared) as (db, end):
            await db.run_sync(accepting.add, first, "k", "h", 60.0)
            asked = asyncio.ensure_future(ledger.add(second, key=key, request_hash=request_hash))
            async with asyncio.timeout(300):
                while not await db.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                    assert not asked.done()
                    await asyncio.sleep(0.01)
            await (end.rollback() if is_undone else end.commit())
            if (is_undone, key, request_hash) == (False, "k", "another"):
                with pytest.raises(AutoScorerError, match=f"used before, for task {first.id}") as caught:
                    await asked
                assert caught.value.code is ErrorCode.CONFLICT
                return
            row, created = await asked
            assert (row.id, created) == ((second.id, True) if is_undone else (first.id, False))
            if key is not None:
                again, created = await ledger.add(new("/data/b"), key=key, request_hash=request_hash)
                assert (again.id, created) == (row.id, False)
            assert (await ledger.counts())["queued"] == 1

    asyncio.run(work())


@asynccontextmanager
async def transaction(settings: Settings) -> AsyncIterator[tuple[AsyncConnection, AsyncTransaction]]:
    """One beside the ledger's own."""
    assert settings.ledger_url is not None
    url = make_url(settings.ledger_url.get_secret_value())
    engine = create_async_engine(url.difference_update_query(["schema"]), poolclass=NullPool)
    async with engine.connect() as plain:
        connection = await plain.execution_options(schema_translate_map={None: str(url.query["schema"])})
        yield connection, await connection.begin()


@pytest.mark.parametrize("key", [None, "k"])
def test_a_task_is_accepted_with_one_question_to_the_database(
    shared: Settings, postgres: Postgres, key: str | None
) -> None:
    def asked() -> list[str]:
        return re.findall(r"LOG:  (?:execute|statement).*", (postgres.folder / "log").read_text())

    async def work() -> None:
        async with opened(shared) as ledger:
            first, _ = await ledger.add(new(action="run"), key=key and "k1")
            before = len(asked())
            row, created = await ledger.add(new(), key=key and "k2")
            assert created and row.reason is not None and first.id in row.reason
            again, created = await ledger.add(new(), key=key and "k3")
            assert again.id == row.id and not created
            assert (await ledger.row(row.id)).reason is None  # it may wait for another one by the time it is shown
            assert len(asked()) == before + 3, asked()[before:]

    def say(what: str) -> None:
        asyncio.run(in_ledger(shared, lambda db: db.execute(text(f"ALTER ROLE autoscorer {what}"))))

    say("SET log_statement = 'all'")
    try:
        asyncio.run(work())
    finally:
        say("RESET log_statement")


@pytest.mark.parametrize("statement", [accepting._AT_ONCE, accepting._AT_ONCE_WITH_KEY], ids=["plain", "keyed"])
def test_accepting_looks_into_indexes_whatever_values_it_was_planned_for(shared: Settings, statement: Any) -> None:
    filled = """
        INSERT INTO tasks (id, origin, caller, action, subject, priority, request, parameters, state, created_at)
            SELECT n, 'api', '', 'score', n, 'normal', '', '', CASE WHEN n < 3000 THEN 'queued' ELSE 'failed' END, n
            FROM generate_series(1, 6000) AS n;
        INSERT INTO idempotency SELECT '', n, '', n, n FROM generate_series(1, 6000) AS n;
        ANALYZE tasks; ANALYZE idempotency; SET LOCAL plan_cache_mode = force_generic_plan
    """

    def plan(db: Connection) -> str:
        for each in filled.split(";"):
            db.exec_driver_sql(each)
        compiled = statement.compile(dialect=db.dialect)
        db.exec_driver_sql(f"PREPARE accept AS {compiled}")
        values = ", ".join(["NULL"] * len(compiled.positiontup))
        return "\n".join(db.exec_driver_sql(f"EXPLAIN EXECUTE accept({values})").scalars())

    found = asyncio.run(in_ledger(shared, plan))
    assert "one_active" in found and "Seq Scan" not in found, found


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
            async with asyncio.timeout(300):
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
