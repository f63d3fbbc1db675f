"""Whoever listens is told what happens to the tasks that they may see, and knows what they have missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.schemas.task import TaskState
from autoscorer.service import task_events
from autoscorer.service.ledger.records import Observed, TaskEnd
from autoscorer.service.policy import Caller, Subject
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.task_events import MOST_MISSED, MOST_PENDING, Listener, News, TaskEvents, Told
from autoscorer.service.tasks import TaskQuery, TaskService
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.ledger import new, opened

ADMIN, SUBMIT = Caller("a", "admin"), Caller("s", "submit")
TEAM = Caller("t", "submit", team="team-a")


def told(task_id: str, **subject: Any) -> Told:
    return Told(task_id, Subject(**subject), None)


async def ids_of(listener: Listener) -> list[str]:
    return [each.task_id for each in (await listener.news(0)).told]


class Watched:
    """A watcher, the ledger that it watches, and questions to both."""

    def __init__(self, events: TaskEvents, tasks: TaskService) -> None:
        self.events, self.tasks, self.ledger = events, tasks, tasks.ledger

    async def add(self, name: str, **other: Any) -> str:
        return (await self.ledger.add(new(f"/data/{name}", **other)))[0].id

    async def run(self, task_id: str) -> str:
        """Have a task be under way; its flow run."""
        row, flow_run = await self.ledger.row(task_id), str(uuid4())
        await self.ledger.dispatched([(row, flow_run)])
        await self.ledger.observe([Observed(task_id, TaskState.RUNNING, "RUNNING", 1, 1.0, None)])
        return flow_run

    async def listed(self, task_id: str) -> Any:
        """A task as the list shows it."""
        return {task.id: task for task in (await self.tasks.list(TaskQuery())).tasks}[task_id]


async def hears(listener: Listener, wanted: Callable[[News], bool]) -> News:
    """News up to the first that is wanted."""
    async with asyncio.timeout(300):
        while True:
            news = await listener.news(60)
            if wanted(news):
                return news


def is_about(*task_ids: str) -> Callable[[News], bool]:
    return lambda news: {*task_ids} <= {each.task_id for each in news.told}


@asynccontextmanager
async def watched(settings: Settings, stopping: asyncio.Event | None = None) -> AsyncIterator[Watched]:
    async with opened(settings) as ledger, PrefectApi(settings) as prefect:
        tasks = TaskService(settings, WorkspaceRoots(settings), ledger, prefect)
        async with TaskEvents.running(tasks, stopping or asyncio.Event()) as events:
            yield Watched(events, tasks)


# --- who listens ----------------------------------------------------------------------------------------------


def test_a_listener_is_told_of_each_task_once_and_of_none_that_they_may_not_see() -> None:
    async def work() -> None:
        for caller, seen in ((ADMIN, ["plain", "theirs", "job"]), (SUBMIT, ["plain"]), (TEAM, ["theirs"])):
            listener = Listener(caller)
            listener.offer([told("theirs", benchmark="b", team="team-a"), told("plain")], "1")
            listener.offer([told("plain"), told("job", owner="other")], "2")
            news = await listener.news(0)
            assert (sorted(each.task_id for each in news.told), news.position) == (sorted(seen), "2")
            assert await ids_of(listener) == []

    asyncio.run(work())


def test_who_listens_to_one_task_hears_of_no_other() -> None:
    async def work() -> None:
        listener = Listener(ADMIN, "one")
        listener.offer([told("one"), told("other")], "1")
        assert await ids_of(listener) == ["one"]

    asyncio.run(work())


def test_a_slow_listener_holds_so_many_tasks_and_then_only_that_there_were_more() -> None:
    async def work() -> None:
        listener = Listener(ADMIN)
        for number in range(MOST_PENDING):
            listener.offer([told(str(number))] * 3, str(number))
        assert len(await ids_of(listener)) == MOST_PENDING
        for number in range(MOST_PENDING + 1):
            listener.offer([told(str(number))], str(number))
        listener.offer([told("later")], "9999")
        news = await listener.news(0)
        assert (news.told, news.is_reset, news.position) == ([], True, "9999")
        # And from there on everything again.
        listener.offer([told("new")], "10000")
        news = await listener.news(0)
        assert ([each.task_id for each in news.told], news.is_reset) == (["new"], False)

    asyncio.run(work())


# --- what they hear -------------------------------------------------------------------------------------------


def test_what_happens_to_a_task_is_heard_as_the_list_shows_it(settings: Settings) -> None:
    async def work() -> None:
        async with watched(settings) as it, it.events.listening(ADMIN) as listener:
            task = await it.add("a")
            (one,) = (await hears(listener, is_about(task))).told
            assert one.task == await it.listed(task) and one.task.stage == "accepted"
            await it.run(task)
            (one,) = (await hears(listener, is_about(task))).told
            assert one.task == await it.listed(task) and one.task.state == "running"
            await it.ledger.finish(
                [TaskEnd(task, TaskState.FAILED, error=AutoScorerError(ErrorCode.TIMEOUT_ERROR, "x").to_dict())]
            )
            (one,) = (await hears(listener, is_about(task))).told
            assert one.task == await it.listed(task) and one.task.error.code == "TIMEOUT_ERROR"
            await it.ledger.forget(task)
            (one,) = (await hears(listener, is_about(task))).told
            assert one.task is None

    asyncio.run(work())


def test_how_far_a_task_is_is_heard_though_the_ledger_does_not_say_it(settings: Settings) -> None:
    async def work() -> None:
        async with watched(settings) as it, it.events.listening(ADMIN) as listener:
            task = await it.add("many", action="batch")
            files = FlowRunFiles(settings.home, await it.run(task))
            await hears(listener, lambda news: any(each.task.state == "running" for each in news.told if each.task))
            files.set_stage("score")
            files.set_total(3)
            for done in (1, 2, 3):
                files.add_member_outcome({"workspace": f"w{done}"})

                def is_done(news: News, done: int = done) -> bool:
                    return any(
                        each.task and each.task.progress and each.task.progress.done == done for each in news.told
                    )

                (one,) = (await hears(listener, is_done)).told
                assert one.task == await it.listed(task) and one.task.stage == "score"
            # Nothing more happens, so nothing more is told.
            assert (await listener.news(3 * task_events.PAUSE)).told == []

    asyncio.run(work())


@pytest.mark.slow
def test_nobody_asks_while_nobody_listens_and_one_watcher_asks_for_all(settings: Settings) -> None:
    async def work() -> None:
        async with watched(settings) as it:
            asked = 0
            ask = it.ledger.changed_since

            async def counted(*args: Any) -> Any:
                nonlocal asked
                asked += 1
                return await ask(*args)

            it.ledger.changed_since = counted  # type: ignore[method-assign]
            await asyncio.sleep(3 * task_events.PAUSE)
            assert asked == 0
            async with it.events.listening(ADMIN) as one, it.events.listening(SUBMIT) as other:
                assert it.events.number == 2
                asked = 0
                await asyncio.sleep(5 * task_events.PAUSE)
                assert 1 <= asked <= 6
                task = await it.add("a")
                first, second = await asyncio.gather(hears(one, is_about(task)), hears(other, is_about(task)))
                assert first.told[0] is second.told[0]
            await asyncio.sleep(2 * task_events.PAUSE)
            asked = 0
            await asyncio.sleep(3 * task_events.PAUSE)
            assert asked == 0 and it.events.number == 0

    asyncio.run(work())


# --- who comes back -------------------------------------------------------------------------------------------


def test_who_comes_back_is_told_what_has_changed_since_each_task_as_it_is_now(settings: Settings) -> None:
    async def work() -> None:
        async with watched(settings) as it:
            old = await it.add("old")
            async with it.events.listening(ADMIN) as listener:
                position = (await listener.news(0)).position
            gone, kept = await it.add("gone"), await it.add("kept")
            await it.ledger.finish([TaskEnd(each, TaskState.CANCELLED) for each in (gone, kept)])
            await it.ledger.forget(gone)
            async with it.events.listening(ADMIN, after=position) as back:
                news = await back.news(0)
                assert back.is_resumed and not news.is_reset
                assert {each.task_id: each.task and each.task.state for each in news.told} == {
                    gone: None,
                    kept: "cancelled",
                }
                # And from there on what happens.
                await it.ledger.finish([TaskEnd(old, TaskState.CANCELLED)])
                await hears(back, is_about(old))
            # Who may not see them is told nothing of it.
            async with it.events.listening(TEAM, after=position) as other:
                news = await other.news(0)
                assert other.is_resumed and (news.told, news.is_reset) == ([], False)

    asyncio.run(work())


def test_what_happens_while_somebody_comes_back_is_not_missed(settings: Settings) -> None:
    """Again and again in the midst of changes: every task's end is heard by somebody who is away half of the time."""

    async def work() -> None:
        async with watched(settings) as it:
            over, states = asyncio.Event(), dict[str, str]()

            async def write() -> None:
                for number in range(60):
                    task = await it.add(str(number))
                    await asyncio.sleep(0.01)
                    await it.run(task)
                    await asyncio.sleep(0.01)
                    await it.ledger.finish([TaskEnd(task, TaskState.CANCELLED)])
                over.set()

            async with it.events.listening(ADMIN) as first:
                position = (await first.news(0)).position
            writing = asyncio.create_task(write())
            is_last = False
            while not is_last:
                is_last = over.is_set()
                async with it.events.listening(ADMIN, after=position) as back:
                    for _ in range(2):
                        news = await back.news(0.05)
                        assert not news.is_reset
                        states.update({each.task_id: each.task.state for each in news.told if each.task})
                        position = news.position
            await writing
            assert len(states) == 60 and {*states.values()} == {"cancelled"}

    asyncio.run(work())


