"""The REST facade over a real Prefect server: what is submitted, waited for, listed, cancelled, repeated, followed.

No worker runs here: the tests do what one would, so that they decide when a task ends and how.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.schemas.result import Result, Summary
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.prefect.deploy import deploy

from ..support.calls import call
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.ports import free_port
from ..support.prefect_server import PrefectServer, eventually, server
from ..support.workspaces import write_workspace

__all__ = ["server"]

pytestmark = pytest.mark.prefect

POOLS = {"pool": "api-tests", "score_pool": "api-tests-score", "rag_pool": "api-tests-rag"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One installation for the module: starting it takes longer than any test."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOSCORER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspaces")


@pytest.fixture(scope="module")
def api(home: Path, root: Path, server: PrefectServer) -> Iterator[Facade]:
    settings = facade_settings(root, service=POOLS, prefect={"api_url": server.api_url})
    asyncio.run(deploy(settings))
    with facade(settings) as running:
        running.token = SUBMIT
        yield running


@pytest.fixture
def workspace(root: Path, request: pytest.FixtureRequest) -> str:
    """A workspace of its own for each test."""
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)
    write_workspace(root, name)
    return name


@pytest.fixture
def worker(server: PrefectServer, api: Facade) -> Callable[..., Any]:
    """End a task as a worker would: the ending on disk first, then Prefect's state."""

    def end(task_id: str, state: str = "COMPLETED", **ending: Any) -> None:
        flow_run_id = flow_run_of(api, task_id)
        start(server, flow_run_id)
        message = ending.pop("message", "done")
        saved = {"state": state, "message": message, "data": None, "error": None, **ending}
        FlowRunFiles(api.settings.home, flow_run_id).save_outcome(saved)
        set_state(server, flow_run_id, state, message)

    return end


def set_state(server: PrefectServer, flow_run_id: str, type: str, message: str = "") -> None:
    body = {"state": {"type": type, "message": message}, "force": True}
    server.call("POST", f"/flow_runs/{flow_run_id}/set_state", body)


def start(server: PrefectServer, flow_run_id: str) -> None:
    set_state(server, flow_run_id, "PENDING")
    set_state(server, flow_run_id, "RUNNING")


def flow_run_of(api: Facade, task_id: str) -> str:
    """The flow run of a task, once Prefect knows of it."""
    found = eventually(lambda: api.call("GET", f"/tasks/{task_id}").data["flow_run_id"])
    assert isinstance(found, str)
    return found


def a_result(score: float = 0.5) -> dict[str, Any]:
    return Result(summary=Summary(score=score, **{"pass": True}), metrics={"f1_macro": score}).to_dict()


def submit(api: Facade, workspace: str, action: str = "score", **more: Any) -> dict[str, Any]:
    answer = api.call("POST", "/submit", {"action": action, "workspace": workspace, **more})
    assert answer.status == 202, answer.body
    task = answer.data
    assert answer.headers["location"] == f"/tasks/{task['id']}"
    return dict(task)


# --- submit -----------------------------------------------------------------------------------------------


def test_a_submitted_task_becomes_one_flow_run(api: Facade, workspace: str, root: Path, server: PrefectServer) -> None:
    answer = api.call("POST", "/submit", {"action": "score", "workspace": workspace, "params": {"pass_threshold": 0.5}})
    assert answer.status == 202
    assert answer.headers["x-task-created"] == "true"
    task = answer.data
    assert (task["state"], task["action"], task["workspace"]) == ("queued", "score", workspace)
    run = server.call("GET", f"/flow_runs/{flow_run_of(api, task['id'])}")
    assert run["idempotency_key"] == task["id"]
    assert run["parameters"]["workspace"] == str(root / workspace)
    assert run["parameters"]["params"] == {"pass_threshold": 0.5}
    assert {"autoscorer", "score"} <= set(run["tags"])
    assert run["work_pool_name"] == POOLS["score_pool"]


