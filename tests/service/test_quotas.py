"""A team's quota is kept to the submission, however many submit at the same time, and given back where it must be."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import CATALOGUE, AutoScorerError, ErrorCode, Fault
from autoscorer.schemas.benchmark import Quota
from autoscorer.schemas.quota import QuotaLeft
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.quotas import Spent, check_left, is_given_back, left_of
from autoscorer.service.ledger.records import NewTask, Observed, TaskEnd
from autoscorer.service.ledger.tables import submissions
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, multiple, rule
from pydantic import SecretStr
from sqlalchemy import update

from ..support.examples import examples
from ..support.ledger import new, opened
from ..support.ledger_machine import LedgerMachine, check
from ..support.postgres import Postgres
from ..support.postgres import postgres as postgres

DAY = 86400.0
# 1970-01-03, six hours and a bit after midnight UTC.
MORNING = 2 * DAY + 6 * 3600 + 0.25


def submission(team: str = "a", benchmark: str = "flowers", **other: Any) -> NewTask:
    """A task of a submission that nobody has made before."""
    return new(f"/data/{uuid4()}", benchmark=benchmark, team=team, **other)


def error_of(code: ErrorCode, **details: Any) -> dict[str, Any]:
    return AutoScorerError(code, "Something.", details=details).to_dict()


# --- plain values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("had", "quota", "left"),
    [
        (Spent(MORNING, 3, 9, 1), Quota(), QuotaLeft()),
        (
            Spent(MORNING, 3, 9, 1),
            Quota(per_day=5, total=20, at_once=2),
            QuotaLeft(left_today=2, left=11, at_once_left=1),
        ),
        # No more of a day than in all.
        (Spent(MORNING, 1, 9, 0), Quota(per_day=5, total=10), QuotaLeft(left_today=1, left=1)),
        (
            Spent(MORNING, 5, 5, 0),
            Quota(per_day=5, total=10),
            QuotaLeft(left_today=0, left=5, next_at="1970-01-04T00:00:00.000Z"),
        ),
        # Tomorrow there is nothing either.
        (Spent(MORNING, 5, 10, 0), Quota(per_day=5, total=10), QuotaLeft(left_today=0, left=0)),
        # A quota that was made smaller.
        (Spent(MORNING, 1, 9, 4), Quota(total=5, at_once=1), QuotaLeft(left=0, at_once_left=0)),
    ],
)
def test_what_is_left(had: Spent, quota: Quota, left: QuotaLeft) -> None:
    assert left_of(had, quota) == left


@pytest.mark.parametrize(
    ("had", "limit"),
    [
        (Spent(MORNING, 2, 10, 0), "total"),
        (Spent(MORNING, 5, 6, 0), "per_day"),
        (Spent(MORNING, 1, 6, 2), "at_once"),
        (Spent(MORNING, 1, 6, 1), None),
    ],
)
def test_which_limit_it_is_and_when_the_next_one_is_taken(had: Spent, limit: str | None) -> None:
    quota = Quota(per_day=5, total=10, at_once=2)
    if limit is None:
        check_left(had, quota, "a")
        return
    with pytest.raises(AutoScorerError) as caught:
        check_left(had, quota, "a")
    error = caught.value
    assert (error.code, error.spec.http_status, error.details["limit"]) == (ErrorCode.QUOTA_EXCEEDED, 429, limit)
    if limit == "per_day":
        assert error.details["next_at"] == "1970-01-04T00:00:00.000Z" and "1970-01-04" in error.message
        assert error.details["retry_after"] == 18 * 3600
    else:
        assert error.details["next_at"] is None and "retry_after" not in error.details


def test_what_is_given_back() -> None:
    cancelled, failed, completed = TaskState.CANCELLED, TaskState.FAILED, TaskState.COMPLETED
    assert is_given_back(cancelled, error_of(ErrorCode.CANCELLED), started=False)
    assert not is_given_back(cancelled, error_of(ErrorCode.CANCELLED), started=True)
    assert not is_given_back(completed, None, started=True)
    for code, spec in CATALOGUE.items():
        assert is_given_back(failed, error_of(code), started=True) == (spec.fault is not Fault.SUBMISSION), code
    # The organiser's file is wrong, and not the team's.
    assert is_given_back(failed, error_of(ErrorCode.BAD_FORMAT, file="gt.csv"), started=True)
    assert is_given_back(failed, error_of(ErrorCode.PARSE_ERROR, file="input/gt.json"), started=True)
    assert not is_given_back(failed, error_of(ErrorCode.BAD_FORMAT, file="pred.csv"), started=True)
    # Nobody knows why: whoever wants it for nothing could see to that.
    assert not is_given_back(failed, None, started=True)
    assert not is_given_back(failed, {"code": "NO_SUCH_CODE", "details": None}, started=True)


# --- one after the other ------------------------------------------------------------------------------------------


def test_a_submission_counts_once_and_beyond_its_task(settings: Settings) -> None:
    quota = Quota(per_day=2, total=3, at_once=2)

    async def work() -> None:
        async with opened(settings) as ledger:
            first, created, left = await ledger.add_submission(submission(), quota, key="k", request_hash="h")
            assert created and left == QuotaLeft(left_today=1, left=2, at_once_left=1)
            # Sent again, because the answer was lost.
            again, created, left = await ledger.add_submission(submission(), quota, key="k", request_hash="h")
            assert (again.id, created, left.left) == (first.id, False, 2)
            second, _, left = await ledger.add_submission(submission(), quota)
            assert left.left_today == 0 and left.at_once_left == 0 and left.next_at is not None
            refused = submission()
            with pytest.raises(AutoScorerError) as caught:
                await ledger.add_submission(refused, quota)
            assert caught.value.code is ErrorCode.QUOTA_EXCEEDED
            assert await ledger.find(refused.id) is None
            # Others have theirs, and the same team elsewhere.
            assert (await ledger.add_submission(submission("b"), quota))[1]
            assert (await ledger.add_submission(submission(benchmark="dogs"), quota))[1]
            # What is asked for on a submission by somebody else costs nothing.
            assert (await ledger.add(submission(role="organiser")))[1]
            await ledger.finish([TaskEnd(first.id, TaskState.COMPLETED), TaskEnd(second.id, TaskState.COMPLETED)])
            for row in (first, second):
                await ledger.forget(row.id)
            had = await ledger.spent("flowers", "a")
            assert (had.today, had.total, had.active) == (2, 2, 0)
            with pytest.raises(AutoScorerError):
                await ledger.add_submission(submission(), quota)

    asyncio.run(work())


def test_what_was_refused_leaves_no_key_behind(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            row, _, _ = await ledger.add_submission(submission(), Quota(at_once=1))
            with pytest.raises(AutoScorerError):
                await ledger.add_submission(submission(), Quota(at_once=1), key="k", request_hash="h")
            await ledger.finish([TaskEnd(row.id, TaskState.COMPLETED)])
            _, created, _ = await ledger.add_submission(submission(), Quota(at_once=1), key="k", request_hash="other")
            assert created

    asyncio.run(work())


# --- at the same time ---------------------------------------------------------------------------------------------


async def raced(ledgers: list[Ledger], quota: Quota, teams: int, tries: int) -> list[str]:
    """The teams whose submissions were accepted, of ``tries`` of each at the same time."""

    async def one(number: int) -> str | None:
        team = f"team-{number % teams}"
        try:
            _, created, _ = await ledgers[number % len(ledgers)].add_submission(submission(team), quota)
        except AutoScorerError as error:
            assert error.code is ErrorCode.QUOTA_EXCEEDED
            return None
        assert created
        return team

    answers = await asyncio.gather(*(one(number) for number in range(teams * tries)))
    return [team for team in answers if team is not None]


def test_eight_threads_race_and_not_one_too_many_is_accepted(settings: Settings) -> None:
    quota = Quota(per_day=20, total=25, at_once=20)

    async def work() -> None:
        async with opened(settings) as ledger:
            loop = asyncio.get_running_loop()

            def submit(number: int) -> str | None:
                asked = ledger_add(ledger, submission(f"team-{number % 2}"), quota)
                try:
                    row, _, _ = asyncio.run_coroutine_threadsafe(asked, loop).result(60)
                except AutoScorerError as error:
                    assert error.code is ErrorCode.QUOTA_EXCEEDED
                    return None
                return row.id

            with ThreadPoolExecutor(8) as threads:
                found = await asyncio.gather(*(loop.run_in_executor(threads, submit, n) for n in range(160)))
                accepted = [task_id for task_id in found if task_id is not None]
                assert len(accepted) == len(set(accepted)) == 40
                for team in ("team-0", "team-1"):
                    had = await ledger.spent("flowers", team)
                    assert (had.today, had.total, had.active) == (20, 20, 20)
                # Four come back, and no more than four go out again.
                ends = [
                    TaskEnd(each, TaskState.FAILED, error=error_of(ErrorCode.BACKEND_UNAVAILABLE))
                    for each in accepted[:4]
                ]
                await ledger.finish(ends)
                found = await asyncio.gather(*(loop.run_in_executor(threads, submit, n) for n in range(80)))
                assert sum(task_id is not None for task_id in found) == 4

    asyncio.run(work())


async def ledger_add(ledger: Ledger, task: NewTask, quota: Quota) -> Any:
    return await ledger.add_submission(task, quota)


@pytest.fixture
def shared(postgres: Postgres, home: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())
    made = load_settings()
    asyncio.run(upgrade_ledger(made))
    return made


@pytest.mark.slow
def test_three_replicas_on_postgresql_race_and_not_one_too_many_is_accepted(shared: Settings) -> None:
    async def work() -> None:
        async with opened(shared) as one, opened(shared) as other, opened(shared) as third:
            accepted = await raced([one, other, third], Quota(per_day=7, total=30, at_once=9), teams=10, tries=40)
            assert {team: accepted.count(team) for team in accepted} == {f"team-{n}": 7 for n in range(10)}
            assert len(await raced([one, other, third], Quota(total=9), teams=10, tries=10)) == 20
            assert len(await raced([one, other, third], Quota(at_once=10), teams=10, tries=10)) == 10
            for number in range(10):
                had = await one.spent("flowers", f"team-{number}")
                assert (had.total, had.active) == (10, 10)

    asyncio.run(work())


RACING = """
import asyncio, json, sys
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.benchmark import Quota
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask
from autoscorer.service.ledger.task_ids import new_task_id
import time

