"""Batches: a scorer that kills its process costs one workspace, a killed batch goes on, and nothing is waited for
without end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.core.provenance import current_flow_run
from autoscorer.core.workspace import Workspace
from autoscorer.flows.batches import pool as batch_pool
from autoscorer.flows.batches.expand import expand
from autoscorer.flows.batches.journal import BatchJournal
from autoscorer.flows.batches.outcome import Outcome, failed_outcome, outcome_of
from autoscorer.flows.batches.pool import WorkerPool
from autoscorer.schemas.result import ErrorInfo, Result
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.scoring import GuardedScoring, guard

from ..support.prefect_server import PrefectServer, eventually, server
from ..support.workspaces import predicting, result_of

__all__ = ["server"]

pytestmark = [
    # Prefect leaves sockets and event loops of its background services to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

RUN = "0196a4f0-0000-7000-8000-00000000000{}".format
# Does what the folder's name says, and notes each time that it was asked to.
SCORER = """
import os, pathlib, signal, time
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register

@register("wilful")
class Wilful(BaseScorer):
    name, version = "wilful", "VERSION"

    def score(self, workspace, params):
        what = workspace.name.split("-")[-1]
        with (workspace.parent / "asked").open("a") as file:
            file.write(f"{workspace.name} {os.getpid()} VERSION\\n")
        if what == "exits":
            os._exit(3)
        if what == "leaves":
            raise SystemExit(4)
        if what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "orphans":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        if what == "regicide":
            os.killpg(0, signal.SIGKILL)
            time.sleep(600)
        if what == "forks":
            if os.fork() == 0:
                time.sleep(600)
            os._exit(3)
        if what == "raises":
            raise ValueError("no")
        if what == "mismatch":
            raise AutoScorerError("MISMATCH", "Not the same ids.")
        while what == "waits" and not (workspace.parent / "go").exists():
            time.sleep(0.01)
        return Result(summary={"score": 0.5, "half": 0.5}, metrics={"half": 0.5})
"""


@pytest.fixture
def wilful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a scorer that does what it likes, in a configured folder."""
    folder = tmp_path / "scorers"
    folder.mkdir()
    monkeypatch.setenv("AUTOSCORER_SCORERS__DIRS", json.dumps([str(folder)]))
    file = folder / "wilful.py"
    file.write_text(SCORER.replace("VERSION", "1.0.0"))
    return file


@pytest.fixture
def crowd(make_workspace: Callable[..., Path], wilful: Path, tmp_path: Path) -> Iterator[Callable[..., list[Path]]]:
    """Workspaces in ``crowd``, scored by the wilful scorer as their names say."""

    def make(*whats: str) -> list[Path]:
        return [
            make_workspace(f"crowd/{number}-{what}", pred="id,label\na,x\nb,y\n", scorer="wilful")
            for number, what in enumerate(whats)
        ]

    yield make
    if (tmp_path / "crowd").is_dir():
        (tmp_path / "crowd" / "go").touch()


@pytest.fixture
def settings(wilful: Path, home: Path) -> Settings:
    return load_settings()


def asked(folder: Path) -> list[list[str]]:
    """Which workspaces the scorer was asked for, by which process, in which version."""
    file = folder / "asked"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


@contextlib.contextmanager
def pool(settings: Settings, size: int = 1, timeout: float = 60.0) -> Iterator[WorkerPool]:
    token = current_flow_run.set(RUN(1))
    try:
        with (
            GuardedScoring(settings, timeout=timeout) as scoring,
            WorkerPool(size, lambda workspace, _: scoring.score(workspace), settings, scoring) as members,
        ):
            yield members
    finally:
        current_flow_run.reset(token)


def scored(members: WorkerPool, roots: list[Path]) -> list[Outcome]:
    """Their outcomes, in this order."""
    waiting, found = [str(root) for root in roots], {}
    while len(found) < len(roots):
        while members.idle and waiting:
            members.submit(waiting.pop(0))
        found.update(members.wait(1.0))
    return [found[str(root)] for root in roots]


