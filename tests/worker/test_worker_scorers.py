"""What a custom scorer does to a live worker: its own run fails, with a reason; no other run notices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.prefect_server import eventually, server
from ..support.workspaces import result_of
from ..tasks.test_scoring_process import HANGS, text_of
from .test_worker import GOOD, TRUTH, Runs, Worker, runs

__all__ = ["runs", "server"]

pytestmark = [
    pytest.mark.prefect,
    # Prefect 3.8 leaves sockets and event loops of its background services to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

# Notes that it ran, and leaves good predictions.
MODEL = f"""
import os, pathlib
root = pathlib.Path(os.environ["AUTOSCORER_WORKSPACE"])
with open(RAN, "a") as ran:
    ran.write("x")
(root / "output" / "pred.csv").write_text({GOOD!r})
"""


@pytest.fixture(scope="module")
def worker(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker whose folder of scorers holds files that hang, end their process, and are no files at all."""
    home = tmp_path_factory.mktemp("besieged")
    folder = home / "scorers"
    folder.mkdir()
    (folder / "a_hangs.py").write_text(HANGS)
    (folder / "b_exits.py").write_text("import os; os._exit(0)")
    (folder / "c_loop.py").symlink_to("c_loop.py")
    (folder / "mine.py").write_text(text_of("mine"))
    limits = {
        "AUTOSCORER_SECURITY__LIMITS__SCORING_MEMORY": "256Mi",
        # The files that nobody knows are tried once, by the first run that needs ``mine``.
        "AUTOSCORER_SCORERS__LOAD_TIMEOUT": "5",
    }
    worker = Worker(home, **limits)
    eventually(worker.lines)
    yield worker
    assert worker.stop() == 0, worker.log_file.read_text()
    assert not [line for line in worker.lines() if line["level"] == "error"]


def score(runs: Runs, worker: Worker, root: Path, what: str) -> str:
    return runs.start("score", worker.home, workspace=str(root), scorer="mine", params={"does": what})


def test_files_that_hang_or_crash_hold_up_no_run_of_a_built_in_scorer(
    runs: Runs, worker: Worker, make_workspace: Callable[..., Path]
) -> None:
    root = make_workspace("plain", truth=TRUTH, pred=GOOD, container={"cmd": ["true"]})
    started = [runs.start("score", worker.home, workspace=str(root))]
    started.append(runs.start("validate", worker.home, workspace=str(root), backend="process"))
    for run_id in started:
        run = runs.ended(run_id)
        assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 1), worker.lines()
    assert not (worker.home / "scorers" / "a_hangs.py.tried").exists()


@pytest.mark.parametrize(
    "what",
    [
        "raise SystemExit(0)",
        "os._exit(0)",
        "raise ValueError('x' * 10**8)",
        "os.kill(os.getppid(), 9); time.sleep(600)",
        "os.killpg(0, 9)",
    ],
)
def test_a_scorer_that_ends_its_process_or_its_parent_costs_its_own_run_alone(
    runs: Runs, worker: Worker, make_workspace: Callable[..., Path], what: str
) -> None:
    neighbour, root = (make_workspace(name, truth=TRUTH, pred=GOOD) for name in ("neighbour", "hostile"))
    beside = score(runs, worker, neighbour, "while not (workspace / 'go').exists(): time.sleep(0.02)")
    server_of_it = parent(worker.child(beside))
    run_id = score(runs, worker, root, what)
    run = runs.ended(run_id)
    (neighbour / "go").touch()
    assert (run["state"]["type"], run["run_count"]) == ("FAILED", 1), worker.lines()
    assert run["state"]["message"].startswith("SCORER_ERROR") and len(run["state"]["message"]) < 2500
    assert result_of(root)["error"]["code"] == "SCORER_ERROR" and (root / "output/result.json").stat().st_size < 10_000
    other = runs.ended(beside)
    assert (other["state"]["type"], other["run_count"]) == ("COMPLETED", 1), worker.lines()
    # The fork server that made the one makes the next.
    third = score(runs, worker, root, "time.sleep(2)")
    assert parent(worker.child(third)) == server_of_it
    assert runs.ended(third)["state"]["type"] == "COMPLETED"


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    "what",
    ["x = [str(i) for i in range(10**8)]", "x = mmap.mmap(-1, 10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1"],
    ids=["private", "shared"],
)
def test_predictions_that_take_too_much_memory_fail_at_once_and_the_model_runs_once(
    runs: Runs, worker: Worker, make_workspace: Callable[..., Path], tmp_path: Path, what: str
) -> None:
    root = make_workspace("greedy", truth=TRUTH, container={"cmd": ["python", "predict.py"]}, timeout=60)
    (root / "predict.py").write_text(MODEL.replace("RAN", repr(str(tmp_path / "ran"))))
    parameters: dict[str, Any] = {"scorer": "mine", "params": {"does": what}, "backend": "process"}
    run = runs.ended(runs.start("pipeline", worker.home, workspace=str(root), **parameters))
    assert (run["state"]["type"], run["run_count"]) == ("FAILED", 1), worker.lines()
    assert run["state"]["message"].startswith("RESOURCE_ERROR")
    error = result_of(root)["error"]
    assert (error["code"], error["stage"], error["details"]["resource"]) == ("RESOURCE_ERROR", "scoring", "memory")
    assert (tmp_path / "ran").read_text() == "x"


def test_a_batch_is_not_held_up_either(runs: Runs, worker: Worker, make_workspace: Callable[..., Path]) -> None:
    roots = [make_workspace(f"many/{name}", truth=TRUTH, pred=GOOD) for name in ("a", "b")]
    for root in roots:
        (root / "meta.json").write_text(json.dumps({"scorer": "classification_f1", "task_type": "classification"}))
    run = runs.ended(runs.start("batch", worker.home, workspaces=[str(roots[0].parent)], action="score"))
    assert run["state"]["type"] == "COMPLETED" and "2 scored" in run["state"]["message"]