def test_a_second_submit_answers_with_the_active_task(api: Facade, workspace: str) -> None:
    first = submit(api, workspace)
    answer = api.call("POST", "/submit", {"action": "score", "workspace": workspace})
    assert (answer.status, answer.data["id"]) == (202, first["id"])
    assert answer.headers["x-task-created"] == "false"
    # Another action is another task.
    assert submit(api, workspace, "validate")["id"] != first["id"]


def test_an_idempotency_key_makes_one_task(api: Facade, workspace: str, worker: Callable[..., Any]) -> None:
    headers = {"Idempotency-Key": f"key-of-{workspace}"}
    body = {"action": "score", "workspace": workspace}
    first = api.call("POST", "/submit", body, headers=headers).data
    worker(first["id"], data=a_result())
    eventually(lambda: api.call("GET", f"/tasks/{first['id']}").data["state"] == "completed")
    assert api.call("POST", "/submit", body, headers=headers).data["id"] == first["id"]
    # Without the key it is a new one.
    assert submit(api, workspace)["id"] != first["id"]
    other = api.call("POST", "/submit", {"action": "run", "workspace": workspace}, headers=headers)
    assert (other.status, other.error["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize(
    ("workspace", "status", "code"),
    [("missing", 404, "WORKSPACE_NOT_FOUND"), ("../outside", 403, "FORBIDDEN"), ("/etc", 403, "FORBIDDEN")],
)
def test_what_is_no_workspace_is_refused_at_once(api: Facade, workspace: str, status: int, code: str) -> None:
    for path in ("/submit", "/validate", "/run", "/score", "/pipeline"):
        answer = api.call("POST", path, {"workspace": workspace})
        assert (answer.status, answer.error["code"]) == (status, code)


# --- wait for the outcome ---------------------------------------------------------------------------------


def in_background(call: Callable[[], Any]) -> Callable[[], Any]:
    """Start a call; the function that comes back waits for its outcome."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(call()))
    thread.start()

    def outcome() -> Any:
        thread.join(300)
        return done[0]

    return outcome


def active_task(api: Facade, workspace: str) -> str:
    found = eventually(lambda: api.call("GET", f"/tasks?workspace={workspace}").data["tasks"])
    return str(found[0]["id"])


def test_who_waits_gets_the_result(api: Facade, workspace: str, worker: Callable[..., Any]) -> None:
    outcome = in_background(lambda: api.call("POST", "/score?wait=50", {"workspace": workspace}))
    task_id = active_task(api, workspace)
    worker(task_id, data=a_result(0.75))
    answer = outcome()
    assert (answer.status, answer.data["id"], answer.data["state"]) == (200, task_id, "completed")
    assert answer.data["result"]["summary"]["score"] == 0.75


def test_what_means_nothing_to_an_action_is_left_out(api: Facade, workspace: str) -> None:
    """One body serves /validate, /run, /score and /pipeline."""
    whole = {"workspace": workspace, "scorer": "classification_f1", "params": {}, "backend": "docker"}
    scored = api.call("POST", "/score?wait=0", whole)
    assert (scored.status, scored.data["backend"], scored.data["scorer"]) == (202, None, "classification_f1")
    ran = api.call("POST", "/run?wait=0", whole)
    assert (ran.status, ran.data["backend"], ran.data["scorer"], ran.data["params"]) == (202, "docker", None, None)
    for task in (scored, ran):
        assert api.call("POST", f"/tasks/{task.data['id']}/cancel").status == 200


def test_who_waits_for_a_failure_gets_its_error(api: Facade, workspace: str, worker: Callable[..., Any]) -> None:
    outcome = in_background(lambda: api.call("POST", "/score?wait=50", {"workspace": workspace}))
    task_id = active_task(api, workspace)
    details = {"file": "pred.csv", "line": 2}
    error = {"code": "BAD_FORMAT", "message": "pred.csv, line 2: …", "stage": "scoring", "details": details}
    worker(task_id, "FAILED", error=error)
    answer = outcome()
    assert answer.status == 422
    where = {"workspace": workspace, "logs_path": None}
    assert answer.error == {**error, "details": {**details, "task_id": task_id, **where}}
    # The task itself is told like any other.
    task = api.call("GET", f"/tasks/{task_id}").data
    assert (task["state"], task["error"]["code"]) == ("failed", "BAD_FORMAT")


def test_who_does_not_wait_long_enough_gets_the_task(api: Facade, workspace: str) -> None:
    for wait in (0, 0.3):
        answer = api.call("POST", f"/pipeline?wait={wait}", {"workspace": workspace})
        assert answer.status == 202
        assert answer.data["state"] == "queued"
        assert answer.headers["location"] == f"/tasks/{answer.data['id']}"
    too_long = api.call("POST", "/pipeline?wait=301", {"workspace": workspace})
    assert (too_long.status, too_long.error["code"]) == (422, "INVALID_REQUEST")


# --- list, cancel, repeat ---------------------------------------------------------------------------------


def test_tasks_are_listed_newest_first_and_page_by_page(api: Facade, workspace: str) -> None:
    tasks = [submit(api, workspace, action) for action in ("validate", "run", "score", "pipeline")]
    found: list[str] = []
    cursor = ""
    while True:
        page = api.call("GET", f"/tasks?workspace={workspace}&limit=3{cursor}").data
        assert page["total"] == 4
        found += [task["id"] for task in page["tasks"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [task["id"] for task in reversed(tasks)]
    for query, expected in (("action=run", 1), ("state=queued", 4), ("state=failed&state=completed", 0)):
        assert api.call("GET", f"/tasks?workspace={workspace}&{query}").data["total"] == expected
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    assert api.call("GET", f"/tasks?workspace={workspace}&since=2020-01-01T00:00:00Z").data["total"] == 4
    assert api.call("GET", f"/tasks?workspace={workspace}&until=2020-01-01T00:00:00").data["total"] == 0
    assert api.call("GET", f"/tasks?workspace={workspace}&since={now}&until=2020-01-01T00:00:00Z").data["total"] == 0


def test_a_task_that_waits_is_cancelled_and_can_be_repeated(api: Facade, workspace: str) -> None:
    task = submit(api, workspace)
    active = api.call("POST", f"/tasks/{task['id']}/retry")
    assert (active.status, active.error["code"]) == (409, "CONFLICT")
    for _ in range(2):  # once more is no error
        assert api.call("POST", f"/tasks/{task['id']}/cancel").status == 200
    eventually(lambda: api.call("GET", f"/tasks/{task['id']}").data["state"] == "cancelled")
    again = api.call("POST", f"/tasks/{task['id']}/retry")
    assert again.status == 202
    assert again.data["retry_of"] == task["id"]
    assert (again.data["action"], again.data["workspace"]) == ("score", workspace)


def test_what_has_ended_can_not_be_cancelled(api: Facade, workspace: str, worker: Callable[..., Any]) -> None:
    task = submit(api, workspace)
    worker(task["id"], data=a_result())
    eventually(lambda: api.call("GET", f"/tasks/{task['id']}").data["state"] == "completed")
    answer = api.call("POST", f"/tasks/{task['id']}/cancel")
    assert (answer.status, answer.error["code"]) == (409, "CONFLICT")


# --- logs -------------------------------------------------------------------------------------------------


def write_log(server: PrefectServer, flow_run_id: str, *messages: str) -> None:
    records = [
        {
            "name": "prefect.flow_runs",
            "level": 20,
            "message": message,
            "timestamp": datetime.now(UTC).isoformat(),
            "flow_run_id": flow_run_id,
        }
        for message in messages
    ]
    server.call("POST", "/logs/", records)


def test_a_tasks_log_is_read_page_by_page(api: Facade, workspace: str, root: Path, server: PrefectServer) -> None:
    task = submit(api, workspace)
    assert api.call("GET", f"/tasks/{task['id']}/logs").data["records"] == []
    run = flow_run_of(api, task["id"])
    write_log(server, run, "stage score", "model | one\nmodel | two\nstage save", f"in {root / workspace}")
    path = f"/tasks/{task['id']}/logs"
    eventually(lambda: len(api.call("GET", path, token=ADMIN).data["records"]) == 5)
    page = api.call("GET", path, token=ADMIN).data
    told = [(record["source"], record["message"]) for record in page["records"]]
    assert told[:4] == [("flow", "stage score"), ("model", "one"), ("model", "two"), ("flow", "stage save")]
    assert told[4] == ("flow", f"in {workspace}")  # without the host's path
    assert page["next_offset"] is None
    first = api.call("GET", f"{path}?limit=1").data
    assert len(first["records"]) == 1
    rest = api.call("GET", f"{path}?offset={first['next_offset']}").data
    assert first["records"] + rest["records"] == page["records"][:4]  # what else the flow recorded is for admins


class Follower:
    """Reads a task's log as it grows."""

    def __init__(self, api: Facade, task_id: str) -> None:
        self._connection = http.client.HTTPConnection(api.host, api.port, timeout=60)
        self._connection.request(
            "GET", f"/tasks/{task_id}/logs?follow=true", headers={"Authorization": f"Bearer {SUBMIT}"}
        )
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        assert self._response.getheader("content-type") == "application/x-ndjson"

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Events up to the first that is wanted."""
        events: list[dict[str, Any]] = []
        while not events or not wanted(events[-1]):
            line = self._response.readline()
            assert line, events
            events.append(json.loads(line))
        return events

    def end(self) -> list[dict[str, Any]]:
        """The rest."""
        events = self.until(lambda event: event["type"] == "end")
        assert self._response.read() == b""
        self._connection.close()
        return events


def test_a_log_is_followed_live_and_each_line_comes_once(
    api: Facade, workspace: str, root: Path, server: PrefectServer, worker: Callable[..., Any]
) -> None:
    task = submit(api, workspace, "run")
    run = flow_run_of(api, task["id"])
    follower = Follower(api, task["id"])
    start(server, run)
    write_log(server, run, "stage run")
    assert follower.until(lambda event: event.get("message") == "stage run")
    eventually(lambda: api.call("GET", f"/tasks/{task['id']}").data["started_at"])
    # As the executor writes it: by lines, the last not whole yet.
    log = root / workspace / "logs" / "container.log"
    log.parent.mkdir()
    with log.open("w") as file:
        file.write("epoch 1\nepoch 2\nepo")
        file.flush()
        seen = follower.until(lambda event: event.get("message") == "epoch 2")
        assert [event["message"] for event in seen if event.get("source") == "model"] == ["epoch 1", "epoch 2"]
        file.write("ch 3\n")
    # Prefect has the same lines later.
    write_log(server, run, "model | epoch 1\nmodel | epoch 2\nmodel | epoch 3", "stage save")
    worker(task["id"], data={"exit_code": 0})
    rest = follower.end()
    assert [event["message"] for event in rest if event.get("source") == "model"] == ["epoch 3"]
    assert [event["message"] for event in rest if event.get("source") == "flow"] == ["stage save"]
    assert rest[-1]["state"] == "completed"


def test_the_log_of_an_earlier_run_is_not_followed(
    api: Facade, workspace: str, root: Path, server: PrefectServer, worker: Callable[..., Any]
) -> None:
    log = root / workspace / "logs" / "container.log"
    log.parent.mkdir()
    log.write_text("from an earlier run\n")
    os.utime(log, (1, 1))
    task = submit(api, workspace, "run")
    run = flow_run_of(api, task["id"])
    follower = Follower(api, task["id"])
    start(server, run)
    write_log(server, run, "model | from this run")
    worker(task["id"], "FAILED", message="it failed")
    told = [event["message"] for event in follower.end() if event["type"] == "log"]
    assert told == ["from this run"]


# --- batches ----------------------------------------------------------------------------------------------


def test_a_batch_tells_how_far_it_is_and_who_is_best(
    api: Facade, workspace: str, root: Path, server: PrefectServer, worker: Callable[..., Any]
) -> None:
    for name in ("a", "b", "=c"):
        write_workspace(root / workspace, name)
    answer = api.call("POST", "/batch", {"workspaces": [workspace], "action": "score"})
    assert answer.status == 202
    task_id = answer.data["id"]
    assert answer.data["action"] == "batch"
    before = api.call("GET", f"/batch/{task_id}").data
    assert (before["summary"]["done"], before["workspaces"], before["leaderboard"]) == (0, [], [])
    run = flow_run_of(api, task_id)
    start(server, run)
    files = FlowRunFiles(api.settings.home, run)
    files.set_total(3)
    outcomes = [
        {"workspace": str(root / workspace / name), "state": "completed", "score": score, "pass": None, "rank": None,
         "higher_is_better": True, "seconds": 0.1, "error": None}
        for name, score in (("a", 0.2), ("=c", 0.9))
    ]  # fmt: skip
    failed = {
        **outcomes[0],
        "workspace": str(root / workspace / "b"),
        "state": "failed",
        "score": None,
        "error": {"code": "PARSE_ERROR", "message": "…", "stage": "scoring", "details": {}},
    }
    for outcome in outcomes:
        files.add_member_outcome(outcome)
    view = api.call("GET", f"/batch/{task_id}").data
    assert (view["summary"]["total"], view["summary"]["done"], view["summary"]["completed"]) == (3, 2, 2)
    assert [row["workspace"] for row in view["leaderboard"]] == [f"{workspace}/=c", f"{workspace}/a"]
    # Each is a record as soon as it is there, and leads from the batch to itself.
    listed = f"/tasks?parent={task_id}&sort=-score"
    eventually(lambda: len(api.call("GET", listed).data["tasks"]) == 2)
    names = [task["workspace"] for task in api.call("GET", listed).data["tasks"]]
    assert names == [f"{workspace}/=c", f"{workspace}/a"]
    whole = [*outcomes, failed]
    counts = {"total": 3, "completed": 2, "failed": 1, "cancelled": 0, "duplicates": 0}
    worker(task_id, data={"action": "score", **counts, "seconds": 1.5, "outcomes": whole})
    eventually(lambda: api.call("GET", f"/tasks/{task_id}").data["state"] == "completed")
    view = api.call("GET", f"/batch/{task_id}").data
    assert view["summary"] == {**counts, "done": 3, "seconds": 1.5}
    assert [item["workspace"] for item in view["workspaces"]] == [f"{workspace}/{name}" for name in ("a", "=c", "b")]
    assert [row["place"] for row in view["leaderboard"]] == [1, 2, None]
    members = api.call("GET", listed).data["tasks"]
    assert [task["state"] for task in members] == ["completed", "completed", "failed"]
    assert members[2]["error"]["details"]["workspace"] == f"{workspace}/b"
    board = f"/batch/{task_id}/leaderboard"
    assert api.call("GET", board).data == view["leaderboard"]
    for answer in (api.call("GET", f"{board}?format=csv"), api.call("GET", board, headers={"Accept": "text/csv"})):
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
        assert [row["score"] for row in rows] == ["0.9", "0.2", ""]
        assert rows[2]["error"] == "PARSE_ERROR"
        assert str(root) not in answer.body.decode()
    assert api.call("GET", f"{board}?format=json", headers={"Accept": "text/csv"}).data == view["leaderboard"]


def test_a_task_that_is_no_batch_is_not_found_there(api: Facade, workspace: str) -> None:
    task = submit(api, workspace)
    answer = api.call("GET", f"/batch/{task['id']}")
    assert (answer.status, answer.error["code"]) == (404, "NOT_FOUND")


# --- the service ------------------------------------------------------------------------------------------


def test_ready_means_that_somebody_works_on_each_pool(api: Facade, server: PrefectServer) -> None:
    answer = api.call("GET", "/readyz")
    assert (answer.status, answer.error["code"]) == (503, "BACKEND_UNAVAILABLE")
    details = answer.error["details"]
    assert details["server"]["state"] == "ok"
    assert {check["state"] for check in details["pools"].values()} == {"ok"}
    assert {check["state"] for check in details["workers"].values()} == {"unavailable"}
    assert set(details["executors"]) == {"docker", "process"}

    async def say_alive() -> None:
        async with PrefectApi(api.settings) as prefect:
            for pool in POOLS.values():
                await prefect.heartbeat(pool, "a-worker", 600)

    asyncio.run(say_alive())
    eventually(lambda: api.call("GET", "/readyz").status == 200)
    ready = api.call("GET", "/readyz")
    assert ready.data["ready"] is True
    assert set(ready.data["workers"]) == set(POOLS.values())


def test_metrics_count_tasks_stages_and_requests(api: Facade, workspace: str, worker: Callable[..., Any]) -> None:
    def value(line: str) -> float:
        answer = api.call("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        found = [text for text in answer.body.decode().splitlines() if text.startswith(line + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    finished = 'autoscorer_tasks_finished_total{action="validate",state="completed"}'
    before = value(finished)
    task = submit(api, workspace, "validate")
    assert value("autoscorer_queue_depth") >= 1
    worker(task["id"], data={"ok": True})
    eventually(lambda: value(finished) == before + 1)
    assert value('autoscorer_stage_seconds_count{action="validate",stage="queue"}') >= 1
    assert value('autoscorer_tasks{state="completed"}') >= 1
    assert value('autoscorer_http_requests_total{method="POST",route="/submit",status="202"}') >= 1
    assert value("autoscorer_containers") >= 0 or value("autoscorer_containers") != value("autoscorer_containers")
    assert value("process_resident_memory_bytes") > 0
    # An address that is none makes no series of its own.
    api.call("GET", "/somewhere/else")
    assert "somewhere" not in api.call("GET", "/metrics").body.decode()


def test_stopping_ends_what_waits_and_what_streams(
    home: Path, root: Path, server: PrefectServer, tmp_path: Path
) -> None:
    settings = facade_settings(root, home=tmp_path, service=POOLS, prefect={"api_url": server.api_url})
    write_workspace(root, "to-be-stopped")
    with facade(settings) as running:
        running.token = SUBMIT
        task = submit(running, "to-be-stopped")
        follower = Follower(running, task["id"])
        waiting = in_background(lambda: running.call("POST", "/run?wait=250", {"workspace": "to-be-stopped"}))
        eventually(lambda: running.call("GET", "/tasks?workspace=to-be-stopped").data["total"] == 2)
        running.server.stop()
        assert follower.end()[-1]["reason"] == "the server is being stopped"
        assert waiting().status == 202


def test_the_command_serves_until_it_is_told_to_stop(home: Path, root: Path, server: PrefectServer) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "AUTOSCORER_HOME": str(root.parent / "command"),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        "AUTOSCORER_API_TOKENS": f"submit:{SUBMIT},admin:{ADMIN}",
        "AUTOSCORER_API__DRAIN": "3",
        "PREFECT_API_URL": server.api_url,
    }
    command = [sys.executable, "-m", "autoscorer", "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:

        def status() -> int:
            with contextlib.suppress(OSError):
                return call(f"http://127.0.0.1:{port}/tasks", token=SUBMIT).status
            assert process.poll() is None
            return 0

        assert eventually(status) == 200
        # A second one on that port says so, and what to do.
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert second.returncode == 2
        assert "can't listen" in json.loads(second.stdout)["error"]["message"]
        # A load balancer is told to send it nothing more, and until then everything is served.
        ready = f"http://127.0.0.1:{port}/readyz?for=submit"
        assert call(ready).status == 200
        process.send_signal(signal.SIGTERM)
        refused = eventually(lambda: (answer := call(ready)).status == 503 and answer, within=3)
        assert "it is being stopped" in refused.body.decode()
        assert status() == 200
        out, err = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["status"] == "success"
    assert all(line.startswith("{") for line in err.splitlines()), err
    entries = [json.loads(line) for line in err.splitlines()]
    assert any(entry["message"] == "request" and entry["route"] == "/tasks" for entry in entries)
    assert SUBMIT not in err + out


def test_the_command_serves_others_only_with_tokens(home: Path) -> None:
    command = [sys.executable, "-m", "autoscorer", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "INVALID_REQUEST"
    assert "AUTOSCORER_API_TOKENS" in error["message"]
