"""Replacing and deleting a workspace over HTTP: whole or not at all, and what it came to is not forgotten."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from autoscorer.core.config import Settings
from autoscorer.core.workspace import Workspace
from autoscorer.executors import files as executor_files
from autoscorer.service.workspaces.replacing import means
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.service.workspaces.uploads import remove_leftovers
from autoscorer.tasks.score import score_workspace

from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.prefect_server import eventually
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow  # all together; each is quick

META = json.dumps({"task_type": "classification", "scorer": "classification_f1", "description": "the new one"})


def packed(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in {"meta.json": META, "input/gt.csv": "id,label\nc,x\nd,y\n", **files}.items():
            archive.writestr(name, text)
    return data.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "round"
    folder.mkdir()
    return folder


@pytest.fixture
def api(root: Path) -> Iterator[Facade]:
    with facade(facade_settings(root)) as one:
        yield one


def put(api: Facade, name: str, content: bytes, *, token: str = ADMIN) -> tuple[int, Any]:
    answer = httpx.put(
        f"{api.url}/workspaces/{name}",
        files={"file": ("team.zip", content)},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=300,
    )
    body = answer.json()
    return answer.status_code, body["data"] if body["ok"] else body["error"]


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(".")]


def test_another_workspace_takes_the_place_and_the_old_results_stay_in_the_history(api: Facade, root: Path) -> None:
    folder = write_workspace(root, "team")
    first = score_workspace(folder, settings=api.settings)
    (folder / "output" / "pred.csv").write_text("id,label\na,y\nb,y\n")
    second = score_workspace(folder, settings=api.settings)
    status, told = put(api, "team", packed(**{"output/pred.csv": "id,label\nc,x\nd,x\n", "output/result.json": "{}"}))
    assert status == 200, told
    assert told["workspace"]["name"] == "team" and told["left_out"] == ["output/result.json"]
    assert told["workspace"]["score"] is None and json.loads((folder / "meta.json").read_text()) == json.loads(META)
    assert (folder / "input" / "gt.csv").read_text() == "id,label\nc,x\nd,y\n"
    results = api.call("GET", "/workspaces/team/history", token=ADMIN).data["results"]
    assert [each["score"] for each in results] == [second.summary.score, first.summary.score]
    assert not any(each["stands"] for each in results)
    for artifact in (*first.artifacts.values(), *second.artifacts.values()):
        assert (folder / ".autoscorer" / "artifacts" / str(artifact.sha256)).is_file()
    third = score_workspace(folder, settings=api.settings)
    results = api.call("GET", "/workspaces/team/history", token=ADMIN).data["results"]
    assert [each["stands"] for each in results] == [True, False, False]
    assert results[0]["score"] == third.summary.score
    assert hidden(root) == []


def test_what_is_no_workspace_replaces_nothing(api: Facade, root: Path) -> None:
    folder = write_workspace(root, "team")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for content, code in ((b"no archive", "INVALID_REQUEST"), (packed(**{"meta.json": "{"}), "INVALID_META")):
        assert put(api, "team", content)[1]["code"] == code
    assert put(api, "team", packed(), token=SUBMIT)[1]["code"] == "FORBIDDEN"
    assert put(api, "nobody", packed())[1]["code"] == "WORKSPACE_NOT_FOUND"
    assert put(api, "team/input", packed())[1]["code"] == "FORBIDDEN"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert hidden(root) == []


def test_a_workspace_deeper_below_the_root_is_replaced_where_it_is(api: Facade, root: Path) -> None:
    folder = write_workspace(root / "a" / "b", "team")
    assert put(api, "a/b/team", packed())[0] == 200
    assert json.loads((folder / "meta.json").read_text())["description"] == "the new one"


@pytest.mark.parametrize("batch", [False, True])
def test_nothing_is_changed_while_a_task_has_not_ended(api: Facade, root: Path, batch: bool) -> None:
    folder = write_workspace(root, "team")
    if batch:
        answer = api.call("POST", "/batch", {"workspaces": ["te*"], "action": "score"}, token=ADMIN)
    else:
        answer = api.call("POST", "/submit", {"action": "score", "workspace": "team"}, token=ADMIN)
    task = answer.data["id"]
    status, error = put(api, "team", packed())
    assert (status, error["code"]) == (409, "CONFLICT") and error["details"]["tasks"] == [task]
    assert api.call("DELETE", "/workspaces/team", token=ADMIN).error["code"] == "CONFLICT"
    assert "description" not in json.loads((folder / "meta.json").read_text())
    assert api.call("POST", f"/tasks/{task}/cancel", token=ADMIN).status == 200
    # Not at once in the moment in which Prefect is about to be told of it.
    eventually(lambda: api.call("GET", f"/tasks/{task}", token=ADMIN).data["state"] == "cancelled")
    assert put(api, "team", packed())[0] == 200


def test_nothing_is_changed_while_a_command_holds_the_workspace(api: Facade, root: Path) -> None:
    folder = write_workspace(root, "team")
    with Workspace(folder).lock():
        assert put(api, "team", packed())[1]["code"] == "CONFLICT"
        assert api.call("DELETE", "/workspaces/team", token=ADMIN).error["code"] == "CONFLICT"
    assert (folder / "input" / "gt.csv").read_text() == "id,label\na,x\nb,y\n"
    assert hidden(root) == []


def test_a_deleted_workspace_is_gone_and_its_tasks_say_so(api: Facade, root: Path) -> None:
    folder = write_workspace(root, "team")
    write_workspace(root, "other")
    score_workspace(folder, settings=api.settings)
    # A model may leave a folder that nobody may enter.
    (folder / "output" / "closed").mkdir(mode=0o000)
    assert api.call("DELETE", "/workspaces/team", token=SUBMIT).error["code"] == "FORBIDDEN"
    assert folder.is_dir()
    assert api.call("DELETE", "/workspaces/team", token=ADMIN).data == {"name": "team"}
    assert not folder.exists() and hidden(root) == []
    assert api.call("DELETE", "/workspaces/team", token=ADMIN).error["code"] == "WORKSPACE_NOT_FOUND"
    listed = api.call("GET", "/workspaces", token=ADMIN).data["workspaces"]
    assert [each["name"] for each in listed] == ["other"]
    assert api.call("DELETE", "/workspaces/other%2Finput", token=ADMIN).error["code"] == "FORBIDDEN"


def test_a_root_that_is_a_workspace_is_not_touched(tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, "team")
    write_workspace(tmp_path, "beside")
    settings = facade_settings(tmp_path)
    with facade(settings.model_copy(update={"workspace_roots": (folder, tmp_path / "beside")})) as api:
        assert put(api, "team", packed())[1]["code"] == "FORBIDDEN"
        assert api.call("DELETE", "/workspaces/team", token=ADMIN).error["code"] == "FORBIDDEN"
    assert (folder / "meta.json").is_file()


PROGRAM = """
import asyncio, sys
from pathlib import Path
from autoscorer.core.config import Settings
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.service.workspaces.uploads import Uploads

