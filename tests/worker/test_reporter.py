"""What the worker holds for Prefect while it does not answer, and what it sends then."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.service.prefect.client import PrefectApi, PrefectAway
from autoscorer.worker import reporter as module
from autoscorer.worker.reporter import Reporter
from autoscorer.worker.task_runs import TaskRun


class Server(ThreadingHTTPServer):
    """Answers as Prefect's server does to what is sent to it, or as one that is being restarted."""

    def __init__(self) -> None:
        self.is_away = False
        self.refuses = False
        self.received: list[tuple[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = 502 if outer.is_away else 422 if outer.refuses else 204
                if status == 204:
                    outer.received.append((self.path, body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def names(self, path: str) -> list[str]:
        return [event["event"].rpartition(".")[2] for at, body in self.received if at == path for event in body]


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("AUTOSCORER_PREFECT__API_URL", f"http://127.0.0.1:{server.server_port}/api")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def task_run() -> TaskRun:
    return TaskRun({"id": str(uuid.uuid4()), "parameters": {"workspace": "/data/team-a"}, "run_count": 0}, "score")


@pytest.mark.slow
def test_nothing_is_lost_while_the_server_is_away_and_of_a_quick_run_the_end_alone_is_sent(prefect: Server) -> None:
    async def story() -> None:
        async with PrefectApi(load_settings()) as api:
            reporter = Reporter(api)
            quick, slow = task_run(), task_run()
            reporter.log(quick.flow_run_id, 20, "stage score")
            for one in (quick, slow):
                reporter.set_task_run(one.flow_run_id, one.event("RUNNING"))
            reporter.set_task_run(quick.flow_run_id, quick.event("COMPLETED", "score 1.0000"))
            prefect.is_away = True
            with pytest.raises(PrefectAway):
                await reporter.send()
            assert prefect.received == []
            prefect.is_away = False
            await reporter.send()
            assert [path for path, _ in prefect.received] == ["/api/logs/", "/api/events"]
            assert sorted(prefect.names("/api/events")) == ["Completed", "Running"]
            await reporter.send()
            assert len(prefect.received) == 2
            reporter.set_task_run(slow.flow_run_id, slow.event("FAILED", "MISSING_FILE: …"))
            await reporter.flush(30)
            assert prefect.names("/api/events")[-1] == "Failed"

    asyncio.run(story())


def test_what_the_server_refuses_is_not_sent_for_ever(prefect: Server) -> None:
    async def story() -> None:
        async with PrefectApi(load_settings()) as api:
            reporter, one = Reporter(api), task_run()
            reporter.log(one.flow_run_id, 20, "stage score")
            reporter.set_task_run(one.flow_run_id, one.event("COMPLETED"))
            reporter.add_artifacts(one.flow_run_id, [{"key": "a", "type": "markdown", "data": "x"}])
            prefect.refuses = True
            await reporter.send()
            prefect.refuses = False
            await reporter.send()
            assert prefect.received == []

    asyncio.run(story())


def test_what_is_held_is_bounded_and_the_newest_stay(prefect: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TASK_RUNS", 3)

    async def story() -> None:
        async with PrefectApi(load_settings()) as api:
            reporter = Reporter(api)
            runs = [task_run() for _ in range(5)]
            for one in runs:
                reporter.set_task_run(one.flow_run_id, one.event("COMPLETED"))
            await reporter.send()
            ((_, events),) = prefect.received
            sent = {event["related"][0]["prefect.resource.id"].removeprefix("prefect.flow-run.") for event in events}
            assert sent == {one.flow_run_id for one in runs[2:]}

    asyncio.run(story())


def test_while_there_is_work_one_artifact_is_sent_at_a_time(prefect: Server) -> None:
    async def story() -> None:
        async with PrefectApi(load_settings()) as api:
            reporter, one = Reporter(api), task_run()
            reporter.is_busy = lambda: True
            reporter.add_artifacts(
                one.flow_run_id, [{"key": f"a{n}", "type": "markdown", "data": "x"} for n in range(4)]
            )
            await reporter.send()
            assert len(prefect.received) == 1
            reporter.is_busy = lambda: False
            await reporter.send()
            assert [body["key"] for _, body in prefect.received] == ["a0", "a1", "a2", "a3"]

    asyncio.run(story())
