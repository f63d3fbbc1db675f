"""Tasks from the submit to the end, on a real Prefect server; the tests take the part of the worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.logs import JsonFormatter
from autoscorer.core.processes import ProcessIdentity
from autoscorer.schemas.task import BatchRequest, SubmitRequest, TaskState, TaskView
from autoscorer.service.policy import Caller
from autoscorer.service.prefect.model import DEPLOYMENTS
from autoscorer.service.tasks import TaskQuery, TaskService
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.ports import free_port
from ..support.prefect_server import PrefectServer, server

C, D, ADMIN = Caller("c", "submit"), Caller("d", "submit"), Caller("c", "admin")

__all__ = ["server"]
pytestmark = pytest.mark.prefect

Json = dict[str, Any]
SCHEMA = {
    "type": "object",
    "properties": {"workspace": {"type": "string", "pattern": "(?<!refuse)$"}, "params": {"type": "object"}},
}


# --- an installation without workers -----------------------------------------------------------------------------


def make_deployment(server: PrefectServer, flow: str, name: str) -> str:
    flow_id = server.call("POST", "/flows/", {"name": flow})["id"]
    body = {
        "name": name,
        "flow_id": flow_id,
        "entrypoint": "none",
        "work_pool_name": "nobody",
        "work_queue_name": "default",
        "parameter_openapi_schema": SCHEMA,
        "enforce_parameter_schema": True,
    }
    created: str = server.call("POST", "/deployments/", body)["id"]
    return created


@pytest.fixture(scope="module")
def deployments(server: PrefectServer) -> dict[str, str]:
    """Deployments in a pool that no worker looks at; their ids by flow."""
    server.call("POST", "/work_pools/", {"name": "nobody", "type": "process", "base_job_template": {}})
    ours = [each for each in DEPLOYMENTS if each.name != "nightly-batch"]
    return {each.flow: make_deployment(server, each.flow, each.name) for each in ours}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "meta.json").write_text("{}")
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(folder))
    return folder


@pytest.fixture
def live(server: PrefectServer, deployments: dict[str, str], root: Path, home: Path) -> Iterator[Settings]:
    """A configuration for that server; what a test leaves there does not reach the next."""
    yield load_settings()
    names = [each.name for each in DEPLOYMENTS]
    known = server.call("POST", "/deployments/filter", {"deployments": {"name": {"any_": names}}})
    ours = {"deployment_id": {"any_": [deployment["id"] for deployment in known]}}
    while server.call("POST", "/flow_runs/bulk_delete", {"flow_runs": ours, "limit": 50})["deleted"]:
        pass


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[TaskService]:
    async with TaskService.running(settings, WorkspaceRoots(settings)) as service:
        yield service


def go(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await work()

    asyncio.run(bounded())


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(300):
        while not (found := await look()):
            await asyncio.sleep(0.1)
    return found


async def dispatched(service: TaskService, task_id: str) -> str:
    """The task's flow run, once Prefect has it."""

    async def look() -> str | None:
        return (await service.ledger.row(task_id)).flow_run_id

    return str(await until(look))


async def in_state(service: TaskService, task_id: str, *states: str) -> TaskView:
    async def look() -> TaskView | None:
        view = await service.get(task_id)
        return view if view.state in states else None

    found: TaskView = await until(look)
    return found


async def work_on(service: TaskService, flow_run_id: str) -> None:
    """Begin the work, as a worker does."""
    assert (await service.prefect.set_state(flow_run_id, "PENDING"))[0]
    assert (await service.prefect.set_state(flow_run_id, "RUNNING"))[0]


async def finish(service: TaskService, flow_run_id: str, ending: Json) -> None:
    FlowRunFiles(service.settings.home, flow_run_id).save_outcome(ending)
    await service.prefect.set_state(flow_run_id, ending["state"], message=ending["message"], force=True)


def score(workspace: str, **more: Any) -> SubmitRequest:
    return SubmitRequest(action="score", workspace=workspace, **more)


