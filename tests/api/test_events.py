"""``GET /events`` on the real server: what each token hears, after a cut, by a slow reader, at the end."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from autoscorer.api import event_stream
from autoscorer.api.routes import events as route
from autoscorer.core.tokens import TokenFile
from autoscorer.schemas.task import TaskState
from autoscorer.service import task_events
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import Observed, TaskEnd

from ..support.benchmarks import rows, write_benchmark
from ..support.events import Events
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.ledger import new
from ..support.prefect_server import eventually
from ..support.teams import TOKENS, Benches, serving
from ..support.workspaces import write_workspace

# Each serves a facade of its own.
pytestmark = pytest.mark.slow

T = TypeVar("T")


@pytest.fixture
def api(home: Path, tmp_path: Path) -> Iterator[Facade]:
    for name in ("one", "two", "three"):
        write_workspace(tmp_path, name)
    with facade(facade_settings(tmp_path, api={"rate_limit": 1e6, "rate_burst": 1_000_000})) as running:
        running.token = ADMIN
        yield running


def do(api: Facade, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Do something to the ledger, as another part of the installation would."""

    async def done() -> T:
        return await work(api.state.tasks.ledger)

    return asyncio.run_coroutine_threadsafe(done(), api.state.loop).result(300)


def add(api: Facade, name: str, **other: Any) -> str:
    return do(api, lambda ledger: ledger.add(new(f"/data/{name}", **other)))[0].id


def end(api: Facade, *task_ids: str, state: TaskState = TaskState.COMPLETED) -> None:
    do(api, lambda ledger: ledger.finish([TaskEnd(each, state) for each in task_ids]))


def listed(api: Facade, token: str = ADMIN) -> dict[str, Any]:
    return {task["id"]: task for task in api.call("GET", "/tasks?limit=500", token=token).data["tasks"]}


def submit(api: Facade, name: str) -> str:
    task_id: str = api.call("POST", "/submit", {"workspace": name, "action": "score"}).data["id"]
    return task_id


# --- the stream -----------------------------------------------------------------------------------------------


def test_a_stream_begins_with_hello_and_tells_of_tasks_as_the_list_does(api: Facade) -> None:
    before = submit(api, "one")
    with Events(api.url, token=ADMIN) as stream:
        assert stream.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert stream.response.getheader("cache-control") == "no-store"
        assert stream.response.getheader("x-accel-buffering") == "no"
        hello = stream.next()
        assert hello is not None
        assert (hello.kind, hello.data) == ("hello", {"position": hello.id, "resumed": False})
        task = submit(api, "two")
        told = stream.until(lambda event: event.kind != "hello")
        assert [event.data["id"] for event in told] == [task]  # and nothing of what was there
        assert told[0].data == listed(api)[task]
        api.call("POST", f"/tasks/{before}/cancel")
        assert stream.task(before, state="cancelled") == listed(api)[before]
        assert stream.id != hello.id


def test_how_far_a_task_is_is_told_as_it_goes_on(api: Facade) -> None:
    task, run = add(api, "many", action="batch"), str(uuid4())
    row = do(api, lambda ledger: ledger.row(task))
    do(api, lambda ledger: ledger.dispatched([(row, run)]))
    with Events(api.url, token=SUBMIT) as stream:
        seen = Observed(task, TaskState.RUNNING, "RUNNING", 1, 1.0, None)
        do(api, lambda ledger: ledger.observe([seen]))
        assert stream.task(task, state="running")["stage"] == "starting"
        files = api.state.tasks.flow_runs.files(run)
        files.set_total(2)
        for done in range(3):
            if done:
                files.add_member_outcome({"workspace": f"w{done}"})
            told = stream.task(task, progress={"done": done, "total": 2})
        files.set_stage("score")
        assert stream.task(task, stage="score") == {**told, "stage": "score"} == listed(api, SUBMIT)[task]


