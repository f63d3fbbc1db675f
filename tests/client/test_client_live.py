"""``autoscorer.Client`` against a live installation, and the example of the documentation as it is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from autoscorer import AutoScorerError, Client
from autoscorer.cli.main import main

from ..support.benchmarks import rows, write_benchmark
from ..support.installation import Installation
from ..support.markdown import blocks_of, read

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

WRONG = "id,label\na,dog\nb,dog\nc,cat\n"


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with Client(installation.url, installation.token("admin")) as one:
        yield one


def test_submit_wait_result_logs_and_retry(installation: Installation, client: Client) -> None:
    program = "print('hello from the model', flush=True)"
    installation.workspace("client-run", container={"cmd": [sys.executable, "-c", program]})
    task = client.submit("client-run", action="score", params={"pass_threshold": 0.9})
    seen: list[str] = []
    ended = client.wait(task, timeout=120, on_update=lambda now: seen.append(now.state))
    assert ended.state == "completed" and ended.outcome is not None and seen[-1] == "completed"
    assert (ended.outcome.score, ended.outcome.metric, ended.outcome.passed) == (1.0, "f1_macro", True)
    assert ended.outcome.interval is not None and ended.scorer == "classification_f1"
    assert client.result(task).summary.score == 1.0
    # The list says the same, without the Result.
    (listed,) = client.tasks(q="client-r", action="score").tasks
    assert (listed.id, listed.outcome, listed.result) == (task.id, ended.outcome, None)
    again = client.retry(task)
    assert again.retry_of == task.id and client.result(again, timeout=120).summary.score == 1.0

    run = client.submit("client-run", action="run", backend="process")
    followed = [record["message"] for record in client.logs(run, follow=True)]
    assert "hello from the model" in followed
    assert client.wait(run).state.is_final
    assert {record["source"] for record in client.logs(run)} <= {"flow", "model"}


def test_a_batch_is_heard_of_as_it_goes_on_and_a_run_with_what_its_model_writes(
    installation: Installation, client: Client
) -> None:
    names = [installation.workspace(f"heard-{number}").name for number in range(4)]
    heard = client.events()
    assert next(heard).kind == "hello"
    batch = client.batch(names, action="score", concurrency=1)
    told = []
    for event in heard:
        if event.kind == "task" and event.data["id"] == batch.id:
            told.append(event.data)
            if event.data["state"] == "completed":
                break
    heard.close()
    states = [each["state"] for each in told]
    assert (
        states[0] == "queued"
        and "running" in states
        and states == sorted(states, key=["queued", "running", "completed"].index)
    )
    done = [each["progress"]["done"] for each in told if each["progress"]]
    assert done == sorted(done) and {each["progress"]["total"] for each in told if each["progress"]} <= {4}
    (listed,) = [task for task in client.tasks(action="batch").tasks if task.id == batch.id]
    assert told[-1] == listed.model_dump(by_alias=True, mode="json")

    program = "print('heard from the model', flush=True)"
    installation.workspace("heard-run", container={"cmd": [sys.executable, "-c", program]})
    run = client.submit("heard-run", action="run", backend="process")
    *events, last = client.events(run)
    assert (last.kind, last.data["state"]) == ("end", "completed")
    lines = [event.data["message"] for event in events if event.kind == "log"]
    assert lines.count("heard from the model") == 1
    final = [event.data for event in events if event.kind == "task"][-1]
    assert final == client.task(run).model_dump(by_alias=True, mode="json") and final["result"] is not None


def test_predictions_are_handed_in_to_a_benchmark(
    installation: Installation,
    client: Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_benchmark(installation.root, "client-league", quota={"per_day": 2})
    for name, labels in (("good", "xyxy"), ("bad", "xxxx")):
        (tmp_path / f"{name}.csv").write_text(rows(labels))
    handed = client.hand_in("client-league", predictions=tmp_path / "good.csv", team="team-a", label="by the client")
    assert handed["submission"]["number"] == 1 and handed["workspace"] == "client-league/submissions/team-a/0001"
    assert client.result(handed["task"]["id"], timeout=120).summary.score == 1.0
    assert "client-league" in [each["name"] for each in client.benchmarks()]
    # The same from a shell.
    monkeypatch.setenv("AUTOSCORER_API_TOKEN", installation.token("admin"))
    monkeypatch.setenv("AUTOSCORER_API_URL", installation.url)
    given = ["--predictions", str(tmp_path / "bad.csv"), "--team", "team-b"]
    assert main(["evaluate", "client-league", *given, "--remote", "--wait"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["task"]["result"]["summary"]["score"] == 0.5 and told["submission"]["team"] == "team-b"
    board = client.benchmark_leaderboard("client-league")
    assert [(row["place"], row["team"], row["label"]) for row in board] == [
        (1, "team-a", "by the client"),
        (2, "team-b", None),
    ]
    for wrong in ({}, {"image": "a:1", "predictions": "x"}, {"predictions": tmp_path / "good.csv", "cmd": ["x"]}):
        with pytest.raises(AutoScorerError, match="INVALID_REQUEST"):
            client.hand_in("client-league", **wrong)  # type: ignore[arg-type]
    with pytest.raises(AutoScorerError, match="MISSING_FILE"):
        client.hand_in("client-league", predictions=tmp_path / "none.csv", team="team-a")
    with pytest.raises(AutoScorerError, match="BENCHMARK_NOT_FOUND"):
        client.hand_in("nobodys", predictions=tmp_path / "good.csv", team="team-a")


def test_a_folder_is_uploaded_and_scored_in_a_batch(
    installation: Installation,
    client: Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, pred in (("best", None), ("worst", WRONG)):
        source = installation.workspace(f"client-source/{name}", pred=pred)
        moved = tmp_path / f"client-{name}"
        shutil.move(source, moved)
        assert client.upload(moved)["workspace"]["name"] == f"client-{name}"
    batch = client.wait(client.batch(["client-best", "client-worst"], action="score"), timeout=180)
    assert batch.state == "completed" and batch.outcome is None
    assert [row["workspace"] for row in client.leaderboard(batch)] == ["client-best", "client-worst"]
    assert [task.id for task in client.tasks(q="client-worst", action="batch").tasks] == [batch.id]
    # Each is a task of its own, with the very Result that stands in its workspace and its samples.
    best, worst = client.tasks(parent=batch, sort="-score").tasks
    assert (best.workspace, worst.workspace, best.parent) == ("client-best", "client-worst", batch.id)
    for member in (best, worst):
        assert member.workspace is not None
        written = json.loads((installation.root / member.workspace / "output" / "result.json").read_text())
        assert client.task(member).result == written and written["versioning"]["flow_run_id"] == batch.flow_run_id
        assert member.ended_at is not None and member.run_seconds is not None
        _, past = installation.call("GET", f"/workspaces/{member.workspace}/history")
        assert [each["task_id"] for each in past["data"]["results"]] == [member.id]
    assert client.samples(worst).total == client.samples(best).total > 0
    again = client.wait(client.retry(worst), timeout=180)
    assert (again.retry_of, again.state, again.parent) == (worst.id, "completed", None)
    # Which has changed nothing of what the batch came to.
    assert client.task(worst).result == written
    by_name = {each["name"]: each for each in client.workspaces(search="client-")}
    assert by_name["client-best"]["score"] == 1.0
    # The same from a shell.
    monkeypatch.setenv("AUTOSCORER_API_TOKEN", installation.token("submit"))
    for command in (["status", batch.id, "--watch"], ["leaderboard", batch.id]):
        assert main([*command, "--api", installation.url]) == 0
        data = json.loads(capsys.readouterr().out)["data"]
        shown = data if command[0] == "leaderboard" else data["batch"]
        assert shown["leaderboard"][0]["score"] == 1.0 and shown["summary"]["completed"] == 2


def test_what_runs_is_cancelled_and_its_result_says_so(installation: Installation, client: Client) -> None:
    program = "import time; time.sleep(300)"
    installation.workspace("client-long", pred="", container={"cmd": [sys.executable, "-c", program]})
    task = client.submit("client-long", backend="process")
    client.cancel(task)
    with pytest.raises(AutoScorerError) as caught:
        client.result(task, timeout=120)
    assert caught.value.code == "CANCELLED" and caught.value.details["task_id"] == task.id


def test_the_documentations_example_runs_as_it_is_written(installation: Installation) -> None:
    text = read("docs/python.md").partition("<!-- client -->")[2].partition("<!-- /client -->")[0]
    (block,) = blocks_of(text)
    assert block.language == "python"
    here = {
        "cwd": installation.root,
        "env": installation.person("admin"),
        "check": True,
        "capture_output": True,
        "text": True,
    }
    before = set(installation.root.iterdir())
    try:
        for command in (["init", "flowers"], ["pipeline", "flowers", "--backend", "process"]):
            subprocess.run([sys.executable, "-m", "autoscorer", *command], **here)
        done = subprocess.run([sys.executable, "-c", "\n".join(block.lines)], **here, timeout=300)
    finally:  # the installation is shared
        for path in set(installation.root.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    scored, uploaded, first, second, refused = done.stdout.splitlines()
    assert scored.startswith("0.866") and scored.endswith("True")
    assert uploaded.startswith("team-d [") and "output/result.json" in uploaded
    assert first.startswith("1 flowers 0.866") and second.startswith("1 team-d 0.866")
    assert refused.startswith("BAD_PARAMS") and "averag" in refused