DONE = {"state": "COMPLETED", "message": "score 0.5", "data": {"summary": {"score": 0.5}}, "error": None}


class Line:
    """The way to the server, which can be cut and mended."""

    def __init__(self, server: PrefectServer) -> None:
        host, port = server.api_url.removeprefix("http://").split("/")[0].split(":")
        self._target = (host, int(port))
        self.port = free_port()
        self._ends: list[asyncio.StreamWriter] = []
        self._listener: asyncio.Server | None = None

    def through(self, settings: Settings) -> Settings:
        url = f"http://127.0.0.1:{self.port}/api"
        return settings.model_copy(update={"prefect": settings.prefect.model_copy(update={"api_url": url})})

    async def mend(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for end in self._ends:
            end.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._ends += [writer, far_writer]

        async def relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            sink.close()

        await asyncio.gather(relay(reader, far_writer), relay(far_reader, writer))


# --- the life of a task ------------------------------------------------------------------------------------------


def test_a_task_from_the_submit_to_the_end(live: Settings, root: Path) -> None:
    async def work() -> None:
        async with running(live) as service:
            ended: list[TaskView] = []
            service.on_finished = ended.append
            submitted = await service.submit(score("a", priority="high", params={"k": [1, None]}), caller=ADMIN)
            task = submitted.task
            assert submitted.created and (task.state, task.workspace) == (TaskState.QUEUED, "a")
            flow_run_id = await dispatched(service, task.id)
            run = await service.prefect.flow_run(flow_run_id)
            assert run is not None
            assert (run["idempotency_key"], run["work_queue_name"], run["name"]) == (task.id, "high", "a")
            assert run["parameters"] == {"workspace": str(root / "a"), "params": {"k": [1, None]}}
            assert {"autoscorer", "score"} <= set(run["tags"]) and run["labels"]["autoscorer.task"] == task.id
            assert (await service.get(task.id)).stage == "scheduled"

            FlowRunFiles(live.home, flow_run_id).set_stage("score")
            await work_on(service, flow_run_id)
            view = await in_state(service, task.id, "running")
            assert (view.stage, view.attempts) == ("score", 1)
            assert view.started_at is not None and view.ended_at is None

            await finish(service, flow_run_id, {**DONE, "data": {"where": f"{root}/a/x", "summary": {"score": 0.5}}})
            view = await service.wait(task.id, 30)
            assert (view.state, view.stage, view.error) == (TaskState.COMPLETED, None, None)
            assert view.result == {"where": "a/x", "summary": {"score": 0.5}}
            assert view.queue_seconds is not None and view.run_seconds is not None
            assert [each.id for each in ended] == [task.id]
            assert (await service.ledger.counts())["completed"] == 1
            files = FlowRunFiles(live.home, flow_run_id).folder
            await until(lambda: asyncio.to_thread(lambda: not files.exists()))

    go(work)


def test_a_batch_shows_how_far_it_is(live: Settings, root: Path) -> None:
    async def work() -> None:
        async with running(live) as service:
            request = BatchRequest(workspaces=["a", f"{root}/b", "*"], action="score", concurrency=3)
            task = (await service.submit(request, caller=C)).task
            assert (task.action, task.workspaces) == ("batch", ["a", "b", "*"])
            again = await service.submit(request.model_copy(), caller=C)
            assert not again.created and again.task.id == task.id
            assert (await service.submit(BatchRequest(workspaces=["a"]), caller=C)).created
            flow_run_id = await dispatched(service, task.id)
            run = await service.prefect.flow_run(flow_run_id)
            assert run is not None
            assert run["parameters"] == {
                "workspaces": [str(root / "a"), str(root / "b"), f"{root}/*"],
                "action": "score",
                "concurrency": 3,
            }
            await work_on(service, flow_run_id)
            files = FlowRunFiles(live.home, flow_run_id)
            files.set_total(3)
            files.add_member_outcome({"workspace": "a"})
            progress = (await in_state(service, task.id, "running")).progress
            assert progress is not None and (progress.done, progress.total) == (1, 3)

    go(work)


def test_what_a_run_left_is_found_without_an_ending(live: Settings, root: Path) -> None:
    """A plain Prefect worker on this host, or a home that was lost: the workspace tells, if it tells of this run."""

    async def work() -> None:
        async with running(live) as service:
            runs = {}
            for name in ("a", "b", "c"):
                task = (await service.submit(score(name), caller=C)).task
                runs[name] = (task.id, await dispatched(service, task.id))
            for name, whose in (("a", runs["a"][1]), ("b", runs["a"][1])):
                result = {"summary": {"score": 1.0}, "versioning": {"flow_run_id": whose, "scorer": "s"}, "error": None}
                (root / name / "output").mkdir()
                (root / name / "output" / "result.json").write_text(json.dumps(result))
            for name, state, message in (
                ("a", "COMPLETED", None),
                ("b", "COMPLETED", "score 0.1"),
                ("c", "FAILED", f"MISMATCH: {root}/c/output/pred.csv lacks an id."),
            ):
                await work_on(service, runs[name][1])
                await service.prefect.set_state(runs[name][1], state, message=message)
            views = {name: await service.wait(task_id, 30) for name, (task_id, _) in runs.items()}
            assert views["a"].result is not None and views["a"].result["summary"] == {"score": 1.0}
            assert views["a"].scorer == "s"
            assert views["b"].state == "completed" and views["b"].result is None
            error = views["c"].error
            assert error is not None
            assert (error.code, error.message, error.stage) == (
                "MISMATCH",
                "c/output/pred.csv lacks an id.",
                "scoring",
            )

    go(work)


def test_waiting_ends_with_the_task_or_with_the_time(live: Settings) -> None:
    async def work() -> None:
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            assert (await service.wait(task.id, 0)).state == "queued"
            assert (await service.wait(task.id, 0.2)).state == "queued"
            waiting = [asyncio.create_task(service.wait(task.id, 50)) for _ in range(3)]
            flow_run_id = await dispatched(service, task.id)
            await work_on(service, flow_run_id)
            await finish(service, flow_run_id, DONE)
            assert {view.state for view in await asyncio.gather(*waiting)} == {"completed"}
            with pytest.raises(AutoScorerError) as caught:
                await service.wait("nothing", 1)
            assert caught.value.code is ErrorCode.NOT_FOUND

    go(work)


# --- not twice ---------------------------------------------------------------------------------------------------


def test_the_second_submit_gets_the_first_task(live: Settings, root: Path) -> None:
    async def work() -> None:
        async with running(live) as service:
            (root / "link").symlink_to("a")
            first = await service.submit(score("a"), caller=C)
            for same in ("a", f"{root}/a", "b/../a", "link"):
                again = await service.submit(score(same, params={"other": 1}), caller=Caller("d", "admin"))
                assert not again.created and again.task.id == first.task.id
            assert (await service.submit(SubmitRequest(workspace="a", action="run"), caller=C)).created

    go(work)


def test_an_idempotency_key_stands_for_one_task(live: Settings, root: Path) -> None:
    async def work() -> None:
        async with running(live) as service:
            first = await service.submit(score("a"), caller=C, idempotency_key="k")
            await service.cancel(first.task.id)
            await service.wait(first.task.id, 30)
            again = await service.submit(score("a"), caller=C, idempotency_key="k")
            assert not again.created and again.task.id == first.task.id and again.task.state == "cancelled"
            # Also when the workspace has gone since.
            (root / "a").rename(root / "gone")
            again = await service.submit(score("a"), caller=C, idempotency_key="k")
            assert not again.created and again.task.id == first.task.id
            (root / "gone").rename(root / "a")
            for request in (score("b"), score("a", params={})):
                with pytest.raises(AutoScorerError) as caught:
                    await service.submit(request, caller=C, idempotency_key="k")
                assert caught.value.code is ErrorCode.CONFLICT
            assert (await service.submit(score("a"), caller=D, idempotency_key="k")).created
            for key in ("", "x" * 256, "a\nb"):
                with pytest.raises(AutoScorerError) as caught:
                    await service.submit(score("c"), caller=C, idempotency_key=key)
                assert caught.value.code is ErrorCode.INVALID_REQUEST

    go(work)


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"x": float("nan")}, "nan"),
        ({"x": [float("-inf")]}, "inf"),
        ({"x": "a\0b"}, "NUL"),
        ({"\ud800": 1}, "NUL"),
        ({"x": 2**64}, "64 bits"),
        ({"x": {"__prefect_kind": "workspace_variable", "variable_name": "secret"}}, "__prefect_kind"),
        ({"x": json.loads("[" * 40 + "]" * 40)}, "nested"),
        ({"x": "y" * 500_000}, "bytes"),
    ],
)
def test_params_that_would_break_on_the_way_are_refused_at_once(live: Settings, params: Json, word: str) -> None:
    async def work() -> None:
        async with running(live) as service:
            with pytest.raises(AutoScorerError) as caught:
                await service.submit(
                    SubmitRequest.model_construct(**{**score("a").__dict__, "params": params}), caller=ADMIN
                )
            assert caught.value.code in (ErrorCode.INVALID_REQUEST, ErrorCode.PAYLOAD_TOO_LARGE)
            assert word in caught.value.message
            assert sum((await service.ledger.counts()).values()) == 0

    go(work)


