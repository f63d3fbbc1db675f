"""No run is forgotten: what is decided, and that it is done, for runs that no claim on this host tells of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.worker_names import held_name
from autoscorer.core.workspace import Workspace
from autoscorer.executors.docker.container_config import LABEL
from autoscorer.flows.hooks import clear_up
from autoscorer.flows.pipeline import pipeline
from autoscorer.service.flow_runs import FlowRuns
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.prefect.automations import SILENCE, ensure_crash_automation
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.recovery.claims import WorkerIdentity, claim_message, parse_claim
from autoscorer.service.recovery.containers import count_containers
from autoscorer.service.recovery.policy import (
    ClaimStatus,
    RecoveryAction,
    RunObservation,
    Timeouts,
    WorkerState,
    decide,
)
from autoscorer.service.recovery.stuck_runs import Reconciler
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.states import Crashed

from ..support.ledger import opened
from ..support.lost_runs import Runs, Taken, ask, dead_owner, of_another_container, runs, settings_with, take
from ..support.postgres import Postgres, own_postgres, postgres
from ..support.prefect_server import PrefectServer, eventually, server
from ..support.workspaces import result_of

__all__ = ["own_postgres", "postgres", "runs", "server", "take"]

NONE, ALIVE, DEAD, FAR = ClaimStatus.NONE, ClaimStatus.ALIVE, ClaimStatus.DEAD, ClaimStatus.OUT_OF_SIGHT
RELEASED = ClaimStatus.RELEASED
LEAVE, CLEAR, REPORT = RecoveryAction.LEAVE, RecoveryAction.CLEAR, RecoveryAction.REPORT
REQUEUE, CANCEL, FORGET = RecoveryAction.REQUEUE, RecoveryAction.CANCEL, RecoveryAction.FORGET
TIMEOUTS = Timeouts(stuck=60, crashed=5, longest=3600)
STATES = [
    "SCHEDULED",
    "PENDING",
    "RUNNING",
    "PAUSED",
    "CANCELLING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "CRASHED",
    None,
]


# --- the table ---------------------------------------------------------------------------------------------------


def _case(action: RecoveryAction, state: str | None, claim: ClaimStatus, seconds: float = 0, **more: Any) -> Any:
    told = ", ".join(f"{key}={value}" for key, value in more.items())
    return pytest.param(
        RunObservation(state=state, claim=claim, seconds=seconds, **more),
        action,
        id=f"{state} {claim} {seconds:.0f}s {told}".strip(),
    )


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        # The worker is certainly dead.
        _case(REQUEUE, "PENDING", DEAD),
        _case(REQUEUE, "RUNNING", DEAD),
        _case(REQUEUE, "CRASHED", DEAD),
        _case(CANCEL, "CANCELLING", DEAD),
        _case(CLEAR, "SCHEDULED", DEAD),
        _case(CLEAR, "PAUSED", DEAD),
        _case(FORGET, None, DEAD),
        _case(FORGET, None, DEAD, outcome_age=1),
        # It had done its work.
        _case(REPORT, "PENDING", DEAD, outcome_age=1),
        _case(REPORT, "RUNNING", DEAD, outcome_age=1),
        _case(REPORT, "CANCELLING", DEAD, outcome_age=1),
        _case(REPORT, "CRASHED", DEAD, outcome_age=1),
        _case(CLEAR, "SCHEDULED", DEAD, outcome_age=1),
        # Something of it is still at work.
        _case(LEAVE, "PENDING", DEAD, busy=True),
        _case(LEAVE, "RUNNING", DEAD, busy=True),
        _case(LEAVE, "RUNNING", DEAD, 3599, busy=True),
        _case(REQUEUE, "RUNNING", DEAD, 3600, busy=True),
        _case(LEAVE, "CRASHED", NONE, 600, busy=True),
        # Nobody of ours has it.
        _case(LEAVE, None, NONE, 1e9),
        _case(LEAVE, "SCHEDULED", NONE, 1e9),
        _case(LEAVE, "PAUSED", NONE, 1e9),
        _case(LEAVE, "RUNNING", NONE, 1e9),
        _case(LEAVE, "PENDING", NONE, 59),
        _case(REQUEUE, "PENDING", NONE, 60),
        _case(LEAVE, "CANCELLING", NONE, 59),
        _case(CANCEL, "CANCELLING", NONE, 60),
        _case(LEAVE, "CRASHED", NONE, 4),
        _case(REQUEUE, "CRASHED", NONE, 5),
        _case(LEAVE, "CRASHED", NONE, 4, cancelling=True),
        _case(CANCEL, "CRASHED", NONE, 5, cancelling=True),
        _case(CANCEL, "CRASHED", DEAD, cancelling=True),
        _case(LEAVE, "CRASHED", NONE, 1e9, deployed=False),
        # Its worker began after another host had put it back, and dropped it.
        _case(LEAVE, "RUNNING", RELEASED, 59),
        _case(REQUEUE, "RUNNING", RELEASED, 60),
        _case(LEAVE, "RUNNING", RELEASED, 60, busy=True),
        _case(REPORT, "RUNNING", RELEASED, 60, outcome_age=60),
        # Its process saved how it ended, and should have said so by now.
        _case(LEAVE, "RUNNING", NONE, 600, outcome_age=59),
        _case(REPORT, "RUNNING", NONE, 600, outcome_age=60),
        _case(REPORT, "CRASHED", NONE, 0, outcome_age=0),
        _case(REPORT, "CRASHED", NONE, 0, outcome_age=0, deployed=False),
        # A plain Prefect worker has it.
        _case(LEAVE, "PENDING", NONE, 59, worker=WorkerState.OFFLINE),
        _case(REQUEUE, "PENDING", NONE, 60, worker=WorkerState.OFFLINE),
        _case(LEAVE, "PENDING", NONE, 299, worker=WorkerState.ONLINE),
        _case(REQUEUE, "PENDING", NONE, 300, worker=WorkerState.ONLINE),
        _case(LEAVE, "PENDING", NONE, 1799, worker=WorkerState.ONLINE, process_pool=False),
        _case(REQUEUE, "PENDING", NONE, 1800, worker=WorkerState.ONLINE, process_pool=False),
        _case(LEAVE, "PENDING", NONE, 1e9, worker=WorkerState.ONLINE, process_pool=False, infrastructure=True),
        _case(REQUEUE, "PENDING", NONE, 60, worker=WorkerState.OFFLINE, process_pool=False, infrastructure=True),
    ],
)
def test_the_table(observation: RunObservation, action: RecoveryAction) -> None:
    assert decide(observation, TIMEOUTS) is action


situations = st.builds(
    RunObservation,
    state=st.sampled_from(STATES),
    seconds=st.floats(0, 1e9),
    claim=st.sampled_from(ClaimStatus),
    outcome_age=st.none() | st.floats(0, 1e9),
    busy=st.booleans(),
    deployed=st.booleans(),
    worker=st.sampled_from(WorkerState),
    process_pool=st.booleans(),
    infrastructure=st.booleans(),
)


@given(situations)
def test_nothing_that_somebody_has_or_that_has_ended_is_changed(observation: RunObservation) -> None:
    action = decide(observation, TIMEOUTS)
    if observation.claim in (ALIVE, FAR):
        assert action is LEAVE
    if observation.state in ("COMPLETED", "FAILED", "CANCELLED", "SCHEDULED", "PAUSED"):
        assert action in (LEAVE, CLEAR)
    if observation.busy and observation.seconds < TIMEOUTS.longest:
        assert action is not REQUEUE


@given(situations)
def test_no_run_of_a_dead_worker_is_left_for_ever(observation: RunObservation) -> None:
    if observation.claim is DEAD and observation.seconds >= TIMEOUTS.longest:
        assert decide(observation, TIMEOUTS) is not LEAVE


@given(st.text(min_size=1), st.lists(st.text("abc019-."), min_size=5, max_size=5))
def test_who_took_a_run_is_read_from_its_pending_state(name: str, parts: list[str]) -> None:
    taker = WorkerIdentity(name, ProcessIdentity("|".join(parts)))
    assert parse_claim(claim_message(taker)) == taker


@pytest.mark.parametrize("message", [None, "", "Taken by", "Submitted to infrastructure.", 3])
def test_what_prefect_s_own_workers_say_names_none_of_ours(message: object) -> None:
    assert parse_claim(message) is None


# --- with a server -----------------------------------------------------------------------------------------------


def _look(settings: Settings, runs: Runs, *ids: str) -> list[str]:
    active = {flow_run_id: runs.get(flow_run_id) for flow_run_id in ids}
    lines = ask(settings, lambda prefect: Reconciler(FlowRuns(settings), prefect).look(active))
    # Runs of other tests may be found as well: the reconciler looks at all that Prefect has.
    return [line for line in lines if any(flow_run_id in line for flow_run_id in ids)]


@pytest.fixture(scope="module")
def dead() -> ProcessIdentity:
    return dead_owner()


@pytest.mark.prefect
def test_a_run_whose_worker_died_before_it_laid_a_claim_is_put_back_at_once(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    run = runs.make(make_workspace())
    runs.set(run, "PENDING", message=claim_message(WorkerIdentity("w", dead)))
    assert len(_look(settings_with(), runs, run)) == 1
    now = runs.get(run)["state"]
    assert now["type"] == "SCHEDULED" and "worker that took it is gone" in now["message"]


@pytest.mark.prefect
def test_so_is_one_that_was_running_already(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    run = runs.make(make_workspace())
    runs.set(run, "PENDING", message=claim_message(WorkerIdentity("w", dead)))
    runs.set(run, "RUNNING")
    assert len(_look(settings_with(stuck_after=0.001), runs, run)) == 1
    assert runs.state(run)[0] == "SCHEDULED"


@pytest.mark.prefect
def test_a_worker_that_lives_keeps_its_run_however_slow_it_is(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    run = runs.make(make_workspace())
    before = runs.set(run, "PENDING", message=claim_message(WorkerIdentity("w", ProcessIdentity.current())))
    assert _look(settings_with(stuck_after=0.001), runs, run) == []
    assert runs.get(run)["state"]["id"] == before


@pytest.mark.prefect
@pytest.mark.parametrize("online", [True, False])
def test_a_worker_on_another_host_is_judged_by_its_signs_of_life(
    runs: Runs, make_workspace: Callable[..., Path], online: bool
) -> None:
    far = ProcessIdentity("|".join(["another-host", *ProcessIdentity.current().text.split("|")[1:]]))
    run = runs.make(make_workspace())
    if online:
        runs.heartbeat("far-worker")
    runs.set(run, "PENDING", message=claim_message(WorkerIdentity("far-worker", far)))
    settings = settings_with(stuck_after=0.001)
    # In a home that both share, its claim can't be judged from here either.
    FlowRunFiles(settings.home, run).claim(Claim(far))
    runs.set(run, "RUNNING")
    _look(settings, runs, run)
    assert runs.state(run)[0] == ("RUNNING" if online else "SCHEDULED")


@pytest.mark.prefect
@pytest.mark.postgres
def test_a_run_that_began_on_a_host_after_another_one_had_put_it_back_is_put_back_again(
    runs: Runs, make_workspace: Callable[..., Path], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", postgres.ledger_url())
    settings, run, slow = settings_with(stuck_after=0.5), runs.make(make_workspace()), ProcessIdentity.current()

    async def story(prefect: PrefectApi) -> list[str]:
        await upgrade_ledger(settings)
        async with opened(settings) as ledger:
            known = FlowRuns(settings, ledger)
            reconciler = Reconciler(known, prefect)
            # A host takes it and stands still; its claim is over, and another host puts the run back.
            runs.set(run, "PENDING", message=claim_message(WorkerIdentity("slow", slow)))
            assert await ledger.take_run(run, slow.text, "slow", -1) == 1
            (line,) = await reconciler.look({run: runs.get(run)})
            assert "back in its queue" in line and runs.state(run)[0] == "SCHEDULED"
            # The first one goes on, says that it begins, and learns that the run is not its own any more.
            runs.set(run, "RUNNING")
            late = Claim(slow, name="slow", attempt=1)
            assert not await known.is_current(late, run)
            await known.release(run, late)
            assert await reconciler.look({run: runs.get(run)}) == [], "it may be told in a moment"
            await asyncio.sleep(0.6)
            return await reconciler.look({run: runs.get(run)})

    (line,) = ask(settings, story)
    assert run in line and "back in its queue" in line and "Nobody has worked on it" in line
    assert runs.state(run)[0] == "SCHEDULED"


@pytest.mark.prefect
def test_a_run_whose_pool_was_deleted_is_put_back_and_keeps_no_other_waiting(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    far = ProcessIdentity("|".join(["another-host", *ProcessIdentity.current().text.split("|")[1:]]))
    run, other = runs.make(make_workspace("a")), runs.make(make_workspace("b"))
    runs.set(run, "PENDING", message=claim_message(WorkerIdentity("far-worker", far)))
    runs.set(other, "PENDING", message=claim_message(WorkerIdentity("w", dead)))
    runs.delete_pool()
    assert runs.get(run)["work_pool_name"] is None
    assert len(_look(settings_with(stuck_after=0.001), runs, run, other)) == 2
    assert (runs.state(run)[0], runs.state(other)[0]) == ("SCHEDULED", "SCHEDULED")


@pytest.mark.prefect
@pytest.mark.parametrize("restarted", [True, False])
def test_a_run_of_a_worker_whose_container_was_restarted_is_put_back(
    runs: Runs, make_workspace: Callable[..., Path], restarted: bool
) -> None:
    before = of_another_container(ProcessIdentity.current())
    run = runs.make(make_workspace())
    runs.heartbeat("host-1")  # whoever has the name now
    runs.set(run, "PENDING", message=claim_message(WorkerIdentity("host-1", before)))
    settings = settings_with(stuck_after=0.001)
    runs.set(run, "RUNNING")
    with held_name(settings.home, "host-1", ProcessIdentity.current() if restarted else before):
        _look(settings, runs, run)
    assert runs.state(run)[0] == ("SCHEDULED" if restarted else "RUNNING")


@pytest.mark.prefect
@pytest.mark.parametrize("online", [True, False])
def test_a_pending_run_of_a_plain_worker(
    runs: Runs, make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    run = runs.make(make_workspace())
    runs.set(run, "PENDING")
    runs.label(run, **{"prefect.worker.name": "plain"})
    if online:
        runs.heartbeat("plain")
    real = time.time
    # A minute and a half later: the worker should have begun, and is given longer as long as it lives.
    monkeypatch.setattr("autoscorer.service.recovery.observations.time", SimpleNamespace(time=lambda: real() + 90))
    _look(settings_with(stuck_after=60), runs, run)
    assert runs.state(run)[0] == ("PENDING" if online else "SCHEDULED")


@pytest.mark.prefect
def test_cancelling_with_nobody_to_act_ends_cancelled(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING", "RUNNING", "CANCELLING")
    assert _look(settings_with(stuck_after=60), runs, run) == []
    assert len(_look(settings_with(stuck_after=0.001), runs, run)) == 1
    assert runs.state(run)[0] == "CANCELLED"
    assert result_of(root)["error"]["code"] == "CANCELLED"


@pytest.mark.prefect
def test_a_crashed_run_is_put_back_once_nobody_holds_its_workspace_and_fails_in_the_end(
    runs: Runs, make_workspace: Callable[..., Path]
) -> None:
    root, settings = make_workspace(), settings_with(stuck_after=0.001, max_attempts=2, retry_delay=0)
    run = runs.make(root)
    runs.set(run, "PENDING", "RUNNING", "CRASHED", message="no heartbeat")
    with Workspace(root).lock():  # it was taken for dead, and is not
        assert _look(settings, runs, run) == []
    _look(settings, runs, run)
    now = runs.get(run)["state"]
    assert now["type"] == "SCHEDULED" and "It crashed: no heartbeat" in now["message"]
    runs.set(run, "PENDING", "RUNNING", "CRASHED")
    _look(settings, runs, run)
    assert runs.state(run)[0] == "FAILED"
    assert result_of(root)["error"]["code"] == "INTERNAL_ERROR"


@pytest.mark.prefect
def test_a_run_that_crashed_while_it_was_being_cancelled_is_cancelled(
    runs: Runs, make_workspace: Callable[..., Path]
) -> None:
    """As a process of a plain Prefect worker does whose worker is dead: its log has nowhere to go."""
    root = make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING", "RUNNING", "CANCELLING", "CRASHED")
    assert len(_look(settings_with(stuck_after=0.001), runs, run)) == 1
    assert runs.state(run)[0] == "CANCELLED"
    assert result_of(root)["error"]["code"] == "CANCELLED"


@pytest.mark.prefect
@pytest.mark.parametrize("recovery_first", [False, True])
def test_the_hook_of_a_run_that_crashed_while_it_was_being_cancelled_says_so_too(
    runs: Runs, make_workspace: Callable[..., Path], *, recovery_first: bool
) -> None:
    """Its process runs the hook as it dies, which may be after the run was settled."""
    root = make_workspace()
    run = runs.make(root)
    runs.set(run, "PENDING", "RUNNING", "CANCELLING", "CRASHED")
    if recovery_first:
        _look(settings_with(stuck_after=0.001), runs, run)
    with get_client(sync_client=True) as client:
        clear_up(pipeline, client.read_flow_run(UUID(run)), Crashed(message="BrokenPipeError"))
    assert result_of(root)["error"]["code"] == "CANCELLED"


@pytest.mark.prefect
def test_a_crashed_run_of_somebody_s_own_process_stays_crashed(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    run = runs.undeployed(make_workspace())
    runs.set(run, "RUNNING", "CRASHED")
    assert _look(settings_with(stuck_after=0.001), runs, run) == []
    assert runs.state(run)[0] == "CRASHED"


@pytest.mark.prefect
def test_a_saved_ending_that_was_never_told_is_told(runs: Runs, make_workspace: Callable[..., Path]) -> None:
    run = runs.make(make_workspace())
    runs.set(run, "PENDING", "RUNNING")
    settings = settings_with(stuck_after=0.001)
    ending = {"state": "FAILED", "message": "BAD_FORMAT: no", "data": None, "error": None}
    files = FlowRunFiles(settings.home, run)
    files.save_outcome(ending)
    _look(settings, runs, run)
    now = runs.get(run)["state"]
    assert (now["type"], now["message"]) == ("FAILED", "BAD_FORMAT: no")


@pytest.mark.prefect
def test_runs_that_no_task_stands_for_are_found_too(
    runs: Runs, make_workspace: Callable[..., Path], dead: ProcessIdentity
) -> None:
    run = runs.make(make_workspace())
    runs.set(run, "PENDING", message=claim_message(WorkerIdentity("w", dead)))
    settings = settings_with()
    ask(settings, lambda prefect: Reconciler(FlowRuns(settings), prefect).look({}))
    assert runs.state(run)[0] == "SCHEDULED"


@pytest.mark.prefect
@pytest.mark.docker
def test_a_container_of_a_run_that_has_ended_goes(
    runs: Runs, take: Callable[..., Taken], make_workspace: Callable[..., Path], busybox: str, docker_client: Any
) -> None:
    script = "trap '' TERM; echo started; while true; do sleep 1; done"
    root = make_workspace("ended", container={"image": busybox, "cmd": ["sh", "-c", script]}, timeout=300)
    run = runs.make(root)
    runs.set(run, "PENDING", "RUNNING")
    take(run, root)
    filters = {"label": f"{LABEL}flow_run={run}"}
    settings = settings_with(cancel_grace=0.001)
    _look(settings, runs, run)
    assert docker_client.containers(all=True, filters=filters), "its run has not ended"
    assert (count_containers(settings) or 0) >= 1
    runs.set(run, "CANCELLED")
    _look(settings, runs, run)
    assert not docker_client.containers(all=True, filters=filters)


def test_without_an_engine_there_is_no_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    assert count_containers(settings_with()) is None


def automations_of(server: PrefectServer) -> list[dict[str, Any]]:
    """The automations that are ours."""
    found = server.call("POST", "/automations/filter", {})
    return [one for one in found if one["name"].startswith("AutoScorer")]


@pytest.fixture
def impatient(server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs are silent after the least time that Prefect takes; afterwards the runs of other tests are not."""
    monkeypatch.setattr("autoscorer.service.prefect.automations.SILENCE", 10)
    ask(settings_with(), ensure_crash_automation)
    yield
    for one in automations_of(server):
        server.call("DELETE", f"/automations/{one['id']}")


