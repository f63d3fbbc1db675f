"""A cancel reaches a running model also while Prefect is away, and Prefect agrees when it is back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.core.workspace import Workspace

from .installation import Installation, running
from .prefect_server import eventually

pytestmark = [pytest.mark.docker, pytest.mark.prefect, pytest.mark.slow]

SLEEPER = "trap '' TERM INT; echo ready; while true; do sleep 1; done"
PATIENT = """
import time
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register
@register("endless")
class Endless(BaseScorer):
    name, version = "endless", "1.0.0"
    def score(self, workspace, params):
        (workspace / "logs").mkdir(exist_ok=True)
        (workspace / "logs" / "container.log").write_text("ready")
        while True:
            time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> Iterator[Installation]:
    """An installation of its own, whose server may be taken away."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "scorers").mkdir()
    (folder / "scorers" / "endless.py").write_text(PATIENT)
    with running(folder, AUTOSCORER_SCORERS__DIRS=f'["{folder}/scorers"]') as one:
        yield one


@pytest.mark.parametrize("away", [Installation.with_prefect_hanging, Installation.without_prefect])
def test_a_cancel_while_prefect_is_away_ends_what_runs(
    live: Installation, busybox: str, docker_client: Any, away: Callable[[Installation], AbstractContextManager[None]]
) -> None:
    name = away.__name__.replace("_", "-")
    container = {"image": busybox, "cmd": ["sh", "-c", SLEEPER]}
    tasks = {}
    for action, extra in (("pipeline", {"container": container, "timeout": 600}), ("score", {"scorer": "endless"})):
        root = live.workspace(f"{name}-{action}", pred="" if action == "pipeline" else None, **extra)
        status, envelope = live.call("POST", "/submit", {"action": action, "workspace": root.name})
        assert status == 202, envelope
        tasks[envelope["data"]["id"]] = root
    for root in tasks.values():
        eventually(lambda root=root: "ready" in _log(root))
    runs = {task: live.call("GET", f"/tasks/{task}")[1]["data"]["flow_run_id"] for task in tasks}
    pipeline = next(iter(runs.values()))
    assert len(_containers(docker_client, pipeline)) == 1

    with away(live):
        for task in tasks:
            assert live.call("POST", f"/tasks/{task}/cancel")[0] in (200, 202)
        for task, root in tasks.items():
            view = live.finished(task, within=40)
            assert (view["state"], view["error"]["code"]) == ("cancelled", "CANCELLED"), view
            result = Workspace(root).read_result()
            assert result is not None and result.error is not None and result.error.code == "CANCELLED"
            assert result.versioning.flow_run_id == runs[task]
            assert view["result"] is not None and view["result"]["error"]["code"] == "CANCELLED"
        assert _containers(docker_client, pipeline) == []
        assert not list((next(iter(tasks.values())) / ".autoscorer").glob("run-*"))

    for run in runs.values():
        # Never anything else in between: nobody begins it again.
        state = eventually(lambda run=run: _final(live, run), within=120)
        assert state == "CANCELLED"
        eventually(lambda run=run: FlowRunFiles(live.home, run).read_claim() is None)
    for task in tasks:
        assert live.call("GET", f"/tasks/{task}")[1]["data"]["state"] == "cancelled"
    eventually(live.is_ready, within=120)


def _log(root: Path) -> str:
    with contextlib.suppress(OSError):
        return (root / "logs" / "container.log").read_text()
    return ""


def _containers(client: Any, flow_run_id: str) -> list[Any]:
    return list(client.containers(all=True, filters={"label": f"io.autoscorer.flow_run={flow_run_id}"}))


def _final(live: Installation, flow_run_id: str) -> str | None:
    try:
        state = str(live.prefect("GET", f"/flow_runs/{flow_run_id}")["state"]["type"])
    except OSError:
        time.sleep(0.5)
        return None
    return state if state in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") else None
