"""A task fails when Prefect will not have it, and never because Prefect's database is broken."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from autoscorer.core.config import Settings
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.core.logs import JsonFormatter
from autoscorer.service.flow_runs import FlowRuns
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import Json, NewTask
from autoscorer.service.ledger.task_ids import new_task_id
from autoscorer.service.prefect.client import PrefectApi, PrefectAway
from autoscorer.service.sync import dispatcher as dispatch
from autoscorer.service.sync.deployments import DeploymentIds
from autoscorer.service.sync.dispatcher import Dispatcher
from autoscorer.service.sync.follower import Follower
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.ledger import opened

RAW = "(sqlite3.OperationalError) attempt to write a readonly database [SQL: INSERT INTO flow_run]"


def task(name: str) -> NewTask:
    return NewTask(
        id=new_task_id(),
        caller="c",
        action="score",
        subject=f"/data/{name}",
        workspace=f"/data/{name}",
        scorer=None,
        priority="normal",
        request={"action": "score", "workspace": name},
        parameters={"workspace": f"/data/{name}"},
        created_at=time.time(),
    )


class Prefect:
    """What the server answers: ``refuses`` tells which workspaces it fails on, and ``with_500`` in which way."""

    def __init__(self) -> None:
        self.refuses: Callable[[str], bool] = lambda name: False
        self.with_500 = False
        self.status = 201
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"id": str(uuid4())})
        self.asked += 1
        if self.status != 201:
            return httpx.Response(self.status, text="no")
        bad = [self.refuses(os.path.basename(run["parameters"]["workspace"])) for run in json.loads(request.content)]
        if self.with_500 and any(bad):
            return httpx.Response(500, text="Internal Server Error")
        made = {"status": "CREATED", "error": None}
        failed = {"status": "FAILED", "flow_run_id": None, "error": RAW}
        return httpx.Response(
            200, json={"results": [failed if one else {**made, "flow_run_id": str(uuid4())} for one in bad]}
        )


class Away:
    """A Prefect server that does not answer."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody is there")


@asynccontextmanager
async def dispatching(settings: Settings, prefect: Prefect) -> AsyncIterator[tuple[Ledger, Dispatcher]]:
    ledger = await Ledger.open(settings)
    async with PrefectApi(settings) as api:
        api._client = httpx.AsyncClient(base_url=api.url, transport=httpx.MockTransport(prefect))
        roots = WorkspaceRoots(settings)
        follower = Follower(settings, roots, ledger, api, FlowRuns(settings), lost=lambda: None, ended=unheard)
        dispatcher = Dispatcher(settings, ledger, api, DeploymentIds(api), follower)
        loop = asyncio.create_task(dispatcher.run())
        try:
            yield ledger, dispatcher
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            await ledger.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LOOK"):
        monkeypatch.setattr(dispatch, name, 0.01)


def go(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await work()

    asyncio.run(bounded())


async def until(met: Callable[[], Awaitable[bool]]) -> None:
    while not await met():
        await asyncio.sleep(0.01)


async def unheard(ended: Sequence[str]) -> None:
    """Nobody is told of tasks that have ended."""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["failed", "500", "401", "403"])
def test_a_prefect_that_answers_and_can_not_write_fails_no_task(settings: Settings, way: str) -> None:
    async def work() -> None:
        prefect = Prefect()
        prefect.refuses, prefect.with_500 = (lambda name: True), way == "500"
        prefect.status = int(way) if way in ("401", "403") else 201
        async with dispatching(settings, prefect) as (ledger, dispatcher):
            rows = [(await ledger.add(task(name)))[0] for name in "abc"]

            async def often() -> bool:
                return prefect.asked > 40

            async def all_told() -> bool:
                return all([(await ledger.row(row.id)).flow_run_id for row in rows])

            dispatcher.wake()
            await until(often)
            assert (await ledger.counts())["queued"] == 3
            prefect.refuses, prefect.status = (lambda name: False), 201
            await until(all_told)

    go(work)


@pytest.mark.slow
@pytest.mark.parametrize("with_500", [True, False])
def test_a_task_on_which_alone_prefect_fails_is_given_up_and_says_nothing_of_its_database(
    settings: Settings, with_500: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "_REST", 0.05)
    monkeypatch.setattr(dispatch, "_HOPELESS", 0.3)

    async def work() -> None:
        prefect = Prefect()
        prefect.refuses, prefect.with_500 = (lambda name: name == "bad"), with_500
        async with dispatching(settings, prefect) as (ledger, dispatcher):
            bad = (await ledger.add(task("bad")))[0]

            async def often() -> bool:
                return prefect.asked > 40

            await until(often)
            assert (await ledger.row(bad.id)).state == "queued", "nothing says that it is this task's fault"
            others = 0
            while (await ledger.row(bad.id)).state == "queued":
                row = (await ledger.add(task(f"good-{others}")))[0]
                dispatcher.wake()
                others += 1

                async def told(task_id: str = row.id) -> bool:
                    return (await ledger.row(task_id)).flow_run_id is not None

                await until(told)
            view = await ledger.view(bad.id)
            assert view.state == "failed" and view.error is not None and view.error.code == "INTERNAL_ERROR"
            assert "sqlite" not in view.error.model_dump_json()
            assert (await ledger.counts())["failed"] == 1 and others > 2

    with caplog.at_level(logging.WARNING, "autoscorer"):
        go(work)
    lines: list[Json] = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    told = [line for line in lines if "fails on task" in line["message"]]
    assert told and all(line["task_id"] in line["message"] for line in told)
    assert with_500 or RAW in told[0]["message"]


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_a_task_that_is_cancelled_as_it_begins_to_be_followed_is_cancelled(
    settings: Settings, cancelled_first: bool
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger, PrefectApi(settings) as api:
            api._client = httpx.AsyncClient(base_url=api.url, transport=httpx.MockTransport(Away()))
            follower = Follower(
                settings, WorkspaceRoots(settings), ledger, api, FlowRuns(settings), lost=lambda: None, ended=unheard
            )
            follower._is_running = True
            row, _ = await ledger.add(task("a"))
            await ledger.claim_undispatched(1)
            files = FlowRunFiles(settings.home, str(uuid4()))
            await ledger.dispatched([(row, files.flow_run_id)])
            cancelled, ended = await ledger.request_cancel(row.id)
            assert not ended
            if not cancelled_first:
                await follower.follow([row.id])
                assert files.is_cancel_requested()
            with pytest.raises(PrefectAway):
                await follower.cancel(cancelled)
            assert files.is_cancel_requested()
            await follower.follow([row.id])
            assert files.is_cancel_requested() and [each.cancel for each in follower._tasks.values()] == [True]

    go(work)