def test_a_quiet_stream_says_that_it_lives_and_where_it_is(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_HEARTBEAT", 0.2)
    with Events(api.url, token=ADMIN) as stream:
        for _ in range(4):
            assert stream.response.readline()
        assert stream.response.readline() == b"\n"
        comment = [stream.response.readline() for _ in range(3)]
        assert comment[0].startswith(b": ") and comment[1].startswith(b"id: ") and comment[2] == b"\n"
        # A minute of it at its usual pace is next to nothing.
        assert 6 * len(b"".join(comment)) < 1024


def test_a_text_with_line_breaks_forges_no_event(api: Facade) -> None:
    hostile = 'x\n\nevent: gone\ndata: {"id": "forged"}\n\n\r\rid: 9\r\nretry: 1\n\u2028\u0085\x0b\x1e\x00event: end'
    with Events(api.url, token=ADMIN) as stream:
        task = add(
            api, "h", request={"action": "score", "workspace": hostile.replace("\x00", "")}, scorer=hostile[:-10]
        )
        _, *told = stream.until(lambda event: event.kind != "hello")
        assert [(event.kind, event.data["id"]) for event in told] == [("task", task)]
        assert told[0].data == listed(api)[task] and told[0].data["workspace"].startswith("x\n\nevent: gone")


# --- who hears what -------------------------------------------------------------------------------------------


@pytest.fixture
def benches(home: Path, tmp_path: Path) -> Iterator[Benches]:
    write_benchmark(tmp_path, "flowers", visibility="nothing", leaderboard={"margin": 0.05})
    write_benchmark(tmp_path, "dogs")
    write_workspace(tmp_path, "plain")
    with serving(tmp_path, api={"rate_limit": 1e6, "rate_burst": 1_000_000}) as running:
        yield running


def test_each_token_hears_what_the_list_shows_it_and_no_more(benches: Benches) -> None:
    streams = {who: Events(benches.api.url, token=token) for who, token in TOKENS.items()}
    heard: dict[str, dict[str, Any]] = {who: {} for who in TOKENS}
    try:
        theirs = benches.hand_in("team-a", rows("xyyx"), label="OF-TEAM-A").data
        benches.score(theirs)
        benches.score(benches.hand_in("team-b", rows("xyxx")).data)
        benches.hand_in("dogs", rows("xyxx"), benchmark="dogs", team="team-b")
        benches.call("submit", "POST", "/submit", {"workspace": "plain", "action": "score"})
        benches.call("admin", "POST", "/api/score/async", {"question": "A-SECRET?", "answer": "No."})
        benches.call("submit", "POST", "/api/score/async", {"question": "And this?", "answer": "Yes."})
        for who, stream in streams.items():
            expected = {task["id"]: task for task in benches.call(who, "GET", "/tasks?limit=500").data["tasks"]}
            assert expected
            while heard[who] != expected:
                event = stream.next()
                assert event is not None and event.kind in ("hello", "task")
                if event.kind == "task":
                    assert event.data["id"] in expected, who
                    heard[who][event.data["id"]] = event.data
        counts = {who: len(tasks) for who, tasks in heard.items()}
        assert counts == {"team-a": 1, "team-b": 2, "flowers": 2, "dogs": 1, "submit": 2, "admin": 6}
        # The board hides what the organiser sees.
        task = theirs["task"]["id"]
        assert heard["team-a"][task]["outcome"]["score"] is None and heard["team-a"][task]["state"] == "completed"
        assert heard["flowers"][task]["outcome"]["score"] == 0.5
        # Of what is gone hears who could see it.
        do(benches.api, lambda ledger: ledger.forget(task))
        last = benches.call("submit", "POST", "/submit", {"workspace": "plain", "action": "validate"}).data["id"]
        for who in ("team-a", "flowers", "admin"):
            assert streams[who].until(lambda event: event.kind == "gone")[-1].data == {"id": task}
        told = streams["submit"].until(lambda event: event.data["id"] == last)
        assert "gone" not in [event.kind for event in told]
    finally:
        for stream in streams.values():
            stream.cut()


def test_another_teams_task_is_not_there_to_be_listened_to(benches: Benches) -> None:
    theirs = benches.hand_in("team-a", rows("xyyx")).data["task"]["id"]
    for who in ("team-b", "dogs", "submit"):
        answer, nothing = (benches.call(who, "GET", f"/events?task={task}") for task in (theirs, "0" * 32))
        assert (answer.status, nothing.status) == (404, 404)
        assert answer.error["message"].replace(theirs, "") == nothing.error["message"].replace("0" * 32, "")
    with Events(benches.api.url, f"/events?task={theirs}", token=TOKENS["team-a"]) as stream:
        stream.task(theirs, state="queued")


def test_a_stream_needs_a_token_and_ends_when_that_is_revoked(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_HEARTBEAT", 0.2)
    assert api.call("GET", "/events", token="").status == 401
    file = TokenFile(api.settings.home)
    token, record = file.add("submit")
    task = submit(api, "one")
    streams = [Events(api.url, path, token=token) for path in ("/events", f"/events?task={task}")]
    for stream in streams:
        stream.until(lambda event: event.kind == "hello")
    file.revoke(record.id)
    end(api, task)
    for stream in streams:
        last = stream.rest()[-1]
        assert (last.kind, last.data["reason"]) == ("end", "the token is not valid any more")
        stream.cut()


# --- who comes back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["header", "query", "both"])
def test_after_a_cut_what_has_changed_is_told_and_nothing_is_missed(api: Facade, by: str) -> None:
    old = submit(api, "one")
    with Events(api.url, token=ADMIN) as stream:
        submit(api, "two")
        stream.until(lambda event: event.kind == "task")
        last = stream.id
    new_one = submit(api, "three")
    api.call("POST", f"/tasks/{old}/cancel")
    headers = {} if by == "query" else {"Last-Event-ID": last}
    # A browser that connects again keeps its address, and sends the later word as a header.
    path = {"header": "/events", "query": f"/events?after={last}", "both": "/events?after=1-1-00000000"}[by]
    with Events(api.url, path, token=ADMIN, headers=headers) as back:
        hello, *told = back.until(lambda event: event.kind == "task" and len(event.data) > 0 and event.id != "")
        assert hello.data["resumed"] is True and hello.id == ""
        assert {event.data["id"]: event.data for event in told if event.kind == "task"} == {
            each: listed(api)[each] for each in (old, new_one)
        }
    # Whoever is cut off before all of it was told has no new id, and is told all of it again.
    assert back.id == told[-1].id and [event.id for event in told[:-1]] == [""] * (len(told) - 1)


@pytest.mark.parametrize("last", ["garbage", "1-1-00000000", "x" * 3000])
def test_an_id_that_is_not_known_is_answered_with_a_reset(api: Facade, last: str) -> None:
    with Events(api.url, token=ADMIN, headers={"Last-Event-ID": last}) as stream:
        hello, reset = stream.until(lambda event: event.kind == "reset")
        assert hello.data["resumed"] is False and reset.data == {"position": reset.id}
        task = submit(api, "one")
        assert stream.task(task) == listed(api)[task]


# --- what a stream costs --------------------------------------------------------------------------------------


def test_a_reader_who_does_not_read_is_told_to_ask_for_the_list(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_events, "MOST_PENDING", 50)
    with api.connect() as slow:
        slow.sendall(f"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
        assert slow.recv(10)
        with Events(api.url, token=ADMIN) as quick:
            quick.next()
            # More than the kernel takes for a reader who takes nothing.
            wide = {"action": "score", "workspace": "w" * 200_000}
            for turn in range(10):
                ids = {add(api, f"{turn}-{number}", request=wide) for number in range(15)}
                while ids:
                    event = quick.next()
                    assert event is not None and event.kind == "task"
                    ids.discard(event.data["id"])
            # The other one holds so many tasks at most, whatever has happened.
            (behind,) = [each for each in api.state.events._listeners if len(each._pending) or each._is_reset]
            assert len(behind._pending) <= 50
        received = b""
        slow.settimeout(300)
        while b"event: reset" not in received:
            part = slow.recv(1 << 20)
            assert part
            received = received[-20:] + part


def test_readers_who_leave_are_not_counted_and_too_many_are_refused(
    api: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "_MOST_STREAMS", 3)
    streams = [Events(api.url, token=ADMIN) for _ in range(3)]
    refused = api.call("GET", "/events")
    assert (refused.status, refused.error["code"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "10"
    streams[0].cut()
    eventually(lambda: api.state.events.number == 2, within=300)
    with Events(api.url, token=ADMIN) as another:
        another.next()
    for stream in streams[1:]:
        stream.cut()
    eventually(lambda: api.state.events.number == 0, within=300)


def test_readers_of_one_task_count_as_readers_of_logs(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MOST_FOLLOWERS", 1)
    task = submit(api, "one")
    with Events(api.url, f"/events?task={task}", token=ADMIN) as stream:
        stream.task(task)
        assert api.call("GET", f"/events?task={task}").status == 429
    eventually(lambda: api.state.streams == 0, within=300)


def test_many_who_come_at_once_are_no_more_than_may_be(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "_MOST_STREAMS", 5)
    answers: list[int] = []
    over = threading.Event()

    def listen() -> None:
        connection = http.client.HTTPConnection(api.host, api.port, timeout=300)
        connection.request("GET", "/events", headers={"Authorization": f"Bearer {ADMIN}"})
        response = connection.getresponse()
        answers.append(response.status)
        over.wait(300)
        response.close()
        connection.close()

    threads = [threading.Thread(target=listen) for _ in range(20)]
    for each in threads:
        each.start()
    eventually(lambda: len(answers) == 20, within=300)
    over.set()
    for each in threads:
        each.join()
    assert sorted(answers) == [200] * 5 + [429] * 15


# --- one task -------------------------------------------------------------------------------------------------


def test_one_task_is_told_as_it_is_asked_for_until_it_has_ended(api: Facade) -> None:
    task, other = submit(api, "one"), submit(api, "two")
    with Events(api.url, f"/events?task={task}", token=SUBMIT) as stream:
        hello, first = stream.until(lambda event: event.kind == "task")
        assert (hello.kind, first.data) == ("hello", api.call("GET", f"/tasks/{task}", token=SUBMIT).data)
        end(api, other)
        result = {"summary": {"score": 0.25}, "stage": "score"}
        do(
            api,
            lambda ledger: ledger.finish([TaskEnd(task, TaskState.COMPLETED, result=result, reason="It was easy.")]),
        )
        *told, last = stream.rest()
        assert (last.kind, last.data) == ("end", {"state": "completed", "reason": "It was easy."})
        assert {event.data["id"] for event in told if event.kind == "task"} == {task}
        final = [event for event in told if event.kind == "task"][-1].data
        assert final == api.call("GET", f"/tasks/{task}", token=SUBMIT).data and final["state"] == "completed"
        assert final["result"] is not None
        # It begins anew whenever it is asked for, so there is nothing to come back to.
        assert {event.id for event in (hello, first, *told, last)} == {""}


def test_stopping_the_server_ends_every_stream_at_once(home: Path, tmp_path: Path) -> None:
    write_workspace(tmp_path, "one")
    with facade(facade_settings(tmp_path)) as api:
        api.token = ADMIN
        task = submit(api, "one")
        streams = [Events(api.url, path, token=ADMIN) for path in ("/events", f"/events?task={task}")]
        for stream in streams:
            stream.until(lambda event: event.kind == "hello")
        api.server.stop()
        for stream in streams:
            last = stream.rest()[-1]
            assert (last.kind, last.data["reason"]) == ("end", "the server is being stopped")
            stream.cut()


def test_what_is_written_is_one_line_of_json_whatever_it_holds() -> None:
    for text in ("\n", "\r", "\r\n\r\n", "\x00", "\ud800", "data: x", "é\u2028"):
        written = event_stream.written("task", {"text": text})
        kind, data, rest = written.split(b"\n")
        assert (kind, rest) == (b"event: task", b"") and b"\r" not in data
        assert json.loads(data.removeprefix(b"data: ").decode("utf-8")) == {"text": text} or text == "\ud800"