# --- the pool --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_scorer_that_ends_its_process_costs_one_workspace(settings: Settings, crowd: Any) -> None:
    roots = crowd("fine", "exits", "fine", "leaves", "dies", "raises", "mismatch", "fine")
    with pool(settings, 2) as members:
        outcomes = scored(members, roots)
    codes = [outcome["error"] and outcome["error"]["code"] for outcome in outcomes]
    assert codes == [None, "SCORER_ERROR", None, "SCORER_ERROR", "SCORER_ERROR", "SCORER_ERROR", "MISMATCH", None]
    said = [outcome["error"]["message"] for outcome in outcomes if outcome["error"]]
    assert "ended with exit code 3" in said[0] and "SystemExit: 4" in said[1]
    assert "killed by SIGKILL" in said[2]
    for root, outcome in zip(roots, outcomes, strict=True):
        result = result_of(root)
        assert result["versioning"]["flow_run_id"] == RUN(1)
        assert (result["error"] and result["error"]["message"]) == (outcome["error"] and outcome["error"]["message"])
        assert outcome["workspace"] == str(root)
    assert (outcomes[0]["metric"], outcomes[0]["score"], outcomes[0]["higher_is_better"]) == ("half", 0.5, True)


@pytest.mark.slow
def test_what_a_dead_scorer_started_holds_no_workspace(settings: Settings, crowd: Any) -> None:
    (root,) = crowd("forks")
    with pool(settings) as members:
        assert "exit code 3" in scored(members, [root])[0]["error"]["message"]
    assert result_of(root)["error"]["code"] == "SCORER_ERROR"
    with Workspace(root).lock():
        pass


@pytest.mark.slow
def test_a_scoring_without_end_is_ended(settings: Settings, crowd: Any) -> None:
    roots = crowd("waits", "fine")
    with pool(settings, timeout=3.0) as members:
        outcomes = scored(members, roots)
    assert "did not end within 3 s" in outcomes[0]["error"]["message"] and outcomes[1]["error"] is None
    assert result_of(roots[0])["error"]["code"] == "SCORER_ERROR"


@pytest.mark.slow
def test_ending_a_pool_leaves_no_process_and_says_who_was_under_way(settings: Settings, crowd: Any) -> None:
    (root,) = crowd("waits")
    with pool(settings) as members:
        members.submit(str(root))
        eventually(lambda: members.wait(0.05) or asked(root.parent))
        ((workspace, outcome),) = members.end()
    assert (workspace, outcome["state"], result_of(root)["error"]["code"]) == (str(root), "cancelled", "CANCELLED")
    assert not Path("/proc", asked(root.parent)[0][1]).exists()


@pytest.mark.slow
def test_a_scorer_saved_meanwhile_serves_the_next_workspace_and_not_the_one_under_way(
    settings: Settings, crowd: Any, wilful: Path
) -> None:
    roots = crowd("waits", "fine")
    with pool(settings) as members:
        members.submit(str(roots[0]))
        eventually(lambda: members.wait(0.05) or asked(roots[0].parent))
        wilful.write_text(SCORER.replace("VERSION", "2.0.0"))
        (roots[0].parent / "go").touch()
        first = eventually(lambda: members.wait(1.0))
        second = scored(members, roots[1:])
    assert first[0][1]["error"] is None and second[0]["error"] is None
    assert [result_of(root)["versioning"]["scorer_version"] for root in roots] == ["1.0.0", "2.0.0"]
    # Each scoring has a process of its own.
    assert len({pid for _, pid, _ in asked(roots[0].parent)}) == 2


def test_a_pool_whose_processes_do_not_live_says_so(
    settings: Settings, crowd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "COMMAND", ("/bin/sh", "-c", "exit 7"))
    with pytest.raises(AutoScorerError, match="exit code 7") as caught, pool(settings) as members:
        scored(members, crowd("fine"))
    assert caught.value.code is ErrorCode.INTERNAL_ERROR


@pytest.mark.slow
def test_a_scorer_that_kills_its_parent_costs_its_own_workspace_alone(settings: Settings, crowd: Any) -> None:
    roots = crowd("waits", "orphans", "regicide", "fine")
    with pool(settings, 2) as members:
        members.submit(str(roots[0]))
        eventually(lambda: members.wait(0.05) or asked(roots[0].parent))
        outcomes = scored(members, roots[1:])
        (roots[0].parent / "go").touch()
        ((_, neighbour),) = eventually(lambda: members.wait(1.0))
    codes = [outcome["error"] and outcome["error"]["code"] for outcome in outcomes]
    assert codes == ["SCORER_ERROR", "SCORER_ERROR", None] and neighbour["error"] is None
    assert [result_of(root)["error"]["code"] for root in roots[1:3]] == ["SCORER_ERROR"] * 2
    assert len([1 for name, *_ in asked(roots[0].parent) if "orphans" in name or "regicide" in name]) == 2


