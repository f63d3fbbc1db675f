"""``autoscorer batch --local``: many workspaces in the command's own process, without Prefect, a server or an API."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.workspace import Workspace
from autoscorer.executors.records import RunRecords

from ..support.prefect_server import eventually
from ..support.terminal import in_terminal
from ..support.workspaces import result_of
from .test_batch import SCORER

TRUTH = "id,label\na,x\nb,y\n"
# A model that is right, wherever it is run.
QUICK = f"""
import os, pathlib
pathlib.Path(os.environ["AUTOSCORER_WORKSPACE"], "output/pred.csv").write_text({TRUTH!r})
"""
COMMAND = [sys.executable, "-m", "autoscorer", "batch", "--local"]


@pytest.fixture
def crowd(make_workspace: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A folder of workspaces; the current folder is beside it."""
    monkeypatch.chdir(tmp_path)

    def make(**preds: str | None) -> Path:
        for name, pred in preds.items():
            make_workspace(f"crowd/{name}", truth=TRUTH, pred=pred)
        return tmp_path / "crowd"

    return make


def model(make_workspace: Callable[..., Path], name: str, code: str, **meta: Any) -> Path:
    """A workspace with a model that runs unsealed."""
    return make_workspace(f"crowd/{name}", truth=TRUTH, container={"cmd": [sys.executable, "-c", code]}, **meta)


