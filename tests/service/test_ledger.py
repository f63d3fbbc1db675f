"""What the ledger has accepted is there, whatever happens to the process, and one thing is never accepted twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import in_ledger
from autoscorer.service.ledger.records import Observed, TaskEnd
from autoscorer.service.ledger.revisions import upgrade
from autoscorer.service.ledger.task_ids import first_id_at, is_task_id, new_task_id
from hypothesis import given
from hypothesis import strategies as st

from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def settings(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A configuration with an empty ledger, in each of the databases."""
    if request.param == "postgres":
        monkeypatch.setenv("AUTOSCORER_LEDGER_URL", request.getfixturevalue("postgres").ledger_url())
        asyncio.run(in_ledger(load_settings(), upgrade))
    return load_settings()


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


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
            assert (await ledger.counts())["queued"] == 1

    run(accept)
    run(look)


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
            known = await ledger.keyed("c", "k", "1")
            assert known is not None and known.id == first.id
            assert [await ledger.keyed(*other) for other in (("d", "k", "1"), ("c", "l", "1"), ("c", "k", "2"))] == [
                None
            ] * 3

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
            await ledger.dispatched([(row, f"run-{row.workspace}") for row in claimed])
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
            await ledger.dispatched([(row, "f")])
            await ledger.observe([Observed(row.id, TaskState.RUNNING, "RUNNING", 1, 5.0, None)])
            assert (await ledger.row(row.id)).state == "cancelling"

    run(work)


def test_a_task_whose_flow_run_was_lost_is_handed_over_under_another_key(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _ = await ledger.add(new())
            assert row.idempotency_key == row.id
            await ledger.claim_undispatched(9)
            await ledger.dispatched([(row, "f1")])
            await ledger.observe([Observed(row.id, TaskState.RUNNING, "RUNNING", 2, time.time(), "again")])
            assert await ledger.dispatch_anew(row.id, "f1", "lost")
            assert not await ledger.dispatch_anew(row.id, "f1", "lost")
            (again,) = await ledger.claim_undispatched(9)
            assert (again.idempotency_key, again.state, again.attempts) == (f"{row.id}:2", "queued", 2)
            # Who claimed it the first time comes late.
            await ledger.dispatched([(row, "f1")])
            assert (await ledger.row(row.id)).flow_run_id is None
            await ledger.dispatched([(again, "f2")])
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
            assert await ledger.known_flow_run("f1") and not await ledger.known_flow_run("f2")
            assert (await ledger.of_flow_runs({"f1", "f2"}))["f1"].id == adopted[1].id
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
            assert await ledger.counts() == {**dict.fromkeys(await ledger.counts(), 0), "completed": 1}
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
            assert await ledger.find(ended.id) is None and await ledger.outcome(ended.id) is None
            assert await ledger.find(active.id) and await ledger.find(told.id)
            assert sum((await ledger.counts()).values()) == 2

    run(work)


# --- kill -9 -----------------------------------------------------------------------------------------------------


KILLED = """
import asyncio, sys, time
from autoscorer.core.config import load_settings
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.records import NewTask
from autoscorer.service.ledger.revisions import upgrade
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
    ledger = await Ledger.open(load_settings())
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
                assert all([await ledger.find(task_id) for task_id in told])
                for row in await ledger.active():
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
            taken = await ledger.claim_undispatched(10)
            assert {row.id for row in taken} == {first.id, check.id, other.id}
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
