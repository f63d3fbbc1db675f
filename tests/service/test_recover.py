"""What a dead worker left is finished: its processes and containers end first, then each run is settled once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.provenance import current_flow_run
from autoscorer.core.worker_names import has_died, held_name
from autoscorer.core.workspace import Workspace
from autoscorer.executors.docker.container_config import LABEL
from autoscorer.executors.records import RunRecords
from autoscorer.schemas.result import Result
from autoscorer.service.flow_runs import FlowRuns
from autoscorer.service.prefect.client import PrefectApi, PrefectAway
from autoscorer.service.prefect.model import AWAITING_RETRY, AWAITING_ROOM
from autoscorer.service.recovery.dead_workers import recover
from autoscorer.service.recovery.transitions import finalize_run, requeue

from ..support.lost_runs import (
    Runs,
    Taken,
    ask,
    dead_owner,
    of_another_container,
    outcome_of,
    runs,
    settings_with,
    take,
)
from ..support.prefect_server import server
from ..support.workspaces import result_of

__all__ = ["runs", "server", "take"]
pytestmark = pytest.mark.prefect

SLEEPER = "trap '' TERM INT; echo started; while true; do sleep 1; done"


@pytest.fixture
def sleeper(make_workspace: Callable[..., Path], busybox: str, request: pytest.FixtureRequest) -> Path:
    """A workspace whose model sleeps until it is killed."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")
    return make_workspace(name, container={"image": busybox, "cmd": ["sh", "-c", SLEEPER]}, timeout=300)


@pytest.fixture
def dead() -> ProcessIdentity:
    return dead_owner()


def _containers(client: Any, flow_run_id: str) -> list[Any]:
    found: list[Any] = client.containers(all=True, filters={"label": f"{LABEL}flow_run={flow_run_id}"})
    return found


def _recover(settings: Settings) -> list[str]:
    return ask(settings, lambda prefect: recover(prefect, FlowRuns(settings)))


def _claim(settings: Settings, flow_run_id: str) -> Claim | None:
    return FlowRunFiles(settings.home, flow_run_id).read_claim()


def _claimed(settings: Settings, flow_run_id: str, owner: ProcessIdentity) -> FlowRunFiles:
    files = FlowRunFiles(settings.home, flow_run_id)
    files.claim(Claim(owner))
    return files


# --- the worker is killed ----------------------------------------------------------------------------------------


@pytest.mark.docker
def test_a_run_of_a_killed_worker_is_put_back_after_its_child_and_its_container_are_gone(
    runs: Runs, take: Callable[..., Taken], sleeper: Path, docker_client: Any
) -> None:
    settings = settings_with(retry_delay=30)
    run = runs.make(sleeper)
    runs.set(run, "PENDING", "RUNNING")
    taken = take(run, sleeper)
    assert _recover(settings) == [], "its worker lives"
    assert _containers(docker_client, run)
    (record,) = RunRecords(settings.home).all()
    places = (record.staged, *record.elsewhere)
    assert [place for place in places if place.is_dir()]
    taken.kill_worker()
    assert taken.child_lives, "the child should have outlived the worker, or this tests nothing"
    (line,) = _recover(settings)
    assert run in line and "back in its queue" in line
    assert not taken.child_lives
    assert not _containers(docker_client, run)
    assert not [place for place in places if place.exists()]
    assert not Workspace(sleeper).is_held()
    now = runs.get(run)
    assert (now["state"]["type"], now["state"]["name"]) == ("SCHEDULED", AWAITING_RETRY)
    assert "died" in now["state"]["message"] and "Attempt 2 of 3" in now["state"]["message"]
    later = datetime.fromisoformat(now["next_scheduled_start_time"]) - datetime.now(UTC)
    assert timedelta(0) < later <= timedelta(seconds=30)
    assert FlowRunFiles(settings.home, run).read_claim() is None
    assert not (sleeper / "output" / "result.json").exists(), "it has not ended"
    assert _recover(settings) == []