async def one(ledger, number):
    task_id = new_task_id()
    task = NewTask(task_id, "c", "score", task_id, task_id, None, "normal", {}, {}, time.time(),
                   benchmark="flowers", team=f"team-{number % 3}")
    try:
        return (await ledger.add_submission(task, Quota(total=10)))[0].team
    except AutoScorerError as error:
        assert error.code == "QUOTA_EXCEEDED", error

async def main():
    ledger = await Ledger.open(load_settings())
    sys.stdin.readline()
    print(json.dumps(await asyncio.gather(*(one(ledger, number) for number in range(60)))), flush=True)
    await ledger.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_processes_on_postgresql_race_and_not_one_too_many_is_accepted(shared: Settings) -> None:
    assert shared.has_shared_ledger
    pipe = subprocess.PIPE
    racing = [subprocess.Popen([sys.executable, "-c", RACING], stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    try:
        for process in racing:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        told = [team for process in racing for team in json.loads(process.communicate(timeout=300)[0])]
    finally:
        for process in racing:
            process.kill()
            process.wait()
    assert {team: told.count(team) for team in told if team} == {f"team-{n}": 10 for n in range(3)}


# --- whatever is done, in whatever order --------------------------------------------------------------------------


@dataclass
class Known:
    """What the model knows of a submission."""

    team: str
    day: int
    started: bool = False
    ended: bool = False
    given_back: bool = False


class Machine(LedgerMachine):
    """A ledger beside a model of what teams have had; a day passes by making everything a day older."""

    tasks = Bundle("tasks")
    quota = Quota(per_day=3, total=5, at_once=2)

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}
        self.day = 0

    def had(self, team: str) -> tuple[int, int, int]:
        own = [each for each in self.known.values() if each.team == team]
        counted = [each for each in own if not each.given_back]
        return sum(each.day == self.day for each in counted), len(counted), sum(not each.ended for each in own)

    @rule(target=tasks, team=st.sampled_from(["a", "b"]))
    def submit(self, team: str) -> Any:
        task = submission(team)
        today, total, active = self.had(team)
        fits = today < 3 and total < 5 and active < 2
        if not fits:
            with pytest.raises(AutoScorerError) as caught:
                self.do(lambda: self.ledger.add_submission(task, self.quota))
            assert caught.value.code is ErrorCode.QUOTA_EXCEEDED
            return multiple()
        _, created, left = self.do(lambda: self.ledger.add_submission(task, self.quota))
        assert created and (left.left, left.at_once_left) == (4 - total, 1 - active)
        self.known[task.id] = Known(team, self.day)
        return task.id

    @rule(task=tasks)
    def start(self, task: str) -> None:
        self.do(lambda: self.ledger.observe([Observed(task, TaskState.RUNNING, "RUNNING", 1, 1.0, None)]))
        self.known[task].started = True

    @rule(
        task=tasks,
        end=st.sampled_from(
            [
                (TaskState.COMPLETED, None),
                (TaskState.FAILED, ErrorCode.BAD_FORMAT),
                (TaskState.FAILED, ErrorCode.STORAGE_FULL),
                (TaskState.CANCELLED, ErrorCode.CANCELLED),
            ]
        ),
    )
    def finish(self, task: str, end: tuple[TaskState, ErrorCode | None]) -> None:
        known, (state, code) = self.known[task], end
        error = error_of(code) if code is not None else None
        self.do(lambda: self.ledger.finish([TaskEnd(task, state, error=error)]))
        if not known.ended:
            known.ended = True
            known.given_back = code is ErrorCode.STORAGE_FULL or (state is TaskState.CANCELLED and not known.started)

    @rule(task=tasks)
    def forget(self, task: str) -> None:
        self.do(lambda: self.ledger.forget(task))

    @rule()
    def a_day_passes(self) -> None:
        older = update(submissions).values(accepted_at=submissions.c.accepted_at - DAY)
        self.do(lambda: self.ledger._database.write(lambda db: db.execute(older).rowcount))
        self.day += 1

    @invariant()
    def says_what_the_model_says(self) -> None:
        for team in ("a", "b"):
            had = self.do(lambda team=team: self.ledger.spent("flowers", team))  # type: ignore[misc]
            assert (had.today, had.total, had.active) == self.had(team)


@pytest.mark.slow
def test_whatever_is_done_it_counts_as_a_plain_model_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(Machine, lambda: load_settings().model_copy(update={"home": tmp_path_factory.mktemp("home")}), examples(30))


@pytest.mark.slow
def test_so_it_does_in_postgresql(postgres: Postgres, home: Any) -> None:
    check(
        Machine,
        lambda: load_settings().model_copy(update={"ledger_url": SecretStr(postgres.ledger_url())}),
        examples(30),
    )