# --- which workspaces, and the journal -------------------------------------------------------------------


def test_a_link_in_a_folder_of_workspaces_leads_to_no_other(
    make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    inside, outside = make_workspace("round/a"), make_workspace("secret/b")
    (tmp_path / "round" / "z").symlink_to(outside)
    for given in (str(tmp_path / "round"), str(tmp_path / "round" / "*"), f"{tmp_path}/[r]ound/*"):
        found = expand([given])
        allowed = given.startswith(f"{tmp_path}/[")  # there the pattern itself reaches over both
        assert [entry.is_work for entry in found] == [True, allowed], given
        assert found[0].path == inside
        if not allowed:
            assert found[1].error is not None and found[1].error.code is ErrorCode.FORBIDDEN
    assert all(entry.is_work for entry in expand([str(tmp_path / "round")], roots=[tmp_path / "secret"]))
    assert expand([str(tmp_path / "round" / "z")])[0].is_work


def test_what_lies_inside_a_workspace_is_no_entry_of_a_batch(
    make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    outer = make_workspace("round/a")
    make_workspace("round/a/input/forged")
    for pattern in ("**", "round/**", "*/a/**", "[r]ound/a/../a"):
        found = [entry.path for entry in expand([f"{tmp_path}/{pattern}"]) if entry.is_work]
        assert [path.resolve() for path in found] == [outer], pattern
    for given in (f"{tmp_path}/round/*/input", f"{tmp_path}/round/*/input/*"):
        (entry,) = expand([given])
        assert entry.error is not None and entry.error.code is ErrorCode.WORKSPACE_NOT_FOUND
    (entry,) = expand([str(outer / "input")], roots=[tmp_path])
    assert entry.error is not None and entry.error.code is ErrorCode.INVALID_META


def settled(root: Path, code: str | None = None, run: str = RUN(1)) -> Result:
    """Write a Result as a scoring of that flow run does."""
    result = Result(summary={"score": 1.0, "f1": 1.0}, metrics={"f1": 1.0})
    if code is not None:
        error = AutoScorerError(code, "why")
        result = Result(error=ErrorInfo(**error.to_dict()))
    result.versioning.flow_run_id = run
    Workspace(root).save_result(result)
    return result


def test_a_second_attempt_keeps_what_is_settled_and_does_the_rest(
    make_workspace: Callable[..., Path], tmp_path: Path, home: Path
) -> None:
    codes = [None, "MISMATCH", "SCORER_ERROR", "CANCELLED", "CONFLICT"]
    roots = [make_workspace(f"w/{number}", pred="") for number in range(len(codes) + 3)]
    files = FlowRunFiles(home, RUN(1))
    given = [str(tmp_path / "w"), str(roots[0]), str(tmp_path / "none")]
    first = BatchJournal(expand(given), files, warn=pytest.fail)
    assert len(first.left()) == len(roots) and first.resumed == 0
    for root, code in zip(roots, codes, strict=False):
        first.add(str(root), outcome_of(root, settled(root, code)))
    # Killed after result.json and before the journal; and another flow run's Result.
    settled(roots[-2])
    settled(roots[-1], run=RUN(2))
    with (files.folder / "outcomes.jsonl").open("ab") as file:
        file.write(b'{"workspace": "')

    again = BatchJournal(expand(given), files, warn=pytest.fail)
    assert again.resumed == 3
    assert again.left() == [str(root) for root in (*roots[2:6], roots[7])]
    assert len(files.member_outcomes()) == 3 + 2 and files.read_total() == again.total == len(roots) + 2
    again.add(str(roots[2]), outcome_of(roots[2], settled(roots[2])))
    outcomes = again.close(AutoScorerError(ErrorCode.CANCELLED, "why"))
    states = [outcome["state"] for outcome in outcomes]
    cancelled = ["cancelled"] * 3
    assert states == ["completed", "failed", "completed", *cancelled, "completed", "cancelled", "duplicate", "failed"]
    assert len(files.member_outcomes()) == 6


def test_an_outcome_names_the_result_json_that_it_tells_of(make_workspace: Callable[..., Path]) -> None:
    for name, pred in (("good", "id,label\na,cat\nb,dog\nc,cat\n"), ("wrong", "id,label\nz,cat\n")):
        root = make_workspace(f"w/{name}", pred=pred)
        result = score_workspace(root)
        outcome = outcome_of(root, result)
        written = (root / "output" / "result.json").read_bytes()
        assert outcome["result_sha256"] == hashlib.sha256(written).hexdigest()
        assert (outcome["ended_at"], outcome["scorer"]) == (result.versioning.timestamp, "classification_f1")
        # It says the same when the Result was read again, as by a second attempt.
        assert outcome_of(root, Result.model_validate_json(written)) == outcome


def test_a_name_that_is_no_utf8_survives_the_journal(make_workspace: Callable[..., Path], home: Path) -> None:
    root = make_workspace("w/\udcff", pred="")
    files = FlowRunFiles(home, RUN(1))
    BatchJournal(expand([str(root.parent)]), files, warn=pytest.fail).add(
        str(root), outcome_of(root, settled(root, run=RUN(2)))
    )
    assert BatchJournal(expand([str(root.parent)]), files, warn=pytest.fail).resumed == 1


def test_a_journal_that_can_not_be_written_is_told_once(make_workspace: Callable[..., Path], home: Path) -> None:
    root = make_workspace("w/1", pred="")
    (home / "flow-runs").write_text("in the way")
    told: list[str] = []
    journal = BatchJournal(expand([str(root)]), FlowRunFiles(home, RUN(1)), warn=told.append)
    journal.add(str(root), failed_outcome(root, AutoScorerError(ErrorCode.MISMATCH, "why")))
    assert len(told) == 1 and journal.close(None)[0]["state"] == "failed"


# --- the flow --------------------------------------------------------------------------------------------


def new_run(server: PrefectServer, folder: Path, **parameters: Any) -> str:
    """A flow run of ``batch`` that a worker has just taken."""
    flow = server.call("POST", "/flows/", {"name": "batch"})["id"]
    body = {
        "flow_id": flow,
        "parameters": {"workspaces": [str(folder)], "action": "score", "concurrency": 1, **parameters},
        "state": {"type": "PENDING"},
    }
    return str(server.call("POST", "/flow_runs/", body)["id"])


ATTEMPT = """
import sys, uuid
from autoscorer.flows.batch import batch
from prefect.flow_engine import load_flow_run, run_flow
run_flow(batch, flow_run=load_flow_run(uuid.UUID(sys.argv[1])), return_type="state")
"""


def attempt(run_id: str) -> subprocess.Popen[bytes]:
    """Work on the flow run as a worker's child does."""
    return subprocess.Popen([sys.executable, "-c", ATTEMPT, run_id], stdout=subprocess.DEVNULL)


def digest_of(root: Path) -> str | None:
    """The sha256 of the Result that stands in a workspace."""
    file = root / "output" / "result.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


@pytest.mark.prefect
def test_a_batch_that_was_killed_goes_on_where_it_was(server: PrefectServer, crowd: Any, home: Path) -> None:
    roots = crowd("fine", "mismatch", "raises", "waits", "fine")
    folder = roots[0].parent
    run_id = new_run(server, folder)
    files = FlowRunFiles(home, run_id)
    first = attempt(run_id)
    eventually(lambda: len(asked(folder)) == 4 and len(files.member_outcomes()) == 3)
    first.kill()
    first.wait()
    under_way = asked(folder)[-1][1]
    eventually(lambda: not Path("/proc", under_way).exists())
    assert files.read_outcome() is None

    (folder / "go").touch()
    for state in ({"type": "SCHEDULED", "name": "AwaitingRetry"}, {"type": "PENDING"}):
        server.call("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
    second = attempt(run_id)
    assert second.wait(300) == 0
    ending = files.read_outcome()
    assert ending is not None and ending["state"] == "COMPLETED"
    summary = ending["data"]
    assert (summary["total"], summary["completed"], summary["failed"], summary["resumed"]) == (5, 3, 2, 2)
    assert [Path(o["workspace"]).name for o in summary["outcomes"]] == [root.name for root in roots]
    assert [o["result_sha256"] for o in summary["outcomes"]] == [digest_of(root) for root in roots]
    assert [name for name, _, _ in asked(folder)].count("2-raises") == 2
    assert sorted({name for name, _, _ in asked(folder)[4:]}) == ["2-raises", "3-waits", "4-fine"]
    assert {result_of(root)["versioning"]["flow_run_id"] for root in roots} == {run_id}
    run = server.call("GET", f"/flow_runs/{run_id}")
    assert run["state"]["type"] == "COMPLETED" and run["run_count"] == 2
    assert run["state"]["message"] == "5 workspaces: 3 scored, 2 failed (2 of them by an earlier attempt)"
    log = server.logs(run_id, "5 of 5 done")
    assert "failed  " in log and "SCORER_ERROR" in log and "Traceback" not in log


@pytest.mark.prefect
def test_cancelling_a_batch_keeps_what_was_done(server: PrefectServer, crowd: Any, home: Path) -> None:
    from autoscorer.flows.batch import batch
    from autoscorer.tasks.prefect.context import RunContext, use

    roots = crowd("fine", "waits", "fine")
    folder = roots[0].parent
    with use(RunContext(cancelled=lambda: len(asked(folder)) == 2)):
        state = batch([str(folder)], action="score", concurrency=1, return_state=True)
    assert state.is_cancelled() and "1 scored, 0 failed, 2 cancelled" in str(state.message)
    run = server.flow_run("score crowd")
    ending = FlowRunFiles(home, run["id"]).read_outcome()
    assert ending is not None and (ending["state"], ending["error"]["code"]) == ("CANCELLED", "CANCELLED")
    assert [o["state"] for o in ending["data"]["outcomes"]] == ["completed", "cancelled", "cancelled"]
    assert result_of(roots[1])["error"]["code"] == "CANCELLED"
    assert not (roots[2] / "output" / "result.json").exists()
    assert run["state"]["type"] == "CANCELLED"


@pytest.mark.prefect
@pytest.mark.parametrize("action", ["score", "pipeline"])
def test_a_workspace_that_is_held_is_tried_again_before_it_is_given_up(
    server: PrefectServer, crowd: Any, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    from autoscorer.flows.batch import batch

    roots = crowd("fine", "fine", "fine")
    for root in roots:
        meta = json.loads((root / "meta.json").read_text())
        (root / "meta.json").write_text(json.dumps({**meta, "container": {"cmd": ["python", "predict.py"]}}))
        (root / "predict.py").write_text(predicting("id,label\na,x\nb,y\n"))
    monkeypatch.setattr(batch_pool, "PATIENCE", 2.0)
    let_go = threading.Event()

    def release_when_the_last_is_done() -> None:
        with Workspace(roots[0]).lock():
            eventually(lambda: (roots[2] / "output" / "result.json").exists())
        let_go.set()

    holder = threading.Thread(target=release_when_the_last_is_done)
    with Workspace(roots[1]).lock():
        holder.start()
        eventually(lambda: _is_held(roots[0]))
        summary = batch([str(roots[0].parent)], action=action, backend="process")
    holder.join()
    assert let_go.is_set()
    assert [o["state"] for o in summary["outcomes"]] == ["completed", "failed", "completed"]
    assert summary["outcomes"][1]["error"]["code"] == "CONFLICT"
    # Of what was refused nothing was written.
    assert [o["result_sha256"] for o in summary["outcomes"]] == [digest_of(root) for root in roots]


def _is_held(root: Path) -> bool:
    try:
        with Workspace(root).lock():
            return False
    except AutoScorerError:
        return True


@pytest.mark.prefect
def test_how_far_a_batch_is_can_be_seen(
    server: PrefectServer, crowd: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_API_URL", "https://scores.example.org")
    roots = crowd("fine", "dies", "waits", "fine")
    folder = roots[0].parent
    run_id = new_run(server, folder)
    child = attempt(run_id)

    def progress() -> dict[str, Any]:
        found = server.artifacts(run_id)
        return next((item for key, item in found.items() if key.endswith("-progress")), {})

    eventually(lambda: progress().get("data") == 50.0)
    assert progress()["description"] == "2 of 4 workspaces"
    assert FlowRunFiles(home, run_id).read_stage() == "score"
    assert "1-dies" in server.logs(run_id, "killed by SIGKILL")
    (folder / "go").touch()
    assert child.wait(300) == 0
    assert progress()["data"] == 100.0
    artifacts = {key.rsplit("-", 1)[1]: each["data"] for key, each in server.artifacts(run_id).items()}
    assert artifacts.keys() == {"progress", "summary", "outcomes", "record"}
    assert f"https://scores.example.org/ui/flow-run/{run_id}" in artifacts["record"]
    assert not server.call("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
