"""Events through several APIs with one ledger: any of them tells what happens through another, and in the workers."""

from __future__ import annotations

import time

import pytest

from ..support.events import Events
from ..support.postgres import own_postgres as own_postgres
from ..support.processes import processes as processes
from .test_replicas import Replicas
from .test_replicas import replicas as replicas

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


def listen(replicas: Replicas, number: int, path: str = "/events", **headers: str) -> Events:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Events(f"http://127.0.0.1:{replicas.ports[number]}", path, token="secret", headers=sent)


def test_a_task_is_heard_of_through_every_api_and_after_one_has_died_at_another(replicas: Replicas) -> None:
    leader = replicas.leader()
    first, second = [number for number in range(3) if number != leader]
    for name in ("a", "b", "c"):
        replicas.workspace(name)
    streams = [listen(replicas, number) for number in (first, second, leader)]
    for stream in streams:
        stream.until(lambda event: event.kind == "hello")
    # Submitted at one, worked on by a worker, its end noted by the one that leads: all of them tell.
    task = replicas.submit(second, "a").data["id"]
    delays = []
    for stream in streams:
        stream.task(task)
    for stream in streams:
        told = stream.task(task, state="completed")
        listed = {each["id"]: each for each in replicas.ask(leader, "GET", "/tasks").data["tasks"]}
        assert told == listed[task] and told["outcome"]["score"] is not None
    # How long it takes from one to the other, while nobody works.
    replicas.worker.terminate()
    assert replicas.worker.wait(120) == 0
    for turn in range(5):
        name = replicas.workspace(f"quick-{turn}").name
        began = time.monotonic()
        task = replicas.submit(first, name).data["id"]
        streams[1].task(task)
        delays.append(time.monotonic() - began)
    assert sorted(delays)[2] < 1.0, delays
    # One dies. What happens until its reader has found another is told there.
    streams[0].until(lambda event: event.kind == "task" and event.data["id"] == task)
    last = streams[0].id
    replicas.apis[first].kill()
    replicas.apis[first].wait()
    meanwhile = replicas.submit(second, "b").data["id"]
    replicas.ask(leader, "POST", f"/tasks/{task}/cancel")
    with listen(replicas, second, Last_Event_ID=last) as back:
        hello, *told = back.until(lambda event: event.kind == "task" and event.id != "")
        assert hello.data["resumed"] is True
        heard = {event.data["id"]: event.data["state"] for event in told}
        assert meanwhile in heard and heard[task] in ("cancelling", "cancelled"), heard
    for stream in streams:
        stream.cut()


def test_one_tasks_log_is_told_by_an_api_that_did_not_take_it(replicas: Replicas) -> None:
    leader = replicas.leader()
    other = (leader + 1) % 3
    replicas.workspace("logged")
    task = replicas.submit(leader, "logged").data["id"]
    with listen(replicas, other, f"/events?task={task}") as stream:
        told = stream.rest()
    assert (told[0].kind, told[-1].kind, told[-1].data["state"]) == ("hello", "end", "completed")
    logs = [event.data["message"] for event in told if event.kind == "log"]
    assert "stage score" in logs, told
    final = [event.data for event in told if event.kind == "task"][-1]
    assert final == replicas.ask(other, "GET", f"/tasks/{task}").data and final["result"] is not None