async def main():
    root, archives = Path(sys.argv[1]), [Path(each).read_bytes() for each in sys.argv[2:]]
    settings = Settings(workspace_roots=(root,))
    async with Uploads.running(settings, WorkspaceRoots(settings)) as uploads:
        print("ready", flush=True)
        while True:
            for archive in archives:
                async with uploads.begin(replacing=root / "team") as upload:
                    await upload.write(archive)
                    await upload.place(name=None, filename="x.zip")
                print("replaced", flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_killed_replacing_leaves_the_one_or_the_other_and_every_result(
    root: Path, tmp_path: Path, settings: Settings
) -> None:
    folder = write_workspace(root, "team")
    score_workspace(folder, settings=settings)
    bodies = []
    for mark in "AB":
        path = tmp_path / f"{mark}.zip"
        path.write_bytes(packed(**{f"input/data/{n}.txt": mark * 1000 for n in range(40)}))
        bodies.append(str(path))
    roots = WorkspaceRoots(settings.model_copy(update={"workspace_roots": (root,)}))
    for turn in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root), *bodies], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        # On a busy machine the first may take longer than any of these moments.
        assert turn < 3 or process.stdout.readline() == "replaced\n"
        time.sleep(0.05 + 0.09 * turn)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for left in root.glob(".*"):
            if not (left / "lock").exists():  # killed before it was locked: removed when it is a minute old
                os.utime(left, (1, 1))
        remove_leftovers(roots)
        data = {path.read_text() for path in (folder / "input" / "data").glob("*.txt")}
        assert len(data) <= 1 and len(list((folder / "input" / "data").glob("*.txt"))) in (0, 40)
        kept = list((folder / "output" / "history").glob("result-*.json"))
        assert kept or (folder / "output" / "result.json").is_file()
        assert list((folder / ".autoscorer" / "artifacts").iterdir()), "its artifacts came along"
        assert hidden(root) == []
    assert len(list((folder / "output" / "history").glob("result-*.json"))) == 1


def test_without_an_exchange_in_one_step_a_kill_between_the_two_renames_is_mended(
    root: Path, tmp_path: Path, settings: Settings
) -> None:
    folder = write_workspace(root, "team")
    path = tmp_path / "a.zip"
    path.write_bytes(packed())
    # NFS has no RENAME_EXCHANGE; the process dies when the old workspace has been moved aside.
    program = (
        "import ctypes, os, signal\n"
        "ctypes.CDLL = lambda *a, **k: type('None', (), {})()\n"
        "real = os.rename\n"
        "def rename(old, new, **options):\n"
        "    real(old, new, **options)\n"
        "    if str(new).endswith('.replaced'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.rename = rename\n" + PROGRAM
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(root), str(path)], stdout=subprocess.PIPE, text=True, timeout=300
    )
    assert process.returncode == -signal.SIGKILL and not folder.exists()
    remove_leftovers(WorkspaceRoots(settings.model_copy(update={"workspace_roots": (root,)})))
    assert (folder / "input" / "gt.csv").read_text() == "id,label\na,x\nb,y\n"
    assert (folder / "output" / "pred.csv").is_file() and hidden(root) == []


def test_who_waited_for_the_lock_of_a_replaced_workspace_does_not_get_it(root: Path) -> None:
    old = write_workspace(root, "team")
    new = write_workspace(root, ".new")
    space = Workspace(old)
    with space.lock():
        executor_files.exchange(new, old)
        # The lock that is held now lies in the folder that was moved away.
        os.makedirs(old / ".autoscorer", exist_ok=True)
        with Workspace(old).lock():
            pass
    with Workspace(new).lock():
        pass


@pytest.mark.parametrize(
    ("item", "is_meant"),
    [
        ("/r/team", True),
        ("/r", True),
        ("/r/te*", True),
        ("/r/**", True),
        ("/r/**/x", True),
        ("/r/other", False),
        ("/r/tea", False),
        ("/r/o*", False),
        ("/q/**", False),
    ],
)
def test_a_batch_means_what_its_folders_and_patterns_hold(item: str, is_meant: bool) -> None:
    assert means([item], Path("/r/team")) is is_meant
