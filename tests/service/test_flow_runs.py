"""What workers on many hosts say of flow runs: one has each at a time, and who comes too late is not heard.

On both databases; the service asks a shared one only.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.processes import ProcessIdentity
from autoscorer.schemas.task import TaskState
from autoscorer.service.flow_runs import FlowRuns, LedgerAway
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.records import TaskEnd
from autoscorer.service.ledger.tables import flow_runs
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from ..support.ledger import new, opened
from ..support.postgres import Postgres, own_postgres, postgres

__all__ = ["own_postgres", "postgres"]

RUN = "11111111-1111-4111-8111-111111111111"
ENDING = {"state": "COMPLETED", "message": "score 1", "data": {"x": 1}, "error": None}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def on_both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "postgresql":
        server = cast(Postgres, request.getfixturevalue("postgres"))
        monkeypatch.setenv("AUTOSCORER_LEDGER_URL", server.ledger_url())


@pytest.fixture
def shared(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())


@asynccontextmanager
async def ledger_of_its_own() -> AsyncIterator[Ledger]:
    settings = load_settings()
    await upgrade_ledger(settings)
    async with opened(settings) as ledger:
        yield ledger


def with_ledger(story: Callable[[Ledger], Awaitable[None]]) -> None:
    async def told() -> None:
        async with ledger_of_its_own() as ledger:
            await story(ledger)

    asyncio.run(told())


async def age(ledger: Ledger, seconds: float) -> None:
    """Let the claims be so many seconds older."""
    older = update(flow_runs).values(until=flow_runs.c.until - seconds)
    await ledger._database.write(lambda db: db.execute(older))


# --- one has it at a time -----------------------------------------------------------------------------------------


def test_a_run_is_one_workers_until_it_lets_go_or_is_silent(on_both: None) -> None:
    async def story(ledger: Ledger) -> None:
        assert await ledger.take_run(RUN, "one", "first", 60) == 1
        assert await ledger.take_run(RUN, "two", "second", 60) is None
        assert await ledger.take_run(RUN, "one", "first", 60) == 2, "its answer may have been lost"
        await ledger.release_run(RUN, 1)
        assert await ledger.take_run(RUN, "two", "second", 60) is None, "an earlier attempt lets go of nothing"
        await ledger.release_run(RUN, 2)
        assert await ledger.take_run(RUN, "two", "second", 60) == 3
        await age(ledger, 61)
        assert await ledger.take_run(RUN, "one", "first", 60) == 4

    with_ledger(story)


def test_renewing_says_what_is_still_its_own(on_both: None) -> None:
    other = RUN.replace("1", "2")

    async def story(ledger: Ledger) -> None:
        await ledger.take_run(RUN, "one", "first", 60)
        await ledger.take_run(other, "one", "first", 60)
        await age(ledger, 50)
        assert await ledger.renew_runs("one", 60) == {RUN: 1, other: 1}
        assert 55 < cast(float, (await ledger.known_runs([RUN]))[RUN].remaining) <= 60
        await age(ledger, 61)
        assert await ledger.take_run(other, "two", "second", 60) == 2
        assert await ledger.renew_runs("one", 60) == {RUN: 1}, "late, and nobody had it meanwhile"

    with_ledger(story)


def test_who_was_silent_is_not_heard_any_more(on_both: None) -> None:
    async def story(ledger: Ledger) -> None:
        attempt = await ledger.take_run(RUN, "one", "first", 60)
        assert attempt is not None and await ledger.take_over_run(RUN, attempt) is None, "it lives"
        await age(ledger, 61)
        assert await ledger.take_over_run(RUN, attempt) == 2
        assert await ledger.take_over_run(RUN, attempt) is None, "of two who take it over, one does"
        assert await ledger.renew_runs("one", 60) == {}
        assert not await ledger.keep_outcome(RUN, attempt, ENDING)
        await ledger.note_stage(RUN, attempt, "late", 9)
        await ledger.add_members(RUN, attempt, 0, [{"late": True}])
        known = (await ledger.known_runs([RUN]))[RUN]
        assert (known.stage, known.total, known.done, known.outcome_age) == (None, None, 0, None)
        # Until somebody has settled it, it counts as lost: who took it over may have died over it.
        assert cast(float, known.remaining) < 0
        assert await ledger.keep_outcome(RUN, 2, ENDING)
        assert await ledger.run_outcome(RUN) == ENDING

    with_ledger(story)


def test_who_is_stopped_in_the_middle_of_a_transaction_keeps_nobody_waiting_for_long(shared: None) -> None:
    async def story(ledger: Ledger) -> None:
        attempt = await ledger.take_run(RUN, "one", "first", 60)
        assert attempt is not None
        await age(ledger, 61)
        async with opened(load_settings()) as stopped, stopped._database._engine.connect() as connection:
            # Its worker renews, and is stopped before it commits: the row is locked.
            await connection.execute(update(flow_runs).values(worker_name="stopped"))
            assert await asyncio.wait_for(ledger.take_over_run(RUN, attempt), 50) == 2
            with pytest.raises(DBAPIError):
                await connection.commit()
            await connection.invalidate()

    with_ledger(story)


def test_an_outcome_is_forced_only_on_what_nobody_has(on_both: None) -> None:
    async def story(ledger: Ledger) -> None:
        await ledger.take_run(RUN, "one", "first", 60)
        assert not await ledger.end_by_force(RUN, ENDING)
        await ledger.release_run(RUN, 1)
        assert await ledger.end_by_force(RUN, ENDING)
        assert not await ledger.keep_outcome(RUN, 1, {**ENDING, "message": "late"})
        assert await ledger.run_outcome(RUN) == ENDING
        never_taken = str(uuid4())
        assert await ledger.end_by_force(never_taken, ENDING) and await ledger.run_outcome(never_taken) == ENDING
        # A run that is started anew begins without an outcome.
        assert await ledger.take_run(RUN, "two", "second", 60) == 3
        assert await ledger.run_outcome(RUN) is None

    with_ledger(story)


def test_a_batch_goes_on_where_another_host_left_it(on_both: None) -> None:
    outcomes = [{"workspace": f"/w/{number}", "state": "completed"} for number in range(5)]

    async def story(ledger: Ledger) -> None:
        await ledger.take_run(RUN, "one", "first", 60)
        await ledger.note_stage(RUN, 1, "score", 5)
        await ledger.add_members(RUN, 1, 0, outcomes[:2])
        await ledger.add_members(RUN, 1, 2, outcomes[2:])
        assert await ledger.members(RUN) == outcomes
        await age(ledger, 61)
        await ledger.take_run(RUN, "two", "second", 60)
        known = (await ledger.known_runs([RUN]))[RUN]
        assert (known.total, known.done) == (5, 5)
        # Its journal begins anew, with those that count.
        await ledger.add_members(RUN, 2, 0, outcomes[:3])
        assert await ledger.members(RUN) == outcomes[:3]

    with_ledger(story)


def test_with_the_end_of_its_task_nothing_is_left_of_a_run(on_both: None) -> None:
    async def story(ledger: Ledger) -> None:
        task, _ = await ledger.add(new())
        (claimed,) = await ledger.claim_undispatched(10)
        await ledger.dispatched([(claimed, RUN)])
        await ledger.take_run(RUN, "one", "first", 60)
        await ledger.add_members(RUN, 1, 0, [ENDING])
        assert await ledger.wanted_cancelled([RUN]) == []
        await ledger.request_cancel(task.id)
        assert await ledger.wanted_cancelled([RUN, str(uuid4())]) == [RUN]
        await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED)])
        assert await ledger.known_runs([RUN]) == {} and await ledger.members(RUN) == []
        assert not await ledger.keep_outcome(RUN, 1, ENDING)

    with_ledger(story)


# --- what the service makes of it ---------------------------------------------------------------------------------


def test_what_one_host_says_another_one_reads(shared: None, tmp_path: Path) -> None:
    here, there = (load_settings().model_copy(update={"home": tmp_path / name}) for name in ("here", "there"))
    outcomes = [{"workspace": "/w/1", "state": "completed"}]

    async def story(ledger: Ledger) -> None:
        one, two = FlowRuns(here, ledger), FlowRuns(there, ledger)
        attempt = await one.take(RUN, ProcessIdentity.current(), "worker")
        assert attempt == 1 and await two.is_held(RUN)
        claim = Claim(ProcessIdentity.current(), attempt=attempt)
        await one.note_stage(RUN, attempt, "score", 2)
        await one.add_members(RUN, attempt, 0, outcomes)
        progress = (await two.progress([RUN]))[RUN]
        assert (progress.stage, progress.done, progress.total) == ("score", 1, 2)
        assert await two.members(RUN) == outcomes
        await two.fetch(RUN)
        files = two.files(RUN)
        assert (files.read_stage(), files.read_total(), files.member_outcomes()) == ("score", 2, outcomes)
        one.files(RUN).save_outcome(ENDING)
        assert await two.outcome(RUN) is None
        assert await one.publish_outcome(RUN, claim) == ENDING == await two.outcome(RUN)

    with_ledger(story)


def test_an_outcome_names_no_path_of_the_host_that_it_is_from(shared: None, home: Path, tmp_path: Path) -> None:
    root = tmp_path / "workspaces"
    settings = load_settings().model_copy(update={"workspace_roots": (root,)})
    said = f"The home's disk is full: {home}/stage; the workspace is {root}/a."

    async def story(ledger: Ledger) -> None:
        runs = FlowRuns(settings, ledger)
        attempt = await runs.take(RUN, ProcessIdentity.current(), "worker")
        assert attempt is not None
        runs.files(RUN).save_outcome({**ENDING, "message": said})
        await runs.publish_outcome(RUN, Claim(ProcessIdentity.current(), attempt=attempt))
        await runs.add_members(RUN, attempt, 0, [{"workspace": f"{root}/a", "error": {"message": said}}])
        told, (member,) = await runs.outcome(RUN), await runs.members(RUN)
        kept = f"The home's disk is full: <home>/stage; the workspace is {root}/a."
        assert told is not None and told["message"] == kept
        assert member == {"workspace": f"{root}/a", "error": {"message": kept}}

    with_ledger(story)


def test_a_late_outcome_is_dropped_and_the_one_that_counts_is_told(shared: None, tmp_path: Path) -> None:
    here, there = (load_settings().model_copy(update={"home": tmp_path / name}) for name in ("here", "there"))
    owner = ProcessIdentity.current()

    async def story(ledger: Ledger) -> None:
        one, two = FlowRuns(here, ledger), FlowRuns(there, ledger)
        late = Claim(owner, attempt=await one.take(RUN, owner, "worker"))
        await age(ledger, 61)
        taken = await two.take_over((await two.known([RUN]))[RUN])
        assert taken is not None and not await one.is_current(late, RUN) and await two.is_current(taken, RUN)
        one.files(RUN).save_outcome({**ENDING, "message": "late"})
        two.files(RUN).save_outcome(ENDING)
        assert await two.publish_outcome(RUN, taken) == ENDING
        assert await one.publish_outcome(RUN, late) == ENDING, "the other's"
        assert not one.files(RUN).has_outcome()

    with_ledger(story)


def test_without_its_database_a_worker_asks_again_later(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", own_postgres.ledger_url())

    async def story(ledger: Ledger) -> None:
        runs = FlowRuns(load_settings(), ledger)
        await asyncio.to_thread(own_postgres.stop)
        with pytest.raises(LedgerAway):
            await runs.take(RUN, ProcessIdentity.current(), "worker")
        await asyncio.to_thread(own_postgres.start)
        attempt, deadline = None, time.monotonic() + 300
        while attempt is None and time.monotonic() < deadline:
            with contextlib.suppress(LedgerAway):  # it answers while it is starting up, too
                attempt = await runs.take(RUN, ProcessIdentity.current(), "worker")
        assert attempt == 1

    with_ledger(story)


def test_a_ledger_in_the_home_is_not_asked(home: Path) -> None:
    async def story(ledger: Ledger) -> None:
        runs = FlowRuns(load_settings(), ledger)
        assert not runs.is_shared and await runs.known([RUN]) == {}
        files = FlowRunFiles(home, RUN)
        files.set_stage("score")
        files.save_outcome(ENDING)
        assert await runs.outcome(RUN) == ENDING == await runs.publish_outcome(RUN, None)
        assert (await runs.progress([RUN]))[RUN].stage == "score"

    with_ledger(story)
