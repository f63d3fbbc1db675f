"""``submit``, ``status``, ``cancel``, ``logs``, ``batch``: what a person and a program get, whatever the API does."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from autoscorer import Client
from autoscorer.cli.main import main
from autoscorer.client import connection, polling
from autoscorer.client.client import sendable
from autoscorer.client.connection import task_path
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.task import TaskView

from ..support.terminal import in_terminal

# --- a stand-in for the API, which answers what a test says ---------------------------------------------------------

Json = dict[str, Any]
Answer = tuple[int, Any]


def task(state: str = "queued", **more: Any) -> Json:
    view = TaskView(id="t1", action="pipeline", workspace="team-a", state=state, created_at="2026-11-22T21:00:00Z")
    return {**view.model_dump(mode="json"), **more}


def failed(code: str = "CONTAINER_FAILED", **more: Any) -> Json:
    return task("failed", error={"code": code, "message": "exit code 4", "stage": "execution", "details": {}}, **more)


def ok(data: Any, status: int = 200) -> Answer:
    return status, {"ok": True, "data": data, "meta": {}}


def error(status: int, code: str, message: str = "no") -> Answer:
    return status, {
        "ok": False,
        "error": {"code": code, "message": message, "stage": "api", "details": {}},
        "meta": {},
    }


class Api:
    """A real HTTP server. ``answers`` maps "GET /path" to answers, given one after the other, the last one for ever;
    a callable is asked, ``None`` breaks the connection, bytes are sent as they are."""

    def __init__(self, port: int = 0, answers: dict[str, list[Any]] | None = None) -> None:
        self.answers = answers or {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                api.requests.append(
                    (f"{self.command} {self.path}", {name.lower(): value for name, value in self.headers.items()}, body)
                )
                given = api.answers.get(f"{self.command} {urlsplit(self.path).path}") or [error(404, "NOT_FOUND")]
                found = given[0] if len(given) == 1 else given.pop(0)
                found = found(self) if callable(found) else found
                self.close_connection = True
                if found is None:
                    return
                status, content, *headers = found
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in headers[0].items() if headers else ():
                    self.send_header(name, value)
                self.send_header("connection", "close")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *args: Any) -> None:
                pass  # a client that goes away is part of the tests

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.requests]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    served = Api()
    monkeypatch.setenv("AUTOSCORER_API_URL", served.url)
    yield served
    served.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "AWAY", 0.05)
    monkeypatch.setattr(polling, "PATIENCE", 5.0)
    monkeypatch.setattr(connection, "LOST", (0.05, 0.1, 0.2, 0.4))


Run = Callable[..., tuple[int, Json, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, Json, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return call


# --- submit -------------------------------------------------------------------------------------------------------


def test_submit_sends_what_was_given_and_nothing_else(api: Api, run: Run) -> None:
    api.answers["POST /submit"] = [ok(task(), 202)]
    code, answer, _ = run("submit", "team-a")
    assert code == 0 and answer["status"] == "success" and answer["data"]["id"] == "t1"
    code, _, _ = run(
        "submit", "team-a", "--action", "score", "--scorer", "f1", "--param", "pass_threshold=0.5",
        "--priority", "high", "--callback-url", "https://example.com/hook", "--idempotency-key", "once",
    )  # fmt: skip
    assert code == 0
    (_, first, plain), (_, second, full) = api.requests
    assert plain == {"action": "pipeline", "workspace": "team-a", "priority": "normal"}
    assert full == {
        "action": "score",
        "workspace": "team-a",
        "priority": "high",
        "scorer": "f1",
        "params": {"pass_threshold": 0.5},
        "callback_url": "https://example.com/hook",
    }
    assert second["idempotency-key"] == "once" and first["idempotency-key"] not in ("", "once")
    assert "authorization" not in first


def test_a_folder_that_is_here_is_sent_with_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "round" / "team-a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert sendable("round/team-a") == str(tmp_path / "round/team-a")
    assert sendable("round/*") == str(tmp_path / "round/*")
    assert sendable("elsewhere/team-a") == "elsewhere/team-a" and sendable("else*") == "else*"


def test_the_token_comes_from_the_configuration_only(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answers["POST /submit"] = [ok(task(), 202)]
    monkeypatch.setenv("AUTOSCORER_API_TOKEN", "hunter2")
    assert run("submit", "team-a")[0] == 0
    assert api.requests[-1][1]["authorization"] == "Bearer hunter2"
    code, answer, _ = run("submit", "team-a", "--token", "hunter2")
    assert code == 2 and answer["error"]["code"] == "INVALID_REQUEST"
    monkeypatch.setenv("AUTOSCORER_API_TOKEN", "hünter2")
    code, answer, err = run("submit", "team-a")
    assert code == 2 and "nter2" not in json.dumps(answer) + err


def test_a_task_that_was_there_is_said_to_be_one(api: Api, run: Run) -> None:
    api.answers["POST /submit"] = [(*ok(task("running"), 202), {"X-Task-Created": "false"})]
    code, _, err = run("submit", "team-a")
    assert code == 0 and "t1 was submitted before" in err


def test_waiting_ends_with_the_result(api: Api, run: Run) -> None:
    done = task("completed", result={"summary": {"score": 0.5}})
    api.answers["POST /submit"] = [ok(task(), 202)]
    api.answers["GET /tasks/t1"] = [
        ok(task()), ok(task("running", stage="run")), ok(task("running", stage="score")), ok(done),
    ]  # fmt: skip
    code, answer, err = run("submit", "team-a", "--wait")
    assert code == 0 and answer["data"] == done
    told = [line.partition(": ")[2] for line in err.splitlines()]
    assert told == ["task t1: queued", "task t1: run", "task t1: score", "task t1: completed"]


@pytest.mark.parametrize(
    ("code", "exit_code"), [("CONTAINER_FAILED", 1), ("CANCELLED", 1), ("INVALID_META", 1), ("SCORER_ERROR", 3)]
)
def test_waiting_for_a_task_that_fails_fails_as_it_did(api: Api, run: Run, code: str, exit_code: int) -> None:
    api.answers["POST /submit"] = [ok(task(), 202)]
    api.answers["GET /tasks/t1"] = [ok(failed(code))]
    got, answer, _ = run("submit", "team-a", "--wait")
    assert got == exit_code and answer["status"] == "error"
    assert answer["error"]["code"] == code and answer["error"]["details"] == {"task_id": "t1"}


def test_waiting_for_too_short_is_no_success(api: Api, run: Run) -> None:
    api.answers["POST /submit"] = [ok(task(), 202)]
    api.answers["GET /tasks/t1"] = [ok(task("running"))]
    code, answer, err = run("submit", "team-a", "--wait", "0.2")
    assert code == 3 and answer["status"] == "success" and answer["data"]["state"] == "running"
    assert "t1 goes on" in err and "autoscorer status t1 --watch" in err


def test_a_second_attempt_is_told_with_its_reason(api: Api, run: Run) -> None:
    again = task("running", stage="run", attempts=2, reason="the worker died")
    api.answers["GET /tasks/t1"] = [ok(again), ok(again), ok(task("completed"))]
    code, _, err = run("status", "t1", "--watch")
    assert code == 0 and "run (attempt 2: the worker died)" in err


# --- an API that fails --------------------------------------------------------------------------------------------


def test_no_api_exits_3_at_once_and_says_what_to_do(run: Run) -> None:
    for arguments in (["submit", "x"], ["status"], ["status", "t1"], ["cancel", "t1"], ["logs", "t1"], ["batch", "x"]):
        code, answer, err = run(*arguments, "--api", "http://127.0.0.1:9")
        assert code == 3 and answer["error"]["code"] == "BACKEND_UNAVAILABLE" and "Traceback" not in err
        assert "autoscorer up" in answer["error"]["message"] and "--api" in answer["error"]["message"]


def test_the_api_of_this_machine_is_the_default(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Api()
    try:
        served.answers["GET /tasks"] = [ok({"tasks": [], "next_cursor": None, "total": 0})]
        monkeypatch.setenv("AUTOSCORER_API__PORT", str(served.port))
        # A proxy of the environment is for other machines.
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert run("status")[0] == 0
    finally:
        served.stop()


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>hello</html>"),
        (200, {"hello": "world"}),
        (200, ["ok"]),
        (302, b"", {"location": "http://127.0.0.1:9/"}),
        (404, b"not found"),
        (500, b""),
        (500, {"ok": False, "error": {"code": "NEW_CODE", "message": "", "stage": "api", "details": {}}}),
    ],
)
def test_what_is_no_autoscorer_is_told(api: Api, run: Run, answer: Any) -> None:
    api.answers["GET /tasks/t1"] = [answer]
    code, got, err = run("status", "t1")
    assert code == 3 and got["error"]["code"] == "BACKEND_UNAVAILABLE" and "Traceback" not in err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "UNAUTHORIZED", 2), (403, "FORBIDDEN", 2), (404, "NOT_FOUND", 2), (409, "CONFLICT", 2),
        (422, "INVALID_REQUEST", 2), (429, "RATE_LIMITED", 2), (500, "INTERNAL_ERROR", 3),
        (503, "BACKEND_UNAVAILABLE", 3),
    ],
)  # fmt: skip
def test_an_error_of_the_api_is_the_commands(api: Api, run: Run, status: int, code: str, exit_code: int) -> None:
    api.answers["POST /submit"] = [error(status, code, "told by the API")]
    got, answer, _ = run("submit", "team-a", "--wait")
    assert (
        got == exit_code
        and answer["error"]["code"] == code
        and answer["error"]["message"].startswith("told by the API")
    )


def test_waiting_outlasts_an_api_that_is_started_anew(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[Api] = []

    def die(handler: Any) -> None:
        threading.Thread(target=restart).start()

    def restart() -> None:
        api.stop()
        time.sleep(0.3)
        answers = [ok(task("running", stage="run")), ok(task("completed"))]
        later.append(Api(api.port, {"GET /tasks/t1": answers}))

    api.answers["POST /submit"] = [ok(task(), 202)]
    api.answers["GET /tasks/t1"] = [ok(task("running", stage="run")), die]
    code, answer, err = run("submit", "team-a", "--wait")
    later[0].stop()
    assert code == 0 and answer["data"]["state"] == "completed"
    assert err.count("the API does not answer; asking again") == 1


def test_waiting_gives_an_api_that_stays_away_up(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "PATIENCE", 0.3)
    api.answers["POST /submit"] = [ok(task(), 202)]
    api.answers["GET /tasks/t1"] = [ok(task("running")), None]
    assert run("submit", "team-a", "--wait")[0] == 3


def test_a_pause_that_the_api_asks_for_is_made(api: Api, run: Run) -> None:
    api.answers["GET /tasks/t1"] = [
        ok(task("running")), (*error(429, "RATE_LIMITED"), {"retry-after": "0"}), ok(task("completed")),
    ]  # fmt: skip
    assert run("status", "t1", "--watch")[0] == 0


def test_a_submit_whose_answer_was_lost_is_sent_again_with_the_same_key(api: Api, run: Run) -> None:
    api.answers["POST /submit"] = [None, None, (*ok(task(), 202), {"X-Task-Created": "false"})]
    code, answer, err = run("submit", "team-a")
    assert code == 0 and answer["data"]["id"] == "t1" and "before" not in err
    assert len({headers["idempotency-key"] for _, headers, _ in api.requests}) == 1 and len(api.requests) == 3


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "localhost:8000", "http://", "http://me:hunter2@127.0.0.1:1/", "http://[::1", "http://x:99999999/", "http://x/?a"],
)  # fmt: skip
def test_an_address_that_is_none_is_wrong_usage(run: Run, url: str) -> None:
    code, answer, _ = run("status", "--api", url)
    assert code == 2 and answer["error"]["code"] == "INVALID_REQUEST" and "hunter2" not in json.dumps(answer)


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "x", "--wait", "soon"],
        ["submit", "x", "--wait", "-1"],
        ["submit", "x", "--wait", "nan"],
        ["submit", "x", "--priority", "urgent"],
        ["status", "t1", "--state", "running"],
        ["status", "t1", "--members"],
        ["status", "t1", "--parent", "t2"],
        ["status", "--state", "sleeping"],
        ["status", "--limit", "0"],
        ["status", ".."],
        ["cancel"],
        ["cancel", ""],
        ["logs", "x" * 300],
        ["batch"],
        ["batch", "x", "--csv", "/no/such/folder/board.csv"],
    ],
)
def test_wrong_usage_exits_2_and_asks_nobody(api: Api, run: Run, arguments: list[str]) -> None:
    code, answer, err = run(*arguments)
    assert code == 2 and answer["error"]["message"] and "Traceback" not in err
    assert api.requests == []


def test_a_task_id_stays_within_its_path() -> None:
    assert task_path("../scorers?x#y") == "/tasks/..%2Fscorers%3Fx%23y"
    for bad in ("", ".", "..", "...."):
        with pytest.raises(AutoScorerError):
            task_path(bad)


# --- status, cancel, logs -----------------------------------------------------------------------------------------


def test_status_of_a_failed_task_is_an_answer_not_a_failure(api: Api, run: Run) -> None:
    api.answers["GET /tasks/t1"] = [ok(failed())]
    code, answer, _ = run("status", "t1")
    assert code == 0 and answer["data"]["error"]["code"] == "CONTAINER_FAILED"
    assert run("status", "t1", "--watch")[0] == 1


def test_the_list_is_filtered_by_the_api_and_read_page_by_page(api: Api, run: Run) -> None:
    def page(handler: Any) -> Answer:
        query = parse_qs(urlsplit(handler.path).query)
        start, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
        tasks = [task(id=f"t{number}") for number in range(start, min(start + limit, 900))]
        return ok({"tasks": tasks, "next_cursor": str(start + limit) if start + limit < 900 else None, "total": 900})

    api.answers["GET /tasks"] = [page]
    code, answer, _ = run(
        "status", "--limit", "700", "--state", "running", "--state", "queued", "--workspace", "team-a"
    )
    assert code == 0 and [each["id"] for each in answer["data"]["tasks"]] == [f"t{number}" for number in range(700)]
    assert answer["data"]["total"] == 900
    assert "state=running&state=queued&workspace=team-a" in api.paths()[0]
    assert len(run("status")[1]["data"]["tasks"]) == 20


def test_watching_the_list_ends_when_all_have(api: Api, run: Run) -> None:
    def page(*states: str) -> Answer:
        tasks = [task(state, id=f"t{number}") for number, state in enumerate(states)]
        return ok({"tasks": tasks, "next_cursor": None, "total": len(tasks)})

    api.answers["GET /tasks"] = [page("queued", "completed"), page("running", "completed"), page("failed", "completed")]
    code, answer, err = run("status", "--watch")
    assert code == 0 and answer["data"]["tasks"][0]["state"] == "failed"
    assert [line for line in err.splitlines() if "t0" in line] == [
        f"autoscorer: task t0: {state}" for state in ("queued", "running", "failed")
    ]


def test_cancel_says_what_the_task_is_now(api: Api, run: Run) -> None:
    api.answers["POST /tasks/t1/cancel"] = [ok(task("cancelling"))]
    code, answer, _ = run("cancel", "t1")
    assert code == 0 and answer["data"]["state"] == "cancelling"


def record(message: str, source: str = "flow") -> Json:
    return {"time": "2026-11-22T21:00:01.5Z", "level": "info", "source": source, "message": message}


def test_logs_are_read_page_by_page(api: Api, run: Run) -> None:
    pages = {0: ([record("a"), record("b")], 2), 2: ([record("c")], None)}

    def page(handler: Any) -> Answer:
        records, after = pages[int(parse_qs(urlsplit(handler.path).query)["offset"][0])]
        return ok({"records": records, "next_offset": after})

    api.answers["GET /tasks/t1/logs"] = [page]
    code, answer, _ = run("logs", "t1")
    assert code == 0 and [each["message"] for each in answer["data"]["records"]] == ["a", "b", "c"]


def stream(*events: Json, cut: bool = False) -> Answer:
    body = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    headers = {"content-type": "application/x-ndjson"}
    return 200, body[:-5] if cut else body, headers


def log(message: str, source: str = "flow") -> Json:
    return {"type": "log", **record(message, source)}


def test_following_goes_on_where_a_stream_broke_and_repeats_nothing(api: Api, run: Run) -> None:
    stopping = {"type": "end", "state": "running", "reason": "the server is being stopped"}
    api.answers["GET /tasks/t1/logs"] = [
        stream(log("a"), log("same"), log("same"), stopping),
        None,
        stream(log("a"), log("x", "model"), log("same"), {"type": "heartbeat", "state": "running", "stage": "run"}),
        stream(
            log("same"), log("a"), log("same"), log("x", "model"), log("same"),
            {"type": "end", "state": "completed", "reason": None},
        ),
    ]  # fmt: skip
    api.answers["GET /tasks/t1"] = [ok(task("completed"))]
    code, answer, err = run("logs", "t1", "--follow")
    assert code == 0 and answer["data"]["state"] == "completed"
    assert [each["message"] for each in answer["data"]["records"]] == ["a", "same", "same", "x", "same"]
    shown = [line for line in err.splitlines() if not line.startswith("autoscorer:")]
    assert shown == ["21:00:01 a", "21:00:01 same", "21:00:01 same", "21:00:01 │ x", "21:00:01 same"]


def test_following_a_task_that_is_not_there_is_an_error(api: Api, run: Run) -> None:
    assert run("logs", "t1", "--follow")[1]["error"]["code"] == "NOT_FOUND"


# --- batch --------------------------------------------------------------------------------------------------------

BOARD = [
    {
        "place": 1, "workspace": "team-a", "state": "completed", "metric": "f1_macro", "score": 0.9, "low": 0.8,
        "high": 0.95, "pass": True, "rank": "A", "seconds": 1.5, "error": None,
    },
    {
        "place": None, "workspace": "=cmd", "state": "failed", "metric": None, "score": None, "low": None, "high": None,
        "pass": None, "rank": None, "seconds": None, "error": "MISSING_FILE",
    },
]  # fmt: skip


def batch_task(state: str, **more: Any) -> Json:
    return task(state, action="batch", workspace=None, workspaces=["round-1"], **more)


def batch_view(view: Json) -> Json:
    summary = {"total": 2, "done": 2, "completed": 1, "failed": 1, "cancelled": 0, "duplicates": 0, "seconds": 3.0}
    return {"task": view, "summary": summary, "workspaces": [], "leaderboard": BOARD}


def test_a_batch_is_submitted_waited_for_and_written_as_csv(api: Api, run: Run, tmp_path: Path) -> None:
    done = batch_task("completed")
    api.answers["POST /batch"] = [ok(batch_task("queued"), 202)]
    api.answers["GET /tasks/t1"] = [ok(batch_task("running", progress={"done": 1, "total": 2})), ok(done)]
    api.answers["GET /batch/t1"] = [ok(batch_view(done))]
    board = tmp_path / "board.csv"
    code, answer, err = run("batch", "round-1", "late", "--action", "score", "--concurrency", "4", "--csv", str(board))
    assert code == 0, answer
    assert answer["data"]["leaderboard"] == BOARD
    assert api.requests[0][2] == {
        "workspaces": ["round-1", "late"], "action": "score", "priority": "normal", "concurrency": 4,
    }  # fmt: skip
    assert "1/2" in err
    with board.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["workspace"] for row in rows] == ["team-a", "'=cmd"]


def test_a_batch_that_is_cancelled_fails(api: Api, run: Run) -> None:
    ended = batch_task("cancelled", error={"code": "CANCELLED", "message": "m", "stage": "execution", "details": {}})
    api.answers["POST /batch"] = [ok(batch_task("queued"), 202)]
    api.answers["GET /tasks/t1"] = [ok(ended)]
    api.answers["GET /batch/t1"] = [ok(batch_view(ended))]
    code, answer, _ = run("batch", "round-1", "--wait")
    assert code == 1 and answer["error"]["code"] == "CANCELLED"


# --- a terminal, a signal, the cost -------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_a_terminal_a_person_reads(api: Api) -> None:
    evil = task("completed", workspace="team-\x1b]0;owned\x07", run_seconds=2.5)
    api.answers["GET /tasks"] = [ok({"tasks": [evil, failed()], "next_cursor": None, "total": 7})]
    api.answers["GET /tasks/t1"] = [ok(task("running", stage="run")), ok(task("running", stage="score")), ok(failed())]
    code, shown = in_terminal("status")
    assert code == 0 and "2 of 7 tasks" in shown and "CONTAINER_FAILED" in shown and '"status"' not in shown
    assert "\x1b]0;owned" not in shown
    code, shown = in_terminal("status", "t1", "--watch")
    assert code == 1 and "score" in shown and "exit code 4" in shown
    code, shown = in_terminal("status", "t1", "--json")
    assert code == 0 and json.loads(shown)["data"]["id"] == "t1"


def test_on_a_terminal_a_batch_ends_with_its_leaderboard(api: Api) -> None:
    done = batch_task("completed")
    api.answers["POST /batch"] = [ok(batch_task("queued"), 202)]
    api.answers["GET /tasks/t1"] = [ok(batch_task("running", progress={"done": 1, "total": 2})), ok(done)]
    api.answers["GET /batch/t1"] = [ok(batch_view(done))]
    code, shown = in_terminal("batch", "round-1", "--wait")
    assert code == 0 and "1/2" in shown and "1 completed, 1 failed" in shown
    assert "team-a" in shown and "0.9" in shown and "MISSING_FILE" in shown


def test_ctrl_c_ends_the_waiting_and_not_the_task(api: Api) -> None:
    api.answers["POST /submit"] = [ok(task(), 202)]
    api.answers["GET /tasks/t1"] = [ok(task("running"))]
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", "submit", "team-a", "--wait"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "queued" in process.stderr.readline() and "running" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    answer = json.loads(out)
    assert process.returncode == 1 and answer["error"]["code"] == "CANCELLED" and "Traceback" not in err
    assert "the task t1 goes on" in answer["error"]["message"] and "autoscorer cancel t1" in answer["error"]["message"]
    assert not any("cancel" in path for path in api.paths())


def test_help_and_the_client_import_nothing_heavy(api: Api) -> None:
    api.answers["GET /tasks"] = [ok({"tasks": [], "next_cursor": None, "total": 0})]
    for arguments, light in ((["--help"], {"httpx", "pydantic", "rich", "ssl"}), (["status"], {"msgspec"})):
        script = (
            "import sys\nfrom autoscorer.cli.main import main\n"
            f"try: code = main({arguments!r})\nexcept SystemExit as end: code = end.code\n"
            f"heavy = ({light!r} | {{'numpy','pandas','prefect','docker','fastapi'}}) & set(sys.modules)\n"
            "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


def test_a_client_closes_what_it_opened(api: Api) -> None:
    api.answers["GET /tasks/t1"] = [ok(task())]
    with Client(api.url + "/") as client:
        assert client.task("t1").id == "t1"