# --- cancelling and repeating ------------------------------------------------------------------------------------


def test_a_scheduled_task_is_cancelled_at_once(live: Settings) -> None:
    async def work() -> None:
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            flow_run_id = await dispatched(service, task.id)
            assert (await service.cancel(task.id)).state == "cancelled"
            assert (await service.cancel(task.id)).state == "cancelled"
            run = await service.prefect.flow_run(flow_run_id)
            assert run is not None and run["state"]["type"] == "CANCELLED"
            error = (await service.get(task.id)).error
            assert error is not None and error.code == "CANCELLED"
            assert (await service.submit(score("a"), caller=C)).created

    go(work)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_task_under_way_is_cancelled_by_its_worker(live: Settings, state: str) -> None:
    async def work() -> None:
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            flow_run_id = await dispatched(service, task.id)
            await service.prefect.set_state(flow_run_id, "PENDING")
            if state == "RUNNING":
                await service.prefect.set_state(flow_run_id, "RUNNING")
            assert (await service.cancel(task.id)).state == "cancelling"
            run = await service.prefect.flow_run(flow_run_id)
            assert run is not None and run["state"]["type"] == "CANCELLING"
            assert not (await service.submit(score("a"), caller=C)).created  # it has the workspace still
            error = {"code": "CANCELLED", "message": "It was cancelled.", "stage": "execution", "details": {}}
            await finish(service, flow_run_id, {"state": "CANCELLED", "message": "", "data": None, "error": error})
            view = await service.wait(task.id, 30)
            assert view.state == "cancelled" and view.error is not None and view.error.message == "It was cancelled."

    go(work)