@pytest.mark.parametrize(
    "after",
    ["", "nonsense", "1-1", "0-0-00000000", "9" * 18 + "-1-00000000", "1-1-1\n", "١-١-00000000", "-1-1-00000000"],
)
def test_a_position_that_is_not_known_means_that_the_list_is_to_be_asked_for(settings: Settings, after: str) -> None:
    async def work() -> None:
        async with watched(settings) as it, it.events.listening(ADMIN, after=after) as listener:
            news = await listener.news(0)
            assert news.is_reset and not listener.is_resumed and news.told == []

    asyncio.run(work())


def test_a_position_of_long_ago_or_of_another_ledger_or_with_too_much_after_it_is_not_known(
    settings: Settings,
) -> None:
    async def work() -> None:
        async with watched(settings) as it:
            async with it.events.listening(ADMIN) as listener:
                number, at, epoch = (await listener.news(0)).position.split("-")
            for position, is_known in (
                (f"{number}-{at}-{epoch}", True),
                (f"{number}-{int(at) - 3700}-{epoch}", False),
                (f"{number}-{at}-{int(epoch, 16) ^ 1:08x}", False),
                (f"{int(number) + 1000}-{at}-{epoch}", False),
            ):
                async with it.events.listening(ADMIN, after=position) as back:
                    assert back.is_resumed == is_known, position
            for each in range(MOST_MISSED + 1):
                await it.add(str(each))
            async with it.events.listening(ADMIN, after=f"{number}-{at}-{epoch}") as back:
                assert (await back.news(0)).is_reset and not back.is_resumed

    asyncio.run(work())