@pytest.mark.prefect
def test_the_automation_for_silent_runs_is_made_once_and_brought_up_to_date(server: PrefectServer) -> None:
    settings = settings_with()

    def automations() -> list[dict[str, Any]]:
        return automations_of(server)

    async def ensure(prefect: PrefectApi) -> None:
        await ensure_crash_automation(prefect)
        await ensure_crash_automation(prefect)

    ask(settings, ensure)
    (made,) = automations()
    assert made["enabled"] and made["trigger"]["within"] == SILENCE
    changed = {key: made[key] for key in ("name", "description", "enabled", "actions")}
    trigger = {**made["trigger"], "within": 1000}
    server.call("PUT", f"/automations/{made['id']}", {**changed, "enabled": False, "trigger": trigger})
    ask(settings, ensure)
    (again,) = automations()
    assert again["id"] == made["id"] and again["trigger"]["within"] == SILENCE
    assert not again["enabled"], "switched off by the operator, and so it stays"
    updated = again["updated"]
    ask(settings, ensure)
    assert automations()[0]["updated"] == updated, "nothing to do, nothing done"
    server.call("DELETE", f"/automations/{again['id']}")


@pytest.mark.prefect
def test_a_run_that_falls_silent_is_marked_crashed_and_no_other(
    runs: Runs, make_workspace: Callable[..., Path], impatient: None
) -> None:
    root = make_workspace()
    silent, put_back, others = runs.make(root), runs.make(root), runs.undeployed(root)
    for run in (silent, put_back, others):
        runs.set(run, "PENDING", "RUNNING")
        runs.send_heartbeat(run)
    time.sleep(1)
    runs.set(put_back, "SCHEDULED")
    eventually(lambda: runs.state(silent)[0] == "CRASHED")
    assert runs.state(put_back)[0] == "SCHEDULED"
    assert runs.state(others)[0] == "RUNNING"
