"""``autoscorer.Client`` and the commands that are made of it, over real HTTP to a real facade and its ledger.

Prefect is away here, so tasks that have ended are put into the ledger before the facade is started. A live
installation is asked in ``test_client_live``.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from autoscorer import AutoScorerError, Client, Settings
from autoscorer.cli.main import main
from autoscorer.client.packing import PackedFolder
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask, TaskEnd
from autoscorer.service.ledger.task_ids import new_task_id
from autoscorer.service.sync.members import members_of
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..service.test_disclosure import RESULT
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.ledger import new
from ..support.terminal import in_terminal
from ..support.workspaces import write_workspace

MISMATCH = {"code": "MISMATCH", "message": "Not the same ids.", "stage": "scoring", "details": {}}
WHOLE = {**RESULT, "timing": {}, "resources": {}, "summary": {**RESULT["summary"], "SECRET": None}}


def outcome(name: str, score: float | None, **more: Any) -> dict[str, Any]:
    return {
        "workspace": name, "state": "completed" if score is not None else "failed", "score": score, "metric": "f1",
        "higher_is_better": True, "interval": None, "pass": None, "rank": None, "seconds": 1.5,
        "error": None if score is not None else MISMATCH, **more,
    }  # fmt: skip


@dataclass
class Served:
    """A facade whose ledger has a task of each kind."""

    api: Facade
    root: Path
    scored: str
    failed: str
    batch: str


@pytest.fixture
def served(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    root = tmp_path / "root"
    for name in ("team-a", "team-b"):
        write_workspace(root, name)
    ids: dict[str, str] = {}

    async def fill() -> None:
        ledger = await Ledger.open(settings)
        for name, ending in {
            "scored": {"state": TaskState.COMPLETED, "result": WHOLE, "scorer": "classification_f1"},
            "failed": {"state": TaskState.FAILED, "error": MISMATCH},
        }.items():
            where = {"scored": "team-a", "failed": "team-b"}[name]
            task, _ = await ledger.add(
                new(str(root / where), request={"action": "score", "workspace": where, "priority": "normal"})
            )
            await ledger.finish([TaskEnd(task.id, **ending)])
            ids[name] = task.id
        outcomes = [outcome("team-b", None), outcome("team-a", 0.9)]
        summary = {"total": 2, "completed": 1, "failed": 1, "seconds": 3.0, "outcomes": outcomes}
        many = NewTask(
            id=new_task_id(), caller="c", action="batch", subject="b", workspace=None, scorer=None, priority="normal",
            request={"workspaces": ["team-*"], "action": "score", "concurrency": 2, "priority": "normal"},
            parameters={}, created_at=1.0,
        )  # fmt: skip
        batch, _ = await ledger.add(many)
        members = members_of(batch, outcomes, WorkspaceRoots(settings))
        await ledger.finish([TaskEnd(batch.id, TaskState.COMPLETED, result=summary, members=members)])
        ids["batch"] = batch.id
        await ledger.close()

    asyncio.run(fill())
    with facade(facade_settings(root)) as api:
        monkeypatch.setenv("AUTOSCORER_API_URL", api.url)
        monkeypatch.setenv("AUTOSCORER_API_TOKEN", ADMIN)
        yield Served(api, root, ids["scored"], ids["failed"], ids["batch"])


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client() as one:
        yield one


# --- the client ---------------------------------------------------------------------------------------------------


def test_importing_the_package_stays_cheap_and_the_client_loads_no_engine() -> None:
    script = (
        "import sys, autoscorer\n"
        "assert 'httpx' not in sys.modules and 'pydantic' not in sys.modules\n"
        "autoscorer.Client('http://127.0.0.1:9', 'token').close()\n"
        "heavy = {'numpy', 'pandas', 'prefect', 'docker', 'fastapi', 'sqlite3'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_workspace_is_submitted_once_whatever_is_lost(client: Client, served: Served) -> None:
    known: list[str] = []
    first = client.submit("team-a", action="score", params={"pass_threshold": 0.5}, idempotency_key="once")
    assert (first.state, first.workspace, first.params) == (TaskState.QUEUED, "team-a", {"pass_threshold": 0.5})
    again = client.submit(
        "team-a", action="score", params={"pass_threshold": 0.5}, idempotency_key="once",
        on_known=lambda task: known.append(task.id),
    )  # fmt: skip
    assert again.id == first.id and known == [first.id]
    # A folder that is here is the same workspace.
    assert client.submit(served.root / "team-a", action="score").id == first.id
    assert client.task(first).id == client.task(first.id).id == first.id
    # At once, but for a moment in which Prefect is about to be told of it.
    ended = client.wait(client.cancel(first), timeout=60)
    assert ended.state is TaskState.CANCELLED
    with pytest.raises(AutoScorerError) as caught:
        client.result(ended)
    assert (caught.value.code, caught.value.details["task_id"]) == ("CANCELLED", first.id)


def test_a_result_is_waited_for_and_a_failure_is_raised(client: Client, served: Served) -> None:
    result = client.result(served.scored)
    assert (result.summary.score, result.summary.passed, result.metrics["f1"]) == (0.123456, False, 0.123456)
    task = client.wait(served.scored)
    assert task.outcome is not None and task.outcome.metric == "f1" and task.outcome.interval is not None
    for expected, ask in {
        "MISMATCH": lambda: client.result(served.failed),
        "INVALID_REQUEST": lambda: client.result(served.batch),
        "NOT_FOUND": lambda: client.task("no-such-task"),
        "CONFLICT": lambda: client.result(client.submit("team-a"), timeout=0.1),
        "WORKSPACE_NOT_FOUND": lambda: client.submit("nobody"),
        "FORBIDDEN": lambda: client.submit("../elsewhere"),
    }.items():
        with pytest.raises(AutoScorerError) as caught:
            ask()
        assert caught.value.code == expected and caught.value.message


def test_waiting_for_too_short_tells_how_it_stands(client: Client) -> None:
    seen: list[str] = []
    task = client.wait(client.submit("team-b"), timeout=0.2, on_update=lambda now: seen.append(now.state))
    assert not task.state.is_final and set(seen) == {"queued"}


def test_what_has_ended_is_done_once_more_and_that_once(client: Client, served: Served) -> None:
    again = client.retry(served.failed, idempotency_key="again")
    assert again.retry_of == served.failed and again.state is TaskState.QUEUED
    assert client.wait(client.cancel(again), timeout=60).state is TaskState.CANCELLED
    known: list[str] = []
    assert (
        client.retry(served.failed, idempotency_key="again", on_known=lambda task: known.append(task.id)).id == again.id
    )
    assert known == [again.id]
    third = client.retry(served.failed)
    assert third.id != again.id
    with pytest.raises(AutoScorerError) as caught:
        client.retry(third)
    assert caught.value.code == "CONFLICT"


def test_tasks_are_listed_by_what_is_asked(client: Client, served: Served) -> None:
    page = client.tasks()
    assert [task.id for task in page.tasks] == [served.batch, served.failed, served.scored] and page.total == 3
    assert all(task.result is None for task in page.tasks)
    assert [task.id for task in client.tasks(states=["failed"]).tasks] == [served.failed]
    assert [task.id for task in client.tasks(q="TEAM-A").tasks] == [served.batch, served.scored]
    assert [task.id for task in client.tasks(workspace="team-b", action="score").tasks] == [served.failed]
    assert [task.id for task in client.tasks(sort="created").tasks] == [served.scored, served.failed, served.batch]
    assert [task.id for task in client.tasks(action=["score", "batch"], sort="-score", limit=2).tasks][:1] == [
        served.scored
    ]
    assert (
        client.tasks(scorer=["nobody", "none"]).total == client.tasks(passed=True, team="a", benchmark="b").total == 0
    )
    short = client.tasks(limit=2)
    assert len(short.tasks) == 2 and short.total == 3 and short.next_cursor is not None


def test_members_of_a_batch_are_listed_where_they_are_asked_for(client: Client, served: Served) -> None:
    best, worst = client.tasks(parent=served.batch, sort="-score").tasks
    assert (best.workspace, best.parent, best.state) == ("team-a", served.batch, TaskState.COMPLETED)
    assert (worst.workspace, worst.parent, worst.state) == ("team-b", served.batch, TaskState.FAILED)
    assert [task.id for task in client.tasks(parent=client.task(served.batch), states=["failed"]).tasks] == [worst.id]
    assert client.tasks(members=True).total == 5 and client.tasks().total == 3
    assert {task.id for task in client.tasks(members=True, workspace="team-a").tasks} == {served.scored}
    member = client.task(best)
    assert member.result is not None and member.result["summary"]["score"] == 0.9
    assert client.retry(worst).retry_of == worst.id
    with pytest.raises(AutoScorerError, match=served.batch) as caught:
        client.cancel(best)
    assert caught.value.code == "CONFLICT"


def test_a_batch_has_counts_and_a_leaderboard(client: Client, served: Served) -> None:
    view = client.batch_view(served.batch)
    assert (view.summary.completed, view.summary.failed, view.task.state) == (1, 1, "completed")
    rows = client.leaderboard(served.batch)
    assert [(row["place"], row["workspace"], row["score"]) for row in rows] == [
        (1, "team-a", 0.9),
        (None, "team-b", None),
    ]
    with pytest.raises(AutoScorerError) as caught:
        client.batch_view(served.scored)
    assert caught.value.code == "NOT_FOUND"
    task = client.batch("team-*", action="score", concurrency=4)
    assert task.action == "batch" and task.workspaces == ["team-*"]


def test_a_submit_token_is_told_what_it_may_know(served: Served) -> None:
    with Client(served.api.url, SUBMIT) as client:
        result = client.result(served.scored)
        assert result.summary.score == 0.1235 and "row/SECRET" not in result.metrics
        task = client.tasks(q="team-a", action="score").tasks[0]
        assert task.outcome is not None and task.outcome.score == 0.1235
        assert "SECRET" not in task.model_dump_json()
    with Client(served.api.url, "wrong") as client, pytest.raises(AutoScorerError) as caught:
        client.tasks()
    assert caught.value.code == "UNAUTHORIZED"


def test_many_threads_may_share_a_client(client: Client) -> None:
    found: list[str] = []

    def ask() -> None:
        found.append(client.submit("team-b", action="score").id)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(found) == 16 and len(set(found)) == 1


def test_an_answer_of_a_later_api_is_read_as_far_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from ..cli.test_cli_client import Api, error, ok, task

    api = Api()
    try:
        later = task("completed", news=1, result={**WHOLE, "news": 2}, outcome={"score": 1.0, "news": 3})
        api.answers["GET /tasks/t1"] = [ok(later)]
        api.answers["GET /tasks/t2"] = [ok({"id": "t2"})]
        api.answers["POST /workspaces"] = [error(413, "PAYLOAD_TOO_LARGE")]
        with Client(api.url, "token") as client:
            assert client.result("t1").summary.score == 0.123456
            with pytest.raises(AutoScorerError) as caught:
                client.task("t2")
            assert caught.value.code == "BACKEND_UNAVAILABLE" and "another version" in caught.value.message
    finally:
        api.stop()


# --- uploading ----------------------------------------------------------------------------------------------------


def a_folder(where: Path, **files: bytes) -> Path:
    """A workspace that was run and scored before, with what should stay at home."""
    folder = write_workspace(where, "my-model")
    for path, content in {
        "input/data/ä b.bin": bytes(range(256)) * 5000,
        "input/data/empty": b"",
        "output/result.json": b"{}",
        "output/artifacts/report.html": b"x",
        "output/history/result-1.json": b"x",
        "logs/container.log": b"x",
        ".autoscorer/lock": b"",
        "output/notes.txt": b"stays",
        **files,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "input/data/link").symlink_to("/etc/passwd")
    (folder / "input/data/linked-folder").symlink_to(folder)
    os.mkfifo(folder / "input/data/fifo")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


LEFT_OUT = {
    ".autoscorer", "input/data/fifo", "input/data/link", "input/data/linked-folder", "logs", "output/artifacts",
    "output/history", "output/result.json",
}  # fmt: skip


def test_a_folder_is_uploaded_without_links_results_and_logs(client: Client, served: Served, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "mine")
    told: list[tuple[int, int]] = []
    uploaded = client.upload(folder, on_progress=lambda done, total: told.append((done, total)))
    assert uploaded["workspace"]["name"] == "my-model" and uploaded["workspace"]["scorer"] == "classification_f1"
    assert set(uploaded["left_out"]) == LEFT_OUT
    there = served.root / "my-model"
    content = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert content == {
        "meta.json", "run.sh", "input/gt.csv", "input/data/x.csv", "input/data/ä b.bin", "input/data/empty",
        "output/pred.csv", "output/notes.txt",
    }  # fmt: skip
    assert (there / "input/data/ä b.bin").read_bytes() == (folder / "input/data/ä b.bin").read_bytes()
    assert os.access(there / "run.sh", os.X_OK) and not os.access(there / "meta.json", os.X_OK)
    assert told == sorted(told) and told[-1][0] == told[-1][1] == sum((there / name).stat().st_size for name in content)
    assert [each["name"] for each in client.workspaces(search="my-")] == ["my-model"]
    with pytest.raises(AutoScorerError) as caught:
        client.upload(folder)
    assert caught.value.code == "CONFLICT"
    assert client.upload(folder, name="other")["workspace"]["name"] == "other"
    assert [each["name"] for each in client.workspaces()] == ["my-model", "other", "team-a", "team-b"]
    assert [each["name"] for each in client.workspaces(limit=2)] == ["my-model", "other"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_uploaded_as_it_is(client: Client, served: Served, tmp_path: Path, kind: str) -> None:
    source = write_workspace(tmp_path, "source")
    archive = tmp_path / f"packed.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in source.rglob("*"):
                packed.write(path, path.relative_to(source))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(source, "source")
    told: list[tuple[int, int]] = []
    uploaded = client.upload(archive, name="unpacked", on_progress=lambda done, total: told.append((done, total)))
    assert uploaded["workspace"]["name"] == "unpacked" and uploaded["left_out"] == []
    assert told[-1] == (archive.stat().st_size,) * 2
    assert (served.root / "unpacked" / "output" / "pred.csv").is_file()


def test_what_can_not_be_uploaded_is_told(client: Client, served: Served, tmp_path: Path) -> None:
    empty, linked = tmp_path / "empty", tmp_path / "linked"
    empty.mkdir()
    linked.mkdir()
    (linked / "meta.json").symlink_to(served.root / "team-a" / "meta.json")
    (tmp_path / "no-archive.zip").write_bytes(b"hello")
    for path, code in {
        empty: "INVALID_META",
        linked: "INVALID_META",
        tmp_path / "nothing": "INVALID_REQUEST",
        tmp_path / "no-archive.zip": "INVALID_REQUEST",
    }.items():
        with pytest.raises(AutoScorerError) as caught:
            client.upload(path)
        assert caught.value.code == code, path
    with Client(served.api.url, "wrong") as stranger, pytest.raises(AutoScorerError) as caught:
        stranger.upload(a_folder(tmp_path / "large", **{"input/data/more": os.urandom(8_000_000)}))
    assert caught.value.code == "UNAUTHORIZED"
    assert sorted(path.name for path in served.root.iterdir()) == ["team-a", "team-b"]


def test_a_file_that_changes_while_it_is_sent_is_no_upload(client: Client, served: Served, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "mine", **{"input/data/zz": b"x" * 3_000_000})

    def cut(done: int, total: int) -> None:
        (folder / "input/data/zz").write_bytes(b"")

    with pytest.raises(AutoScorerError) as caught:
        client.upload(folder, on_progress=cut)
    assert caught.value.code == "INVALID_REQUEST" and "shorter" in caught.value.message
    assert not (served.root / "my-model").exists()


def test_a_folder_is_packed_as_other_tools_read_it(tmp_path: Path) -> None:
    long = "d" * 120
    folder = a_folder(tmp_path, **{f"{long}/{'e' * 120}/f": b"deep"})
    packed = PackedFolder(folder)
    data = b"".join(packed.chunks())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        deep = tar.extractfile(f"{long}/{'e' * 120}/f")
        assert deep is not None and deep.read() == b"deep"
        assert all(member.isreg() or member.isdir() for member in tar)
    assert "meta.json" in names and not [name for name in names if name.startswith(("logs", ".autoscorer"))]
    assert set(packed.left_out) == LEFT_OUT


# --- the commands -------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(served: Served, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, Any, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        answer = json.loads(out)
        return code, answer.get("data") or answer.get("error"), err

    return call


@pytest.mark.slow
def test_status_shows_score_metric_and_scorer(served: Served, run: Run) -> None:
    code, task, _ = run("status", served.scored)
    assert code == 0 and task["outcome"]["metric"] == "f1" and task["scorer"] == "classification_f1"
    code, shown = in_terminal("status", served.scored)
    assert code == 0 and "f1 0.123456 [0.111111, 0.222222]  fail" in shown and "classification_f1" in shown
    code, shown = in_terminal("status", "--name", "team")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    line = next(line for line in shown.splitlines() if served.scored in line)
    assert code == 0 and "f1 0.123456  fail" in line and "classification_f1" in line
    assert "MISMATCH" in next(line for line in shown.splitlines() if served.failed in line)
    code, page, _ = run("status", "--name", "team-b", "--state", "failed")
    assert [each["id"] for each in page["tasks"]] == [served.failed]
    code, page, _ = run("status", "--parent", served.batch)
    assert (code, [each["workspace"] for each in page["tasks"]]) == (0, ["team-a", "team-b"])
    code, found, _ = run("status", "--members", "--name", "team-b", "--state", "failed")
    assert {each["id"] for each in found["tasks"]} == {served.failed, page["tasks"][1]["id"]}
    code, shown = in_terminal("status", page["tasks"][0]["id"])
    assert code == 0 and served.batch in shown and "f1 0.9" in shown


@pytest.mark.slow
def test_status_of_a_batch_shows_its_counts_and_who_is_best(served: Served, run: Run) -> None:
    code, task, _ = run("status", served.batch)
    assert code == 0 and task["id"] == served.batch
    assert task["batch"]["summary"]["failed"] == 1 and task["batch"]["leaderboard"][0]["workspace"] == "team-a"
    code, task, err = run("status", served.batch, "--watch")
    assert code == 0 and task["batch"]["summary"]["completed"] == 1
    assert "1 completed, 1 failed" in err
    for arguments in (("status", served.batch), ("status", served.batch, "--watch"), ("leaderboard", served.batch)):
        code, shown = in_terminal(*arguments)
        assert code == 0 and "1 completed, 1 failed" in shown and "MISMATCH" in shown, shown
        assert shown.index("team-a") < shown.index("team-b")


def test_a_leaderboard_is_shown_and_written(served: Served, run: Run, tmp_path: Path) -> None:
    board = tmp_path / "board.csv"
    code, data, _ = run("leaderboard", served.batch, "--csv", str(board))
    assert code == 0 and data["state"] == "completed" and [row["place"] for row in data["leaderboard"]] == [1, None]
    assert board.read_text().splitlines()[1].startswith("1,team-a,completed,f1,0.9")
    for arguments, code in {
        ("leaderboard", served.scored): "NOT_FOUND",
        ("leaderboard", "nobody"): "NOT_FOUND",
        ("leaderboard", served.batch, "--csv", "/no/such/folder/x"): "INVALID_REQUEST",
    }.items():
        got, error, _ = run(*arguments)
        assert got == 2 and error["code"] == code


def test_a_task_is_repeated_from_the_shell(served: Served, run: Run) -> None:
    code, task, _ = run("retry", served.failed)
    assert code == 0 and task["retry_of"] == served.failed and task["state"] == "queued"
    code, error, _ = run("retry", task["id"])
    assert code == 2 and error["code"] == "CONFLICT"
    code, unended, err = run("retry", served.scored, "--wait", "0.2")
    assert code == 3 and unended["state"] == "queued" and "goes on" in err


@pytest.mark.slow
def test_a_folder_is_uploaded_and_found_from_the_shell(served: Served, run: Run, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "mine")
    code, data, _ = run("upload", str(folder))
    assert code == 0 and data["workspace"]["name"] == "my-model" and "logs" in data["left_out"]
    code, error, _ = run("upload", str(folder))
    assert code == 2 and error["code"] == "CONFLICT"
    code, shown = in_terminal("upload", str(folder), "--name", "shown")
    assert code == 0 and "left out: output/result.json" in shown and "autoscorer submit shown" in shown
    assert "unpacking" in shown
    code, data, _ = run("workspaces")
    assert code == 0 and [each["name"] for each in data["workspaces"]] == ["my-model", "shown", "team-a", "team-b"]
    assert len(run("workspaces", "--limit", "1")[1]["workspaces"]) == 1
    code, shown = in_terminal("workspaces", "--name", "team")
    assert code == 0 and "team-a" in shown and "my-model" not in shown and "2 workspaces" in shown
    assert run("upload", str(tmp_path / "nothing"))[0] == 2


@pytest.mark.parametrize(("token", "why"), [("wrong", "holds another one"), (None, "is not set")])
def test_a_command_without_the_right_token_names_the_variable(
    served: Served, run: Run, monkeypatch: pytest.MonkeyPatch, token: str | None, why: str
) -> None:
    monkeypatch.delenv("AUTOSCORER_API_TOKEN")
    if token is not None:
        monkeypatch.setenv("AUTOSCORER_API_TOKEN", token)
    for command in (["workspaces"], ["status"], ["upload", str(served.root / "team-a")], ["submit", "team-a"]):
        code, error, _ = run(*command)
        assert code == 2 and error["code"] == "UNAUTHORIZED"
        assert f"AUTOSCORER_API_TOKEN, which {why}" in error["message"]


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("batch", "leaderboard", "retry", "status", "upload", "workspaces"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"autoscorer {command} " in " ".join(capsys.readouterr().out.partition("Examples:")[2].split()), command


@pytest.mark.parametrize("command", [["leaderboard", "x"], ["retry", "x"], ["upload", "."], ["workspaces"]])
def test_an_api_that_is_away_is_told(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_workspace(tmp_path, "here"))
    assert main([*command, "--api", "http://127.0.0.1:9"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["code"] == "BACKEND_UNAVAILABLE" and "autoscorer up" in answer["error"]["message"]
    assert main([*command, "--api", "ftp://x"]) == 2


@pytest.mark.slow
def test_events_are_heard_as_the_api_tells_them_and_go_on_after_a_restart(served: Served) -> None:
    with Client(served.api.url, ADMIN) as client:
        heard = client.events()
        hello = next(heard)
        assert (hello.kind, hello.data["resumed"]) == ("hello", False) and hello.id == hello.data["position"]
        write_workspace(served.root, "heard-of")
        task = client.submit("heard-of", action="validate")
        event = next(heard)
        assert (event.kind, event.data["id"], event.data["state"]) == ("task", task.id, "queued")
        heard.close()
        client.cancel(task)
        # From an id on nothing is missed.
        resumed, event = (lambda again: (next(again), next(again)))(client.events(after=hello.id))
        assert resumed.data["resumed"] is True
        assert (event.kind, event.data["id"], event.data["state"]) == ("task", task.id, "cancelled")
        reset = [next(again) for again in [client.events(after="of another ledger")] for _ in range(2)]
        assert [each.kind for each in reset] == ["hello", "reset"]
        # Of one task until its end, which has come.
        about = [*client.events(served.scored)]
        assert [each.kind for each in about] == ["hello", "task", "end"]
        assert about[1].data == client.task(served.scored).model_dump(by_alias=True, mode="json")
        with pytest.raises(AutoScorerError) as caught:
            next(client.events("0" * 32))
        assert caught.value.code == "NOT_FOUND"
    with Client(served.api.url, "no-token") as client, pytest.raises(AutoScorerError) as caught:
        next(client.events())
    assert caught.value.code == "UNAUTHORIZED"