def test_what_has_ended_can_be_repeated_and_not_cancelled(live: Settings) -> None:
    async def work() -> None:
        async with running(live) as service:
            hook = "https://example.org/hook"
            request = score("a", params={"k": 1}, scorer="s", priority="low", callback_url=hook)
            task = (await service.submit(request, caller=ADMIN)).task
            with pytest.raises(AutoScorerError) as caught:
                await service.retry(task.id, caller=ADMIN)
            assert caught.value.code is ErrorCode.CONFLICT
            flow_run_id = await dispatched(service, task.id)
            await work_on(service, flow_run_id)
            await finish(service, flow_run_id, DONE)
            await service.wait(task.id, 30)
            with pytest.raises(AutoScorerError) as caught:
                await service.cancel(task.id)
            assert caught.value.code is ErrorCode.CONFLICT
            again = await service.retry(task.id, caller=ADMIN)
            assert again.created and again.task.id != task.id
            fields = {"retry_of": task.id, "params": {"k": 1}, "scorer": "s", "priority": "low", "workspace": "a"}
            assert {key: getattr(again.task, key) for key in fields} == fields
            # A receiver hears of what its own caller asked for, and of nobody else's tasks.
            assert again.task.callback is not None
            await service.cancel(again.task.id)
            await service.wait(again.task.id, 30)
            others = await service.retry(task.id, caller=Caller("another", "admin"))
            assert others.created and others.task.callback is None
            for wrong in (service.cancel("x"), service.get("x"), service.wait("x", 0)):
                with pytest.raises(AutoScorerError) as caught:
                    await wrong
                assert caught.value.code is ErrorCode.NOT_FOUND

    go(work)


