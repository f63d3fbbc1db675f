"""What the ledger has accepted is there, whatever happens to the process, and one thing is never accepted twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger import schema as ledger_schema
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask, Observed, TaskEnd
from autoscorer.service.ledger.task_ids import first_id_at, is_task_id, new_task_id
from autoscorer.service.ledger.writer import GroupCommit
from hypothesis import given
from hypothesis import strategies as st


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Ledger]:
    ledger = Ledger.open(settings)
    try:
        yield ledger
    finally:
        ledger.close()


def new(workspace: str = "/data/a", action: str = "score", **other: Any) -> NewTask:
    return NewTask(
        **{
            "id": new_task_id(),
            "caller": "someone",
            "action": action,
            "subject": workspace,
            "workspace": workspace,
            "scorer": None,
            "priority": "normal",
            "request": {"action": action, "workspace": os.path.basename(workspace)},
            "parameters": {"workspace": workspace},
            "created_at": time.time(),
            **other,
        }
    )


# --- accepting ---------------------------------------------------------------------------------------------------


def test_what_was_accepted_is_there_after_the_ledger_is_opened_again(settings: Settings) -> None:
    task = new(callback_url="http://example.org/done")

    async def accept() -> None:
        async with opened(settings) as ledger:
            row, created = await ledger.add(task)
            assert created and row.id == task.id

    async def look() -> None:
        async with opened(settings) as ledger:
            view = await ledger.view(task.id)
            assert (view.state, view.stage, view.workspace) == (TaskState.QUEUED, "accepted", "a")
            assert view.callback is not None and view.callback.state == "waiting"
            assert ledger.counts()["queued"] == 1

    run(accept)
    run(look)


def test_the_ledger_is_its_owners_alone(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            await ledger.add(new())
            for path in settings.home.glob("ledger*"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name

    run(work)


def test_only_one_process_serves_a_home(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings):
            with pytest.raises(AutoScorerError) as caught:
                Ledger.open(settings)
            assert caught.value.code is ErrorCode.CONFLICT

    run(work)
    run(work)  # and it was let go of


def test_a_workspace_has_one_active_task_of_an_action(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            first, created = await ledger.add(new())
            assert created
            again, created = await ledger.add(new())
            assert (again.id, created) == (first.id, False)
            for other in (new("/data/b"), new(action="run")):
                assert (await ledger.add(other))[1]
            await ledger.finish([TaskEnd(first.id, TaskState.COMPLETED)])
            later, created = await ledger.add(new())
            assert created and later.id != first.id

    run(work)


def test_many_at_once_make_one_task(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            answers = await asyncio.gather(*(ledger.add(new()) for _ in range(50)))
            assert len({row.id for row, _ in answers}) == 1
            assert [created for _, created in answers].count(True) == 1

    run(work)


def test_a_key_stands_for_one_request(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            first, _ = await ledger.add(new(), key="k", request_hash="1")
            await ledger.finish([TaskEnd(first.id, TaskState.FAILED)])
            again, created = await ledger.add(new(), key="k", request_hash="1")
            assert (again.id, created, again.state) == (first.id, False, "failed")
            with pytest.raises(AutoScorerError) as caught:
                await ledger.add(new(), key="k", request_hash="2")
            assert caught.value.code is ErrorCode.CONFLICT
            # Another caller's key is another key, and a refused request has made nothing.
            _, created = await ledger.add(new(caller="other"), key="k", request_hash="2")
            assert created

    run(work)


def test_what_a_key_stands_for_is_known_before_there_is_a_task(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            first, _ = await ledger.add(new(caller="c"), key="k", request_hash="1")
            known = ledger.keyed("c", "k", "1")
            assert known is not None and known.id == first.id
            assert [ledger.keyed(*other) for other in (("d", "k", "1"), ("c", "l", "1"), ("c", "k", "2"))] == [None] * 3

    run(work)


def test_a_key_of_an_active_task_stands_for_that_task(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            first, _ = await ledger.add(new())
            second, _ = await ledger.add(new(), key="k", request_hash="1")
            await ledger.finish([TaskEnd(first.id, TaskState.COMPLETED)])
            third, created = await ledger.add(new(), key="k", request_hash="1")
            assert second.id == third.id == first.id and not created

    run(work)


def test_keys_are_forgotten(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            old = time.time() - settings.api.idempotency_hours * 3600 - 1
            first, _ = await ledger.add(new(created_at=old), key="k", request_hash="1")
            await ledger.finish([TaskEnd(first.id, TaskState.COMPLETED)])
            second, created = await ledger.add(new(), key="k", request_hash="2")
            assert created and second.id != first.id

    run(work)


# --- handing over ------------------------------------------------------------------------------------------------


def test_the_most_urgent_are_handed_over_first_and_none_twice(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            for number, priority in enumerate(("low", "normal", "high", "normal", "high")):
                await ledger.add(new(f"/data/{number}", priority=priority))
            await ledger.add(new("/data/9", action="run"))
            claimed = await ledger.claim_undispatched(4, without=["run"])
            assert [row.workspace for row in claimed] == ["/data/2", "/data/4", "/data/1", "/data/3"]
            await ledger.dispatched([(row.id, f"run-{row.workspace}") for row in claimed])
            assert [row.workspace for row in await ledger.claim_undispatched(9)] == ["/data/9", "/data/0"]

    run(work)


def test_what_was_cancelled_before_is_never_handed_over(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _ = await ledger.add(new())
            cancelled, ended = await ledger.request_cancel(row.id)
            assert (cancelled.state, ended) == ("cancelled", True)
            assert await ledger.claim_undispatched(9) == []
            error = (await ledger.view(row.id)).error
            assert error is not None and error.code == "CANCELLED"
            assert (await ledger.request_cancel(row.id))[1] is False

    run(work)


def test_what_prefect_may_know_of_is_cancelled_there(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _ = await ledger.add(new())
            await ledger.claim_undispatched(9)
            cancelled, ended = await ledger.request_cancel(row.id)
            assert (cancelled.state, ended, cancelled.cancel_requested) == ("cancelling", False, 1)
            # It is handed over, in order to be cancelled, and stays so whatever Prefect says meanwhile.
            assert [each.id for each in await ledger.claim_undispatched(9)] == [row.id]
            await ledger.dispatched([(row.id, "f")])
            await ledger.observe([Observed(row.id, TaskState.RUNNING, "RUNNING", 1, 5.0, None)])
            assert ledger.row(row.id).state == "cancelling"

    run(work)


def test_a_task_whose_flow_run_was_lost_is_handed_over_under_another_key(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _ = await ledger.add(new())
            assert row.idempotency_key == row.id
            await ledger.claim_undispatched(9)
            await ledger.dispatched([(row.id, "f1")])
            await ledger.observe([Observed(row.id, TaskState.RUNNING, "RUNNING", 2, time.time(), "again")])
            assert await ledger.dispatch_anew(row.id, "f1", "lost")
            assert not await ledger.dispatch_anew(row.id, "f1", "lost")
            (again,) = await ledger.claim_undispatched(9)
            assert (again.idempotency_key, again.state, again.attempts) == (f"{row.id}:2", "queued", 2)
            await ledger.dispatched([(row.id, "f2")])
            await ledger.observe([Observed(row.id, TaskState.RUNNING, "RUNNING", 1, time.time(), None)])
            view = await ledger.view(row.id)
            assert (view.attempts, view.reason, view.flow_run_id) == (3, "lost", "f2")

    run(work)


def test_a_flow_run_is_adopted_once_and_beside_an_active_task(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            await ledger.add(new())
            adopted = [new(origin="prefect", flow_run_id=f"f{number}") for number in range(2)]
            assert len(await ledger.adopt(adopted)) == 2
            assert await ledger.adopt([replace(adopted[0], id=new_task_id())]) == []
            assert ledger.known_flow_run("f1") and not ledger.known_flow_run("f2")
            assert await ledger.claim_undispatched(9, without=["score"]) == []

    run(work)


# --- endings and callbacks ---------------------------------------------------------------------------------------


def test_a_task_ends_once(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _ = await ledger.add(new(callback_url="http://example.org"))
            ending = TaskEnd(
                row.id, TaskState.COMPLETED, result={"score": 1.0}, attempts=1, started_at=1.0, ended_at=3.5
            )
            assert await ledger.finish([ending, replace(ending, state=TaskState.FAILED)]) == [row.id]
            view = await ledger.view(row.id)
            assert (view.state, view.result, view.run_seconds) == (TaskState.COMPLETED, {"score": 1.0}, 2.5)
            assert view.queue_seconds == 0.0  # the clocks disagree
            assert ledger.counts() == {**dict.fromkeys(ledger.counts(), 0), "completed": 1}
            (due,) = await ledger.due_callbacks(time.time())
            assert (due.task_id, due.url, due.attempts) == (row.id, "http://example.org", 0)

    run(work)


def test_callbacks_are_due_until_they_are_done(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _ = await ledger.add(new(callback_url="http://example.org"))
            assert await ledger.due_callbacks(time.time() + 1e9) == []
            await ledger.finish([TaskEnd(row.id, TaskState.FAILED)])
            await ledger.callback_done(row.id, False, "refused", time.time() + 100)
            assert await ledger.due_callbacks(time.time()) == []
            assert [due.attempts for due in await ledger.due_callbacks(time.time() + 101)] == [1]
            await ledger.callback_done(row.id, True, None, None)
            assert await ledger.due_callbacks(time.time() + 1e9) == []
            callback = (await ledger.view(row.id)).callback
            assert callback is not None and callback.delivered_at is not None
            assert (callback.state, callback.attempts) == ("delivered", 2)

    run(work)


def test_old_tasks_are_forgotten_and_active_ones_never(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            ended, active, told = [
                (await ledger.add(new(f"/data/{n}", callback_url=url)))[0]
                for n, url in enumerate((None, None, "http://example.org"))
            ]
            await ledger.finish([TaskEnd(ended.id, TaskState.COMPLETED), TaskEnd(told.id, TaskState.COMPLETED)])
            later = time.time() + settings.api.keep_days * 86400 + 1
            assert await ledger.prune(time.time()) == 0
            assert await ledger.prune(later) == 1
            assert ledger.find(ended.id) is None and ledger.outcome(ended.id) is None
            assert ledger.find(active.id) and ledger.find(told.id)
            assert sum(ledger.counts().values()) == 2

    run(work)


# --- the file ----------------------------------------------------------------------------------------------------


def test_an_earlier_ledger_is_brought_up_to_date(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db", isolation_level=None)
    scripts = ("CREATE TABLE a (x);", "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (1, 2);")
    ledger_schema.prepare(db, scripts[:1])
    ledger_schema.prepare(db, scripts)
    ledger_schema.prepare(db, scripts)
    assert db.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]
    with pytest.raises(sqlite3.Error):
        ledger_schema.prepare(db, (*scripts, "INSERT INTO a VALUES (3, 4); nonsense;"))
    db.rollback()
    assert db.execute("SELECT count(*) FROM a").fetchone() == (1,)  # whole or not at all
    with pytest.raises(AutoScorerError) as caught:
        ledger_schema.prepare(db, scripts[:1])
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    db.close()


def test_of_tasks_of_an_earlier_ledger_the_least_is_shown(settings: Settings) -> None:
    db = sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)
    ledger_schema.prepare(db, ledger_schema._SCRIPTS[:1])
    db.execute(
        "INSERT INTO tasks (id, origin, caller, action, subject, priority, request, parameters, state, created_at, "
        "callback_url, callback_state, callback_at) VALUES ('old', 'api', 'admin-1', 'score', 's', 'normal', "
        "'{\"workspace\": \"w\"}', '{}', 'completed', 1.0, 'http://example.org/', 'pending', 1.0)"
    )
    db.close()

    async def work() -> None:
        async with opened(settings) as ledger:
            assert ledger.row("old").role == "submit"
            assert [due.role for due in await ledger.due_callbacks(2.0)] == ["submit"]
            row, _ = await ledger.add(new(role="admin"))
            assert row.role == "admin"

    run(work)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 5000])
def test_a_broken_ledger_is_told_in_words(settings: Settings, content: bytes) -> None:
    (settings.home / "ledger.sqlite3").write_bytes(content)

    async def work() -> None:
        with pytest.raises(AutoScorerError) as caught:
            Ledger.open(settings)
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        assert str(settings.home) not in caught.value.message

    run(work)


def test_a_disk_that_is_full_refuses_and_breaks_nothing(settings: Settings) -> None:
    async def work() -> None:
        db = sqlite3.connect(settings.home / "db", isolation_level=None, check_same_thread=False)
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA max_page_count = 20")
        writer = GroupCommit(db, "ledger", settings.home)
        put = lambda size: writer.write(lambda db: db.execute("INSERT INTO t VALUES (?)", ("x" * size,)).rowcount)  # noqa: E731
        assert await put(10) == 1
        refused = await asyncio.gather(put(10), put(1_000_000), put(10), return_exceptions=True)
        errors = [each for each in refused if isinstance(each, AutoScorerError)]
        assert errors and {error.code for error in errors} == {ErrorCode.STORAGE_FULL}
        assert all("home" in error.message and str(settings.home) not in error.message for error in errors)
        assert await put(10) == 1
        # What failed for a reason of its own fails alone.
        mixed = await asyncio.gather(put(10), writer.write(lambda _: 1 / 0), put(10), return_exceptions=True)
        assert [type(each) for each in mixed] == [int, ZeroDivisionError, int]
        count = await writer.write(lambda db: db.execute("SELECT count(*) FROM t").fetchone()[0])
        assert count == 4 + sum(each == 1 for each in refused)
        writer.close()

    run(work)


KILLED = """
import asyncio, sys, time
from autoscorer.core.config import load_settings
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask
from autoscorer.service.ledger.task_ids import new_task_id

