"""A clock that is put back keeps nobody waiting; what was meant for later stays there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskState
from autoscorer.service.flow_runs import FlowRuns
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.queries import LONGEST_CALLBACK_WAIT
from autoscorer.service.ledger.records import NewTask, TaskEnd
from autoscorer.service.ledger.task_ids import new_task_id
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.prefect.model import AWAITING_RETRY, AWAITING_ROOM
from autoscorer.service.recovery.clock_steps import is_held_up, longest_wait
from autoscorer.service.recovery.stuck_runs import Reconciler
from autoscorer.service.sync import adopter as adopt
from autoscorer.service.sync.adopter import Adopter
from autoscorer.service.sync.deployments import DeploymentIds
from autoscorer.service.sync.follower import Follower
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.lost_runs import Runs, ask, runs, settings_with
from ..support.prefect_server import PrefectServer, server

__all__ = ["runs", "server"]

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = 3600.0
TASK = {"autoscorer.task": "some-task"}


def run_of(*, due: float, made: float, kind: str = "SCHEDULED", **more: Any) -> dict[str, Any]:
    """A flow run whose times are seconds from now."""
    state = {
        "type": kind,
        "timestamp": (NOW + timedelta(seconds=made)).isoformat(),
        "state_details": {"scheduled_time": (NOW + timedelta(seconds=due)).isoformat()},
    }
    return {"state": state, "labels": {}, "auto_scheduled": False, **more}


@pytest.mark.parametrize(
    ("run", "held_up"),
    [
        # A task's run: nobody submits for later.
        (run_of(due=-1, made=-1, labels=TASK), False),
        (run_of(due=60, made=0, labels=TASK), False),
        (run_of(due=5 * HOUR, made=5 * HOUR, labels=TASK), True),
        (run_of(due=5 * HOUR, made=-1, labels=TASK), True),
        (run_of(due=5 * HOUR, made=5 * HOUR, labels=TASK, kind="PENDING"), False),
        (run_of(due=5 * HOUR, made=5 * HOUR, labels=TASK, kind="PAUSED"), False),
        # Somebody's in Prefect, who may have said when.
        (run_of(due=5 * HOUR, made=-1), False),
        (run_of(due=5 * HOUR, made=5 * HOUR - 1), True),
        (run_of(due=10 * HOUR, made=5 * HOUR), False),
        # A schedule's: a time of day.
        (run_of(due=5 * HOUR, made=-HOUR, auto_scheduled=True), False),
        (run_of(due=5 * HOUR, made=5 * HOUR, auto_scheduled=True), False),
    ],
)
def test_only_what_was_due_before_the_clock_was_put_back_is_held_up(run: dict[str, Any], held_up: bool) -> None:
    assert is_held_up(run, NOW, longest=70) is held_up


def test_the_longest_wait_of_a_retry_is_no_step_of_the_clock() -> None:
    settings = settings_with(retry_delay=100, max_attempts=4)
    # After the first, second and third attempt: 100, 200 and 400 seconds.
    assert 400 < longest_wait(settings) < 420


# --- at a real server --------------------------------------------------------------------------------------------


def schedule(server: PrefectServer, run: str, seconds: float, name: str | None = None) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    state = {"type": "SCHEDULED", "name": name, "message": "why", "state_details": {"scheduled_time": due}}
    answer = server.call("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    assert answer["status"] == "ACCEPT"


@pytest.mark.prefect
@pytest.mark.parametrize("name", [None, AWAITING_RETRY, AWAITING_ROOM])
def test_a_queued_task_that_lies_hours_ahead_is_handed_out_within_seconds(
    server: PrefectServer, runs: Runs, make_workspace: Callable[..., Path], name: str | None
) -> None:
    settings = settings_with(retry_delay=1)
    run, retried, scheduled = (runs.make(make_workspace(name)) for name in ("task", "retried", "scheduled"))
    for one in (run, retried):
        runs.label(one, **TASK)
    schedule(server, run, 5 * HOUR, name)
    schedule(server, retried, 60, AWAITING_RETRY)
    schedule(server, scheduled, 5 * HOUR)

    async def handed_out(prefect: PrefectApi) -> list[str]:
        return [found["id"] for found in await prefect.scheduled(runs.pool, 10)]

    assert ask(settings, handed_out) == []

    def looked() -> list[str]:
        """What was done to the runs of this test: the server and the engine are other tests' too."""
        lines = ask(settings, lambda prefect: Reconciler(FlowRuns(settings), prefect).look({}))
        return [line for line in lines if any(one in line for one in (run, retried, scheduled))]

    (line,) = looked()
    assert run in line and "clock" in line
    assert ask(settings, handed_out) == [run], "a retry waits as long as it should, and what somebody has put off too"
    # It costs no attempt, and is put at now once.
    assert runs.names(run).count(AWAITING_RETRY) == (name == AWAITING_RETRY)
    assert looked() == []