@pytest.mark.docker
def test_without_the_server_the_child_and_the_container_end_all_the_same(
    runs: Runs, take: Callable[..., Taken], sleeper: Path, docker_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with()
    run = runs.make(sleeper)
    runs.set(run, "PENDING", "RUNNING")
    taken = take(run, sleeper)
    taken.kill_worker()
    with monkeypatch.context() as patch:
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        with pytest.raises(PrefectAway):
            _recover(settings)
    assert not taken.child_lives and not _containers(docker_client, run)
    assert runs.state(run)[0] == "RUNNING"
    assert len(_recover(settings)) == 1
    assert runs.state(run)[0] == "SCHEDULED"


@pytest.mark.docker
def test_a_run_that_was_to_be_cancelled_ends_cancelled_with_a_result(
    runs: Runs, take: Callable[..., Taken], sleeper: Path, docker_client: Any
) -> None:
    settings = settings_with()
    run = runs.make(sleeper)
    runs.set(run, "PENDING", "RUNNING")
    taken = take(run, sleeper)
    runs.set(run, "CANCELLING")
    taken.kill_worker()
    _recover(settings)
    assert not taken.child_lives and not _containers(docker_client, run)
    assert runs.state(run)[0] == "CANCELLED"
    result = result_of(sleeper)
    assert result["error"]["code"] == "CANCELLED" and result["versioning"]["flow_run_id"] == run
    ending = outcome_of(settings, run)
    assert ending is not None and ending["state"] == "CANCELLED" and ending["data"] == result


# --- every state, with a claim of a dead process -----------------------------------------------------------------


def test_the_last_attempt_ends_failed_and_says_how_often_and_why(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings, root = settings_with(max_attempts=2, retry_delay=0), make_workspace()
    run = runs.make(root)
    for _ in range(2):
        runs.set(run, "PENDING")
        _claimed(settings, run, dead)
        runs.set(run, "RUNNING")
        _recover(settings)
    now = runs.get(run)
    assert now["state"]["type"] == "FAILED"
    assert "tried 2 times" in now["state"]["message"] and "died" in now["state"]["message"]
    result = result_of(root)
    assert result["error"]["code"] == "INTERNAL_ERROR" and result["error"]["details"]["attempts"] == 2
    ending = outcome_of(settings, run)
    assert ending is not None and ending["error"] == result["error"]
    assert FlowRunFiles(settings.home, run).read_claim() is None


def test_an_ending_that_was_saved_is_told_and_nothing_is_done_again(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings = settings_with()
    run = runs.make(make_workspace())
    runs.set(run, "PENDING")
    files = _claimed(settings, run, dead)
    runs.set(run, "RUNNING")
    files.save_outcome({"state": "COMPLETED", "message": "score 0.5", "data": {}, "error": None})
    _recover(settings)
    now = runs.get(run)
    assert (now["state"]["type"], now["state"]["message"]) == ("COMPLETED", "score 0.5")
    assert files.read_claim() is None
    assert files.read_outcome() is not None, "the ledger reads it yet"


def test_an_ending_of_an_earlier_attempt_is_none_of_this_one(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings = settings_with()
    run = runs.make(make_workspace())
    files = FlowRunFiles(settings.home, run)
    files.save_outcome({"state": "FAILED", "message": "then", "data": None, "error": None})
    os.utime(files.folder / "outcome.json", (1, 1))
    runs.set(run, "PENDING")
    _claimed(settings, run, dead)
    runs.set(run, "RUNNING")
    _recover(settings)
    assert runs.state(run)[0] == "SCHEDULED"


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED"])
def test_what_has_ended_is_never_touched(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity, state: str
) -> None:
    settings, root = settings_with(), make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING")
    files = _claimed(settings, run, dead)
    files.save_outcome({"state": "FAILED", "message": "something else", "data": None, "error": None})
    before = runs.set(run, "RUNNING", state)
    _recover(settings)
    assert files.read_claim() is None
    for counted in (True, False):
        assert not ask(
            settings,
            lambda prefect, c=counted: requeue(
                prefect, FlowRuns(settings), runs.get(run), "no", _claim(settings, run), counted=c
            ),
        )
    assert runs.get(run)["state"]["id"] == before
    assert not (root / "output" / "result.json").exists()


def test_a_worker_of_an_earlier_boot_is_dead(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    settings = settings_with()
    run = runs.make(make_workspace())
    host, _, *rest = ProcessIdentity.current().text.split("|")
    runs.set(run, "PENDING")
    _claimed(settings, run, ProcessIdentity("|".join([host, "an-earlier-boot", *rest])))
    runs.set(run, "RUNNING")
    _recover(settings)
    assert runs.state(run)[0] == "SCHEDULED"


def test_a_worker_whose_container_was_restarted_is_dead(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    settings = settings_with()
    run, before = runs.make(make_workspace()), of_another_container(ProcessIdentity.current())
    runs.set(run, "PENDING")
    # In the new container the number of its child is that of a process that has nothing to do with it.
    with subprocess.Popen(["sleep", "60"]) as other:
        child = of_another_container(ProcessIdentity.of(other.pid))
        FlowRunFiles(settings.home, run).claim(Claim(before, child, other.pid, name="host-1"))
        runs.set(run, "RUNNING")
        with held_name(settings.home, "host-1", before):
            assert _recover(settings) == [], "it has its name yet"
        with held_name(settings.home, "host-1", ProcessIdentity.current()):
            _recover(settings)
        assert other.poll() is None
        other.kill()
    assert runs.state(run)[0] == "SCHEDULED"


def test_a_name_is_one_living_worker_s_at_a_time(home: Path) -> None:
    names = ["w", "../w", "w w", "", "é" * 300]
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(held_name(home, name, ProcessIdentity.current())) for name in names]
        assert held == names
        second = stack.enter_context(held_name(home, "w", dead_owner()))
        assert second.startswith("w ") and not has_died(home, ProcessIdentity.current(), "w")
        assert sorted(path.parent for path in (home / "workers").iterdir()) == [home / "workers"] * 6
    with held_name(home, "w", ProcessIdentity.current()) as again:
        assert again == "w"
    assert list((home / "workers").iterdir()) == []


def test_a_run_that_another_worker_has_taken_since_is_left_to_it(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings = settings_with(stuck_after=0.01)
    run = runs.make(make_workspace())
    files = _claimed(settings, run, dead)
    os.utime(files.folder / "claim.json", (1, 1))
    before = runs.set(run, "PENDING")  # by the other worker, which has not laid its claim yet
    assert _recover(settings) == []
    assert runs.get(run)["state"]["id"] == before


def test_a_workspace_that_is_held_keeps_its_run_waiting(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings, root = settings_with(), make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING")
    _claimed(settings, run, dead)
    runs.set(run, "RUNNING")
    with Workspace(root).lock():  # a child that nobody knew of, dying
        assert _recover(settings) == []
        assert runs.state(run)[0] == "RUNNING"
    assert len(_recover(settings)) == 1
    assert runs.state(run)[0] == "SCHEDULED"


def test_two_at_once_settle_a_run_once(runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity) -> None:
    settings = settings_with(retry_delay=30)
    run = runs.make(make_workspace())
    runs.set(run, "PENDING")
    _claimed(settings, run, dead)
    runs.set(run, "RUNNING")

    async def at_once(prefect: PrefectApi) -> None:
        await asyncio.gather(*[recover(prefect, FlowRuns(settings)) for _ in range(5)])

    ask(settings, at_once)
    assert runs.names(run).count(AWAITING_RETRY) == 1


@pytest.mark.parametrize("ending", [True, False])
def test_a_run_that_prefect_has_forgotten_leaves_only_its_ending(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity, ending: bool
) -> None:
    settings = settings_with()
    run = runs.make(make_workspace())
    files = _claimed(settings, run, dead)
    if ending:
        files.save_outcome({"state": "COMPLETED", "message": "done", "data": {}, "error": None})
    runs.delete(run)
    _recover(settings)
    assert files.folder.exists() == ending
    assert files.read_claim() is None


def test_a_run_that_crashed_while_it_was_to_be_cancelled_is_cancelled(
    runs: Runs, make_workspace: Callable[..., Path]
) -> None:
    settings, root = settings_with(), make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING", "RUNNING", "CANCELLING", "CRASHED")
    assert not ask(
        settings,
        lambda prefect: requeue(prefect, FlowRuns(settings), {"id": run}, "It crashed.", _claim(settings, run)),
    )
    assert runs.state(run)[0] == "CANCELLED"
    assert result_of(root)["error"]["code"] == "CANCELLED"


# --- putting back and ending, asked for by the worker ------------------------------------------------------------


def test_what_was_not_counted_costs_no_attempt(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    settings = settings_with(max_attempts=2, retry_delay=0)
    run = runs.make(make_workspace())

    def put_back(counted: bool) -> bool:
        runs.set(run, "PENDING", "RUNNING")
        return ask(
            settings,
            lambda prefect: requeue(
                prefect, FlowRuns(settings), {"id": run}, "Why.", _claim(settings, run), counted=counted
            ),
        )

    assert [put_back(counted) for counted in (False, False, False, True, False, True)] == [True] * 5 + [False]
    assert runs.state(run)[0] == "FAILED"


def test_waiting_for_room_costs_no_attempt_and_is_tried_ever_less_often_up_to_a_minute(
    runs: Runs, make_workspace: Callable[..., Path]
) -> None:
    settings = settings_with(max_attempts=2, retry_delay=0)
    run = runs.make(make_workspace())

    def put_back(waits: bool) -> float | None:
        runs.set(run, "PENDING", "RUNNING")
        if not ask(
            settings,
            lambda prefect: requeue(
                prefect, FlowRuns(settings), {"id": run}, "Full.", _claim(settings, run), waits_for_room=waits
            ),
        ):
            return None
        now = runs.get(run)
        assert (now["state"]["name"], now["state"]["message"].startswith("Full.")) == (
            AWAITING_ROOM if waits else AWAITING_RETRY,
            True,
        )
        due = datetime.fromisoformat(now["state"]["state_details"]["scheduled_time"])
        return round((due - datetime.fromisoformat(now["state"]["timestamp"])).total_seconds())

    assert [put_back(True) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    # Attempts that failed otherwise are counted as ever, and the next wait for room begins anew.
    assert [put_back(False), put_back(True), put_back(False)] == [0, 2, None]
    assert "tried 2 times" in runs.get(run)["state"]["message"]


def test_a_run_of_which_the_home_says_that_it_is_to_be_cancelled_is_not_put_back(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings, root = settings_with(), make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING")
    files = _claimed(settings, run, dead)
    runs.set(run, "RUNNING")
    files.request_cancel()
    _recover(settings)
    assert runs.state(run)[0] == "CANCELLED" and result_of(root)["error"]["code"] == "CANCELLED"


def test_a_run_that_somebody_sent_off_again_has_all_its_attempts_again(
    runs: Runs, make_workspace: Callable[..., Path]
) -> None:
    settings = settings_with(max_attempts=2, retry_delay=0)
    run = runs.make(make_workspace())

    def put_back() -> bool:
        runs.set(run, "PENDING", "RUNNING")
        return ask(
            settings, lambda prefect: requeue(prefect, FlowRuns(settings), {"id": run}, "Why.", _claim(settings, run))
        )

    assert [put_back(), put_back()] == [True, False]
    runs.set(run, "SCHEDULED")  # as Prefect's page does
    assert [put_back(), put_back()] == [True, False]


def test_a_state_that_changed_meanwhile_is_left_alone(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    settings = settings_with()
    run = runs.make(make_workspace())
    seen = runs.set(run, "PENDING")
    now = runs.set(run, "RUNNING")
    assert not ask(
        settings,
        lambda prefect: requeue(prefect, FlowRuns(settings), {"id": run}, "Late.", _claim(settings, run), only_if=seen),
    )
    assert runs.get(run)["state"]["id"] == now


def test_putting_back_releases_one_s_own_claim_and_never_the_next_one_s(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings = settings_with()
    run = runs.make(make_workspace())
    files = _claimed(settings, run, dead)
    files.release(only=Claim(ProcessIdentity.current()))
    assert files.read_claim() == Claim(dead)
    runs.set(run, "PENDING", "RUNNING")
    assert ask(
        settings, lambda prefect: requeue(prefect, FlowRuns(settings), {"id": run}, "Why.", _claim(settings, run))
    )
    assert files.read_claim() is None


def test_a_score_that_was_written_before_the_process_died_is_how_the_run_ends(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings, root = settings_with(max_attempts=1), make_workspace()
    run = runs.make(root)
    result = Result()
    result.versioning.flow_run_id = run
    result.summary.score = 0.75
    Workspace(root).output.mkdir()
    Workspace(root).save_result(result)
    runs.set(run, "PENDING")
    _claimed(settings, run, dead)
    runs.set(run, "RUNNING")
    _recover(settings)
    assert runs.state(run)[0] == "COMPLETED"
    assert result_of(root)["summary"]["score"] == 0.75


def test_what_was_cancelled_in_the_queue_leaves_the_old_result(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    settings, root = settings_with(), make_workspace()
    Workspace(root).output.mkdir()
    Workspace(root).save_result(Result())
    before = (root / "output" / "result.json").read_bytes()
    run = runs.make(root)
    runs.set(run, "PENDING", "CANCELLING")
    error = AutoScorerError(ErrorCode.CANCELLED, "Cancelled.")
    ask(
        settings, lambda prefect: finalize_run(prefect, FlowRuns(settings), runs.get(run), error, _claim(settings, run))
    )
    assert runs.state(run)[0] == "CANCELLED"
    assert (root / "output" / "result.json").read_bytes() == before


def test_a_batch_that_is_ended_says_so_in_the_workspaces_that_it_was_at(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    settings = settings_with(max_attempts=1)
    at_work, untouched = make_workspace("at-work"), make_workspace("untouched")
    run = runs.make(None, flow="batch", workspaces=[str(at_work.parent)], action="score")
    # A process that holds the workspace for this flow run, and is killed.
    code = (
        "import sys, os; from autoscorer.core.workspace import Workspace;"
        "from autoscorer.core.provenance import current_flow_run; current_flow_run.set(sys.argv[2])\n"
        "with Workspace(sys.argv[1]).lock(): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(at_work), run], check=False)
    files = FlowRunFiles(settings.home, run)
    files.set_total(2)
    runs.set(run, "PENDING")
    _claimed(settings, run, dead)
    runs.set(run, "RUNNING")
    _recover(settings)
    assert runs.state(run)[0] == "FAILED"
    assert result_of(at_work)["versioning"]["flow_run_id"] == run
    assert not (untouched / "output").exists()
    ending = outcome_of(settings, run)
    assert ending is not None
    assert [(one["workspace"], one["state"]) for one in ending["data"]["outcomes"]] == [(str(at_work), "failed")]
    assert ending["data"]["total"] == 2


def test_the_lock_names_its_flow_run_only_while_it_is_held(make_workspace: Callable[..., Path]) -> None:
    space = Workspace(make_workspace())
    token = current_flow_run.set("the-run")
    try:
        with space.lock():
            assert space.is_held() and space.left_by() == "the-run"
    finally:
        current_flow_run.reset(token)
    assert not space.is_held() and space.left_by() is None