def test_a_task_that_waits_for_its_turn_says_for_whom_and_the_log_names_every_task(
    live: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def work() -> None:
        async with running(live) as service:
            first = (await service.submit(score("a"), caller=C)).task
            assert first.reason is None
            await dispatched(service, first.id)
            second = (await service.submit(SubmitRequest(action="run", workspace="a"), caller=C)).task
            for view in (second, await service.get(second.id)):
                assert view.reason is not None and view.reason.startswith(f"Waiting for task {first.id}")
            await service.cancel(first.id)
            await service.wait(first.id, 30)
            await dispatched(service, second.id)
            assert (await service.get(second.id)).reason is None
            ended.append(first.id)

    with caplog.at_level(logging.INFO, "autoscorer"):
        go(work)
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    (line,) = [line for line in lines if line["message"].endswith("ended: cancelled")]
    assert (line["task_id"], line["state"]) == (ended[0], "cancelled")


# --- Prefect is away ---------------------------------------------------------------------------------------------


def test_tasks_are_accepted_while_prefect_is_away_and_handed_over_when_it_is_back(
    live: Settings, server: PrefectServer
) -> None:
    async def work() -> None:
        line = Line(server)
        async with running(line.through(live)) as service:
            kept, dropped = [(await service.submit(score(name), caller=C)).task for name in ("a", "b")]
            assert (await service.get(kept.id)).stage == "accepted"
            await asyncio.sleep(0.5)
            # Prefect can't know of it: it ends here and now.
            assert (await service.cancel(dropped.id)).state == "cancelled"
            await line.mend()
            flow_run_id = await dispatched(service, kept.id)
            assert (await service.ledger.row(dropped.id)).flow_run_id is None
            found = await service.prefect.find_flow_runs({"idempotency_key": {"any_": [kept.id, dropped.id]}})
            assert [run["id"] for run in found] == [flow_run_id]

            await work_on(service, flow_run_id)
            await line.cut()
            # Remembered, and done later.
            assert (await service.cancel(kept.id)).state == "cancelling"
            await line.mend()

            async def cancelling() -> bool:
                run = await service.prefect.flow_run(flow_run_id)
                return run is not None and run["state"]["type"] == "CANCELLING"

            await until(cancelling)
            await line.cut()

    go(work)


def test_a_wish_to_cancel_outlives_the_service(live: Settings, server: PrefectServer) -> None:
    async def work() -> None:
        line = Line(server)
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            flow_run_id = await dispatched(service, task.id)
            await work_on(service, flow_run_id)
        async with running(line.through(live)) as service:
            assert (await service.cancel(task.id)).state == "cancelling"
        async with running(live) as service:

            async def cancelling() -> bool:
                run = await service.prefect.flow_run(flow_run_id)
                return run is not None and run["state"]["type"] == "CANCELLING"

            await until(cancelling)
            assert (await service.get(task.id)).state == "cancelling"

    go(work)


def test_what_prefect_refuses_ends_with_the_reason(live: Settings, root: Path) -> None:
    async def work() -> None:
        (root / "refuse").mkdir()
        (root / "refuse" / "meta.json").write_text("{}")
        async with running(live) as service:
            refused, taken = [(await service.submit(score(name), caller=C)).task for name in ("refuse", "a")]
            view = await service.wait(refused.id, 30)
            assert view.state == "failed" and view.error is not None
            assert view.error.code == "INVALID_REQUEST" and "Parameter validation failed" in view.error.message
            assert str(root) not in view.error.message
            await dispatched(service, taken.id)

    go(work)


def test_a_deployment_may_come_late_and_be_made_anew(live: Settings, server: PrefectServer) -> None:
    async def work() -> None:
        async with running(live) as service:
            validate = lambda name: service.submit(SubmitRequest(workspace=name, action="validate"), caller=C)  # noqa: E731
            await dispatched(service, (await validate("a")).task.id)
            deployment = await service.prefect.deployment("validate-only", "validate")
            assert deployment is not None
            await service.prefect.call("DELETE", f"/deployments/{deployment['id']}")
            task = (await validate("b")).task

            async def told() -> bool:
                return "autoscorer deploy" in ((await service.get(task.id)).reason or "")

            await until(told)
            # It holds up no other.
            await dispatched(service, (await service.submit(score("b"), caller=C)).task.id)
            await asyncio.to_thread(make_deployment, server, "validate-only", "validate")
            await dispatched(service, task.id)

    go(work)


# --- flow runs that disappear, and those that appear -------------------------------------------------------------


@pytest.mark.slow
def test_a_flow_run_that_was_deleted_is_made_anew_while_attempts_are_left(live: Settings) -> None:
    async def work() -> None:
        few = live.model_copy(update={"service": live.service.model_copy(update={"max_attempts": 2})})
        async with running(few) as service:
            task = (await service.submit(score("a"), caller=C)).task
            seen = set()
            for _ in range(2):

                async def anew() -> str | None:
                    found = (await service.ledger.row(task.id)).flow_run_id
                    return found if found not in seen else None

                flow_run_id = await until(anew)
                seen.add(flow_run_id)
                await service.prefect.call("DELETE", f"/flow_runs/{flow_run_id}")
            view = await service.wait(task.id, 30)
            assert view.state == "failed" and view.error is not None
            assert "lost its flow run 2 times" in view.error.message

    go(work)


def test_a_flow_run_that_was_deleted_under_the_workers_hands(live: Settings) -> None:
    async def work() -> None:
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            flow_run_id = await dispatched(service, task.id)
            await work_on(service, flow_run_id)
            files = FlowRunFiles(live.home, flow_run_id)
            files.claim(Claim(ProcessIdentity.current()))
            await in_state(service, task.id, "running")
            await service.prefect.call("DELETE", f"/flow_runs/{flow_run_id}")
            for _ in range(3):
                await asyncio.sleep(0.3)
                assert (await service.get(task.id)).flow_run_id == flow_run_id  # never two at once
            files.save_outcome(DONE)
            view = await service.wait(task.id, 30)
            assert (view.state, view.result) == ("completed", DONE["data"])

    go(work)


def test_a_flow_run_that_is_just_being_deleted_stops_nobody_from_following_the_others(
    live: Settings, server: PrefectServer
) -> None:
    async def work() -> None:
        async with running(live) as service:
            one, other = [(await service.submit(score(name), caller=C)).task for name in ("a", "b")]
            runs = [await dispatched(service, task.id) for task in (one, other)]
            for task, flow_run_id in zip((one, other), runs, strict=True):
                await work_on(service, flow_run_id)
                await in_state(service, task.id, "running")
            files = FlowRunFiles(live.home, runs[0])
            files.claim(Claim(ProcessIdentity.current()))
            # Prefect deletes the state before the run, and answers in between with a run that has none.
            database = Path(server.environment["PREFECT_HOME"]).parent / "server" / "prefect.db"
            with contextlib.closing(sqlite3.connect(database, timeout=30)) as rows:
                rows.execute("UPDATE flow_run SET state_id = NULL WHERE id = ?", [str(UUID(runs[0]))])
                rows.commit()
            assert (await service.prefect.call("GET", f"/flow_runs/{runs[0]}"))["state"] is None
            await service.prefect.set_state(runs[1], "COMPLETED", force=True)
            assert (await service.wait(other.id, 30)).state == "completed"
            files.save_outcome(DONE)
            assert (await service.wait(one.id, 30)).state == "completed"

    go(work)


@pytest.mark.slow
def test_a_flow_run_that_crashed_is_tried_again(live: Settings) -> None:
    async def work() -> None:
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            flow_run_id = await dispatched(service, task.id)
            await work_on(service, flow_run_id)
            await in_state(service, task.id, "running")
            await service.prefect.set_state(flow_run_id, "CRASHED", message="The process was killed.", force=True)
            view = await in_state(service, task.id, "queued")
            assert (view.attempts, view.flow_run_id) == (1, flow_run_id)
            assert "Attempt 2" in (view.reason or "")
            await until(lambda: service.prefect.scheduled("nobody", 10))
            await work_on(service, flow_run_id)
            await finish(service, flow_run_id, DONE)
            view = await service.wait(task.id, 30)
            assert (view.state, view.attempts) == ("completed", 2)

    go(work)


def test_flow_runs_that_came_without_us_are_tasks_too(
    live: Settings, root: Path, deployments: dict[str, str], server: PrefectServer
) -> None:
    async def create(service: TaskService, flow: str, body: Json) -> str:
        run = await service.prefect.call("POST", f"/deployments/{deployments[flow]}/create_flow_run", body)
        return str(run["id"])

    async def work() -> None:
        async with running(live) as service:
            ours = (await service.submit(score("a"), caller=C)).task
            theirs = await create(service, "score-only", {"parameters": {"workspace": str(root / "a")}})
            outside = await create(service, "pipeline", {"parameters": {"workspace": "/elsewhere/x"}})
            later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2999-01-01T00:00:00Z"}}
            body = {"parameters": {"workspace": str(root / "b")}, "state": later}
            not_due = await create(service, "score-only", body)

            async def adopted() -> dict[str, TaskView]:
                page = await service.list(TaskQuery())
                found = {view.flow_run_id or "": view for view in page.tasks if view.origin == "prefect"}
                return found if {theirs, outside} <= set(found) else {}

            found = await until(adopted)
            assert not_due not in found  # what is due in a thousand years is no task yet
            assert (found[theirs].workspace, found[theirs].action) == ("a", "score")
            assert found[outside].workspace == "x"
            assert (await service.get(ours.id)).state == "queued"

            await work_on(service, theirs)
            await finish(service, theirs, DONE)
            view = await service.wait(found[theirs].id, 30)
            assert (view.state, view.result) == ("completed", DONE["data"])
            assert (await service.cancel(found[outside].id)).state == "cancelled"
            assert (await service.retry(view.id, caller=ADMIN)).task.id == ours.id
            with pytest.raises(AutoScorerError) as caught:
                await service.retry(found[outside].id, caller=C)
            assert caught.value.code in (ErrorCode.FORBIDDEN, ErrorCode.WORKSPACE_NOT_FOUND)

    go(work)


def test_a_lost_ledger_takes_its_tasks_in_again(live: Settings) -> None:
    async def work() -> None:
        async with running(live) as service:
            task = (await service.submit(score("a"), caller=C)).task
            flow_run_id = await dispatched(service, task.id)
        for path in live.home.glob("ledger.sqlite3*"):
            path.unlink()
        async with running(live) as service:

            async def known() -> bool:
                return bool((await service.list(TaskQuery())).total)

            await until(known)
            assert (await service.get(task.id)).flow_run_id == flow_run_id

    go(work)


# --- lists -------------------------------------------------------------------------------------------------------


def test_lists_are_filtered_and_paged(live: Settings, root: Path, server: PrefectServer) -> None:
    async def work() -> None:
        async with running(Line(server).through(live)) as service:
            (root / "c" / "meta.json").write_text('{"scorer": "from_meta"}')
            before = datetime.now(UTC) - timedelta(seconds=1)
            ids = []
            for name in ("a", "b", "c"):
                asked = score(name, scorer="s" if name == "a" else None)
                ids.append((await service.submit(asked, caller=ADMIN)).task.id)
                request = SubmitRequest(workspace=name, action="run")
                ids.append((await service.submit(request, caller=C)).task.id)
            await service.cancel(ids[0])

            async def listed(**query: Any) -> list[str]:
                page = await service.list(TaskQuery(**query))
                assert page.total == len(page.tasks)
                return [view.id for view in page.tasks]

            assert await listed() == ids[::-1]
            assert await listed(states=(TaskState.CANCELLED,)) == [ids[0]]
            assert await listed(states=(TaskState.QUEUED, TaskState.RUNNING)) == ids[:0:-1]
            assert await listed(workspace="b") == await listed(workspace=f"{root}/b") == [ids[3], ids[2]]
            assert await listed(workspace="gone") == []
            assert await listed(scorers=("s",)) == [ids[0]]
            assert await listed(scorers=("from_meta",)) == [ids[4]]
            assert await listed(actions=("run",), workspace="c") == [ids[5]]
            assert await listed(since=before) == ids[::-1]
            assert await listed(until=before) == await listed(since=datetime.now(UTC) + timedelta(seconds=60)) == []
            cancelled = (await service.list(TaskQuery(states=(TaskState.CANCELLED,)))).tasks[0]
            assert cancelled.error is not None and cancelled.result is None

            found, cursor = [], None
            for _ in range(3):
                page = await service.list(TaskQuery(limit=2, cursor=cursor))
                assert page.total == 6
                found += [view.id for view in page.tasks]
                cursor = page.next_cursor
            assert found == ids[::-1] and cursor is None
            with pytest.raises(AutoScorerError) as caught:
                await service.list(TaskQuery(cursor="' OR 1"))
            assert caught.value.code is ErrorCode.INVALID_REQUEST

    go(work)


# --- killed ------------------------------------------------------------------------------------------------------

SUBMITS = """
import asyncio, sys
from autoscorer.core.config import load_settings
from autoscorer.schemas.task import SubmitRequest
from autoscorer.service.policy import Caller
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.service.tasks import TaskService

async def client(service, first):
    for number in range(first, 200, 20):
        request = SubmitRequest(action="score", workspace=f"w{number}")
        submitted = await service.submit(request, caller=Caller("c", "submit"))
        print(submitted.task.id, flush=True)

async def main():
    settings = load_settings()
    async with TaskService.running(settings, WorkspaceRoots(settings)) as service:
        await asyncio.gather(*(client(service, first) for first in range(20)))
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_done_twice_when_the_service_is_killed(live: Settings, root: Path) -> None:
    """Killed while 200 submits come in and some of them are just being told to Prefect."""
    for number in range(200):
        (root / f"w{number}").mkdir()
        (root / f"w{number}" / "meta.json").write_text("{}")
    process = subprocess.Popen([sys.executable, "-c", SUBMITS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(120)]
    os.kill(process.pid, signal.SIGKILL)
    told += [line.strip() for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    process.stdout.close()
    assert all(told) and process.returncode == -signal.SIGKILL

    async def work() -> None:
        async with running(live) as service:

            async def all_dispatched() -> bool:
                return all([(await service.ledger.row(task_id)).flow_run_id for task_id in told])

            await until(all_dispatched)
            queued = (await service.ledger.counts())["queued"]
            assert queued >= len(told)
            runs: list[Json] = []
            while page := await service.prefect.find_flow_runs(
                {"tags": {"all_": ["autoscorer"]}, "state": {"type": {"any_": ["SCHEDULED"]}}}, offset=len(runs)
            ):
                runs += page
            keys = [run["idempotency_key"] for run in runs]
            assert len(keys) == len(set(keys))
            assert set(told) <= set(keys)

    go(work)