# --- what goes wrong ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_changes_than_can_be_told_are_a_reset(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with watched(settings) as it, it.events.listening(ADMIN) as listener:
            await asyncio.gather(*(it.add(str(number)) for number in range(12)))
            news = await hears(listener, lambda news: news.is_reset)
            assert news.told == []
            task = await it.add("after")
            await hears(listener, is_about(task))

    monkeypatch.setattr(task_events, "_MOST_FRESH", 10)
    # One look for all of them.
    monkeypatch.setattr(task_events, "PAUSE", 3.0)
    asyncio.run(work())


def test_what_changes_while_the_ledger_is_away_is_told_when_it_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with watched(settings) as it, it.events.listening(ADMIN) as listener:
            ask, failed = it.ledger.changed_since, asyncio.Event()
            is_away = True

            async def asked(*args: Any) -> Any:
                if is_away:
                    failed.set()
                    raise AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, "The ledger's database does not answer.")
                return await ask(*args)

            it.ledger.changed_since = asked  # type: ignore[method-assign]
            task = await it.add("meanwhile")
            await failed.wait()
            with pytest.raises(AutoScorerError, match="does not answer"):
                async with it.events.listening(ADMIN, after="1-1-00000000"):
                    pass
            is_away = False
            await hears(listener, is_about(task))

    monkeypatch.setattr(task_events, "_AWAY", (0.1, 0.2))
    asyncio.run(work())


def test_who_listens_when_the_server_stops_is_told_so_and_who_comes_then(settings: Settings) -> None:
    async def work() -> None:
        stopping = asyncio.Event()
        async with watched(settings, stopping) as it, it.events.listening(ADMIN) as listener:
            waiting = asyncio.create_task(hears(listener, lambda news: news.is_over))
            stopping.set()
            await waiting
            async with it.events.listening(ADMIN) as late:
                assert (await late.news(60)).is_over

    asyncio.run(work())