@pytest.mark.prefect
def test_a_run_that_nobody_works_on_is_missed_also_when_its_state_lies_in_the_future(
    runs: Runs, make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.service.recovery import observations

    settings = settings_with(stuck_after=0.3, retry_delay=0)
    run = runs.make(make_workspace())
    runs.set(run, "PENDING")
    # What this process takes for the time: five hours before the server's.
    real = time.time

    class Clock:
        @staticmethod
        def time() -> float:
            return real() - 5 * HOUR

    monkeypatch.setattr(observations, "time", Clock)

    async def look_twice(prefect: PrefectApi) -> list[str]:
        reconciler = Reconciler(FlowRuns(settings), prefect)
        active = {run: runs.get(run)}
        first = await reconciler.look(active)
        await asyncio.sleep(0.5)
        return [*first, *await reconciler.look(active)]

    (line,) = [line for line in ask(settings, look_twice) if run in line]
    assert "back in its queue" in line and runs.state(run)[0] == "SCHEDULED"


# --- runs that came to Prefect without us ------------------------------------------------------------------------


def test_runs_of_schedules_are_looked_for_from_now_on_after_the_clock_was_put_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"id": str(uuid4())})
        asked.append(json.loads(request.content)["flow_runs"])
        return httpx.Response(200, json=[])

    real = datetime.now

    class Clock(datetime):
        ahead = timedelta(hours=5)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real(tz) + cls.ahead

    async def unheard(ended: Sequence[str]) -> None:
        pass

    async def work() -> None:
        ledger = await Ledger.open(settings)
        async with PrefectApi(settings) as prefect:
            prefect._client = httpx.AsyncClient(base_url=prefect.url, transport=httpx.MockTransport(answer))
            roots = WorkspaceRoots(settings)
            follower = Follower(settings, roots, ledger, prefect, FlowRuns(settings), lost=lambda: None, ended=unheard)
            adopter = Adopter(roots, ledger, prefect, DeploymentIds(prefect), follower)
            for _ in range(2):
                await adopter.look()
            Clock.ahead = timedelta()
            asked.clear()
            await adopter.look()
        await ledger.close()

    monkeypatch.setattr(adopt, "datetime", Clock)
    asyncio.run(work())
    scheduled, ended = asked[1:]
    assert "after_" not in scheduled["expected_start_time"], "everything that is due is looked at again"
    assert datetime.fromisoformat(ended["end_time"]["after_"]) <= real(UTC)


# --- callbacks ---------------------------------------------------------------------------------------------------


def test_a_callback_that_lies_hours_ahead_is_due(settings: Settings) -> None:
    async def work() -> None:
        ledger = await Ledger.open(settings)
        task = NewTask(
            id=new_task_id(),
            caller="c",
            action="score",
            subject="/data/a",
            workspace="/data/a",
            scorer=None,
            priority="normal",
            request={"action": "score", "workspace": "a"},
            parameters={},
            created_at=time.time(),
            callback_url="http://127.0.0.1:1/",
        )
        await ledger.add(task)
        await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED)])
        now = time.time()
        for wait, due in ((60.0, False), (LONGEST_CALLBACK_WAIT, False), (5 * HOUR, True)):
            await ledger.callback_done(task.id, False, "no answer", now + wait)
            assert bool(await ledger.due_callbacks(now)) is due
        await ledger.close()

    asyncio.run(work())
