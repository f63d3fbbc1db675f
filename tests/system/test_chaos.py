"""Kill what you like while thirty tasks are under way: each of them ends, no container stays, no Result is half."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.core.workspace import Workspace

from ..support.installation import Installation, running
from ..support.prefect_server import eventually

pytestmark = [pytest.mark.docker, pytest.mark.prefect, pytest.mark.slow]

TASKS = 30
PREDICTIONS = "id,label\\na,cat\\nb,dog\\nc,cat\\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> Iterator[Installation]:
    """An installation of its own: what is killed here is nobody else's."""
    with running(tmp_path_factory.mktemp("chaos"), AUTOSCORER_SERVICE__RETRY_DELAY="0.5") as one:
        yield one


def _kill(pids: list[int]) -> None:
    assert pids, "there was nothing to kill"
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _flow_runs(live: Installation) -> None:
    def children() -> list[int]:
        claims = [files.read_claim() for files in FlowRunFiles.all(live.home)]
        return [claim.child_pid for claim in claims if claim is not None and claim.child_pid is not None]

    _kill(eventually(children))


def _workers(live: Installation) -> None:
    _kill(live.pids()["workers"])


def _api(live: Installation) -> None:
    _kill(live.pids()["api"])


def _server(live: Installation) -> None:
    _kill(live.pids()["server"])


def _everything(live: Installation) -> None:
    """As near to a power cut as a test comes: all processes at once, `autoscorer up` among them."""
    live.kill()
    _kill(list(live.processes()) or [0x7FFFFFFF])
    live.check_gone()
    live.start()


@pytest.mark.parametrize("kill", [_flow_runs, _workers, _api, _server, _everything])
def test_every_accepted_task_ends_whatever_is_killed(
    live: Installation, busybox: str, docker_client: Any, kill: Callable[[Installation], None]
) -> None:
    name = kill.__name__.strip("_")
    tasks = _submit_thirty(live, name, busybox)
    assert len(tasks) == TASKS
    runs = [task for task, (action, _) in tasks.items() if action in ("run", "pipeline")]
    # In the middle of it: a model runs, and others wait.
    eventually(lambda: any(_state(live, task) == "running" for task in runs))
    cancelled = runs[-1]
    assert live.call("POST", f"/tasks/{cancelled}/cancel")[0] in (200, 202)
    assert any(_state(live, task) in ("queued", "running") for task in tasks)

    kill(live)

    ended = {task: live.finished(task) for task in tasks}
    states = Counter(view["state"] for view in ended.values())
    assert sum(states.values()) == TASKS
    told = {task: (view["action"], view["reason"], view["error"]) for task, view in ended.items()}
    assert states == {"completed": TASKS - 1, "cancelled": 1}, told
    assert ended[cancelled]["state"] == "cancelled"
    for task, (action, workspace) in tasks.items():
        view = ended[task]
        if action in ("score", "pipeline") and view["state"] == "completed":
            result = Workspace(workspace).read_result()
            assert result is not None and result.error is None
            # The Result is this task's own, and whole.
            assert result.versioning.flow_run_id == view["flow_run_id"]
            assert view["result"]["summary"]["score"] == result.summary.score == 1.0
        if action == "batch":
            # Each of its workspaces has one record, of the Result that stands there, whoever was killed in between.
            members = live.call("GET", f"/tasks?parent={task}&sort=name")[1]["data"]["tasks"]
            assert [each["workspace"] for each in members] == sorted(
                f"{workspace.name}/{each.name}" for each in workspace.iterdir()
            )
            for each in members:
                whole = live.call("GET", f"/tasks/{each['id']}")[1]["data"]["result"]
                standing = Workspace(live.root / each["workspace"]).read_result()
                assert standing is not None and whole["timing"] == standing.to_dict()["timing"]
                assert whole["versioning"]["flow_run_id"] == view["flow_run_id"]
        else:
            assert not list(workspace.glob(".autoscorer/run-*")), f"staged files of {action} {workspace.name} stayed"
    _check_no_container(docker_client, [view["flow_run_id"] for view in ended.values() if view["flow_run_id"]])
    # Prefect's own record says the same: nothing stays Running there for ever.
    wanted = [view["flow_run_id"] for view in ended.values() if view["flow_run_id"]]

    def final() -> bool:
        found = live.prefect("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": wanted}}})
        return len(found) == len(wanted) and all(
            run["state_type"] in ("COMPLETED", "FAILED", "CANCELLED") for run in found
        )

    eventually(final)
    eventually(live.is_ready)


def _submit_thirty(live: Installation, name: str, busybox: str) -> dict[str, tuple[str, Path]]:
    container = {
        "image": busybox,
        "cmd": ["sh", "-c", f"sleep 2; printf '{PREDICTIONS}' > /workspace/output/pred.csv"],
    }
    counts = {"pipeline": 6, "run": 1, "validate": 3, "score": 19}
    wanted = [
        (
            action,
            live.workspace(
                f"{name}-{action}-{number}", pred="" if action in ("pipeline", "run") else None, container=container
            ),
        )
        for action, count in counts.items()
        for number in range(count)
    ]
    for number in range(10):
        live.workspace(f"{name}-batch/{number}")
    tasks = {}
    for action, workspace in wanted:
        status, envelope = live.call("POST", "/submit", {"action": action, "workspace": workspace.name})
        assert status == 202, envelope
        tasks[envelope["data"]["id"]] = (action, workspace)
    status, envelope = live.call("POST", "/batch", {"workspaces": [f"{name}-batch"], "action": "score"})
    assert status == 202, envelope
    # Not the last: that one is cancelled.
    return {envelope["data"]["id"]: ("batch", live.root / f"{name}-batch"), **tasks}


def _state(live: Installation, task: str) -> str:
    status, envelope = live.call("GET", f"/tasks/{task}")
    assert status == 200, envelope
    return str(envelope["data"]["state"])


def _check_no_container(docker_client: Any, flow_runs: list[str]) -> None:
    def left() -> list[str]:
        found = docker_client.containers(all=True, filters={"label": "io.autoscorer.run"})
        return [item["Names"][0] for item in found if item["Labels"].get("io.autoscorer.flow_run") in flow_runs]

    eventually(lambda: not left())