async def client(ledger, first):
    for number in range(first, first + 1000):
        subject = str(number)
        task = NewTask(
            new_task_id(), "c", "score", subject, subject, None, "normal", {"workspace": "w"}, {}, time.time()
        )
        row, _ = await ledger.add(task)
        print(row.id, flush=True)

async def main():
    ledger = Ledger.open(load_settings())
    await asyncio.gather(*(client(ledger, first * 1000) for first in range(20)))

asyncio.run(main())
"""


@pytest.mark.slow
def test_every_task_that_was_told_of_survives_kill_9(settings: Settings) -> None:
    """Twenty clients submit; the process is killed while it writes."""
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
        # The last line may have been cut short.
        told += [line.strip() for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL

        async def look(told: list[str] = told) -> None:
            async with opened(settings) as ledger:
                assert all(ledger.find(task_id) for task_id in told)
                for row in ledger.active():
                    await ledger.request_cancel(row.id)

        assert len(told) >= 200
        run(look)


# --- ids ---------------------------------------------------------------------------------------------------------


def test_ids_sort_by_when_they_were_made() -> None:
    ids = [new_task_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert all(map(is_task_id, ids))
    assert first_id_at(time.time() - 60) < ids[0] and ids[-1] < first_id_at(time.time() + 60)


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_an_id_of_a_moment_sorts_there(one: float, other: float) -> None:
    if int(one * 1000) < int(other * 1000):
        assert new_task_id(one) < first_id_at(other) <= new_task_id(other)


@pytest.mark.parametrize("text", ["", "x", "../x", json.dumps(None), "0" * 32, "A" * 36])
def test_what_is_no_id(text: str) -> None:
    assert not is_task_id(text)


def test_a_workspace_is_handed_over_for_one_task_at_a_time_in_the_order_of_asking(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            first, second, third = new(action="pipeline"), new(action="score"), new(action="run", priority="high")
            check, other = new(action="validate"), new("/data/b")
            for task in (first, second, third, check, other):
                await ledger.add(task)
            # A check disturbs nobody, and another workspace is another matter.
            taken = {row.id for row in await ledger.claim_undispatched(10)}
            assert taken == {first.id, check.id, other.id}
            await ledger.dispatched([(each, str(uuid4())) for each in taken])
            assert await ledger.claim_undispatched(10) == []
            await ledger.finish([TaskEnd(first.id, TaskState.COMPLETED)])
            assert [row.id for row in await ledger.claim_undispatched(10)] == [second.id]
            await ledger.finish([TaskEnd(second.id, TaskState.FAILED)])
            assert [row.id for row in await ledger.claim_undispatched(10)] == [third.id]

    run(work)


def test_what_is_scheduled_or_paused_in_prefect_holds_no_workspace(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            flow_run_id = str(uuid4())
            nightly = new(origin="prefect", subject=flow_run_id, flow_run_id=flow_run_id)
            await ledger.adopt([nightly])
            task = new()
            await ledger.add(task)

            async def may_go(state: TaskState, prefect_state: str) -> bool:
                await ledger.observe([Observed(nightly.id, state, prefect_state, 1, None, None)])
                found = await ledger.claim_undispatched(10)
                await ledger.unclaim([row.id for row in found])
                return [row.id for row in found] == [task.id]

            assert [row.id for row in await ledger.claim_undispatched(10)] == [task.id]
            await ledger.unclaim([task.id])
            assert await may_go(TaskState.QUEUED, "SCHEDULED")
            assert await may_go(TaskState.QUEUED, "PAUSED")
            assert not await may_go(TaskState.QUEUED, "PENDING")
            assert not await may_go(TaskState.RUNNING, "RUNNING")
            assert not await may_go(TaskState.CANCELLING, "CANCELLING")

    run(work)


def test_whom_a_task_waits_for_is_known_without_a_scan(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            tasks = [new(action="pipeline"), new(), new(action="run"), new(action="validate"), new("/data/b")]
            rows = [(await ledger.add(task))[0] for task in tasks]
            first, second = rows[0].id, rows[1].id
            assert [ledger.waits_for(row) for row in rows] == [None, first, first, None, None]
            await ledger.dispatched([(second, str(uuid4()))])
            assert [ledger.waits_for(ledger.row(row.id)) for row in rows] == [second, None, second, None, None]
            asked: list[str] = []
            ledger._reader.set_trace_callback(asked.append)
            ledger.waits_for(rows[0])
            ledger._reader.set_trace_callback(None)
            plan = [str(each[3]) for each in ledger._reader.execute("EXPLAIN QUERY PLAN " + asked[0])]
            assert any("one_active (action=? AND subject=?)" in step for step in plan), plan
            assert not any("SCAN" in step for step in plan), plan

    run(work)