def batch(*arguments: str) -> tuple[int, Any, str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    return done.returncode, answer.get("data") or answer.get("error"), done.stderr


@pytest.mark.slow
def test_predictions_are_scored_and_ranked(crowd: Callable[..., Path], tmp_path: Path) -> None:
    folder = crowd(best=TRUTH, worst="id,label\na,x\nb,x\n", broken="id,label\na,x\n")
    (folder / "no-workspace").mkdir()
    board = tmp_path / "board.csv"
    code, data, err = batch("crowd", "crowd/best", "--action", "score", "--csv", str(board))
    assert code == 0, data
    rows = data["leaderboard"]
    assert [(row["place"], row["workspace"]) for row in rows] == [
        (1, "crowd/best"),
        (2, "crowd/worst"),
        (None, "crowd/broken"),
    ]
    assert rows[0]["score"] == 1.0 and rows[2]["error"] == "MISMATCH"
    summary = data["summary"]
    assert (summary["total"], summary["completed"], summary["failed"], summary["duplicates"]) == (4, 2, 1, 1)
    assert "crowd/broken  failed  MISMATCH" in err and "4 of 4" in err
    with board.open(newline="") as file:
        assert [row["place"] for row in csv.DictReader(file)] == ["1", "2", ""]
    assert result_of(folder / "best")["versioning"]["flow_run_id"] is None
    assert result_of(folder / "broken")["error"]["code"] == "MISMATCH"


@pytest.mark.slow
def test_it_needs_no_prefect(crowd: Callable[..., Path]) -> None:
    crowd(one=TRUTH)
    script = (
        "import sys\nfrom autoscorer.cli.main import main\n"
        "code = main(['batch', '--local', 'crowd', '--action', 'score', '--json'])\n"
        "heavy = {'prefect', 'fastapi', 'docker'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_models_run_and_one_failure_stops_none_of_the_others(make_workspace: Any, crowd: Any) -> None:
    crowd()
    roots = [model(make_workspace, f"good-{number}", QUICK) for number in range(3)]
    model(make_workspace, "bad", "raise SystemExit(4)")
    code, data, _ = batch("crowd", "--backend", "process", "--concurrency", "3", "--param", "pass_threshold=0.5")
    assert code == 0, data
    assert [(row["workspace"], row["score"], row["pass"], row["error"]) for row in data["leaderboard"]] == [
        *((f"crowd/good-{number}", 1.0, True, None) for number in range(3)),
        ("crowd/bad", None, None, "CONTAINER_FAILED"),
    ]
    assert all(result_of(root)["summary"]["score"] == 1.0 for root in roots)


@pytest.mark.slow
def test_on_a_terminal_there_is_a_bar_and_a_leaderboard(crowd: Callable[..., Path]) -> None:
    crowd(best=TRUTH, broken="id,label\na,x\n")
    code, shown = in_terminal("batch", "--local", "crowd", "--action", "score")
    assert code == 0 and "2/2" in shown and "1 completed, 1 failed" in shown, shown
    assert "failed  crowd/broken  MISMATCH" in shown and shown.rindex("crowd/best") < shown.rindex("crowd/broken")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_models_and_scorers_in_order(
    make_workspace: Any, crowd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    (tmp_path / "scorers").mkdir()
    (tmp_path / "scorers" / "wilful.py").write_text(SCORER.replace("VERSION", "1.0.0"))
    crowd()
    endless = "import os, time\nopen(os.environ['AUTOSCORER_WORKSPACE'] + '/output/here', 'w').close()\ntime.sleep(600)"
    done = model(make_workspace, "a-quick", QUICK)
    runs = model(make_workspace, "b-model", endless)
    scores = model(make_workspace, "c-waits", QUICK, scorer="wilful")
    last = model(make_workspace, "d-not-reached", QUICK)
    process = subprocess.Popen(
        [*COMMAND, "crowd", "--backend", "process", "--concurrency", "2", "--scorers", "scorers"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # Both are under way: a model that never ends, and a scorer that waits for ever.
        assert eventually(lambda: (tmp_path / "crowd" / "asked").exists())
        assert eventually(lambda: Workspace(runs).is_held())
        pid = int((tmp_path / "crowd" / "asked").read_text().split()[1])
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1 and "Traceback" not in err, err
    assert json.loads(out)["error"]["code"] == "CANCELLED"
    assert result_of(done)["summary"]["score"] == 1.0
    for root in (runs, scores):
        assert result_of(root)["error"]["code"] == "CANCELLED", root
        assert not Workspace(root).is_held()
    assert not (last / "output").exists()
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
    assert f"crowd/{runs.name}  cancelled" in err and f"crowd/{scores.name}  cancelled" in err


@pytest.mark.docker
def test_sealed_models_run_side_by_side_and_a_signal_leaves_no_container(
    make_workspace: Any, crowd: Any, home: Path, busybox: str, docker_client: Any
) -> None:
    crowd()
    predict = f"printf '{TRUTH}' > /workspace/output/pred.csv"
    sealed = {"container": {"image": busybox, "cmd": ["sh", "-c", predict]}}
    done = make_workspace("crowd/a-quick", truth=TRUTH, **sealed)
    endless = {"container": {"image": busybox, "cmd": ["sleep", "600"]}}
    roots = [make_workspace(f"crowd/b-endless-{number}", truth=TRUTH, **endless) for number in range(2)]
    process = subprocess.Popen(
        [*COMMAND, "crowd", "--backend", "docker"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def ours() -> list[Any]:
        # The engine is other tests' too: those of this home.
        known = {record.run_id for record in RunRecords(home).all()}
        return [each for each in docker_client.containers() if known & set(each["Labels"].values()) and each["Labels"]]

    try:
        assert eventually(lambda: len(ours()) == 2 and (done / "output" / "result.json").exists())
        running = {each["Id"] for each in ours()}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1 and json.loads(out)["error"]["code"] == "CANCELLED", err
    assert result_of(done)["summary"]["score"] == 1.0
    assert [result_of(root)["error"]["code"] for root in roots] == ["CANCELLED", "CANCELLED"]
    assert not running & {each["Id"] for each in docker_client.containers(all=True)}
    assert not list(RunRecords(home).all())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nothing-here"], "WORKSPACE_NOT_FOUND"),
        (["crowd/one", "nothing-here"], "WORKSPACE_NOT_FOUND"),
        (["."], "INVALID_META"),
        (["crowd/*.x"], "WORKSPACE_NOT_FOUND"),
        (["crowd", "--wait"], "INVALID_REQUEST"),
        (["crowd", "--api", "http://127.0.0.1:9"], "INVALID_REQUEST"),
        (["crowd", "--priority", "high"], "INVALID_REQUEST"),
        (["crowd", "--callback-url", "http://example.org"], "INVALID_REQUEST"),
        (["crowd", "--concurrency", "0"], "INVALID_REQUEST"),
        (["crowd", "--csv", "/no/such/folder/x.csv"], "INVALID_REQUEST"),
        (["crowd", "--scorers", "no-such-folder"], "INVALID_REQUEST"),
    ],
)
def test_what_can_not_be_done_is_told_before_any_work(
    crowd: Callable[..., Path], arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = crowd(one=TRUTH)
    got = main(["batch", "--local", *arguments, "--action", "score"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert got in (1, 2) and error["code"] == code and error["message"]
    assert not (folder / "one" / "output" / "result.json").exists()


@pytest.mark.slow
def test_a_workspace_that_another_run_holds_is_waited_for(crowd: Callable[..., Path]) -> None:
    folder = crowd(one=TRUTH, two=TRUTH)
    process = None
    with Workspace(folder / "one").lock():
        process = subprocess.Popen([*COMMAND, "crowd", "--action", "score"], stdout=subprocess.PIPE, text=True)
        assert eventually(lambda: (folder / "two" / "output" / "result.json").exists())
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and [row["score"] for row in json.loads(out)["data"]["leaderboard"]] == [1.0, 1.0]
