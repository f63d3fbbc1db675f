"""Scale-out by configuration alone: PostgreSQL, Redis, two Prefect servers behind one address, two workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.service.prefect.client import PrefectApi, PrefectAway

from ..support.installation import Installation
from ..support.ports import free_port
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.prefect_cluster import Balancer, start_servers
from ..support.processes import Processes
from ..support.processes import processes as processes
from ..support.workspaces import result_of

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

RUNS = 40


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    one = Balancer([free_port(), free_port()])
    yield one
    one.close()


def test_two_servers_and_two_workers_share_the_load_and_one_server_may_die(
    processes: Processes, own_postgres: Postgres, balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = start_servers(processes, own_postgres, balancer.ports)

    # The clients know one address, and nothing of what is behind it.
    maker = Installation(processes.folder)
    here = {
        "AUTOSCORER_HOME": str(maker.home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(maker.root),
        "PREFECT_API_URL": balancer.url + "/api",
        "PREFECT_HOME": str(processes.folder / "client"),
    }
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    clients = {**os.environ, **here}
    autoscorer = [sys.executable, "-m", "autoscorer"]
    processes.run(*autoscorer, "deploy", environment=clients)
    workers = {
        name: processes.start(name, *autoscorer, "worker", "--name", name, "--limit", "2", environment=clients)
        for name in ("left", "right")
    }
    spaces = [maker.workspace(f"ws-{number}") for number in range(RUNS)]

    async def work() -> dict[str, Any]:
        async with PrefectApi(load_settings()) as api:

            async def ask(question: Any) -> Any:
                # A request that was under way when its server died is asked again, as all our processes do.
                for _ in range(50):
                    with contextlib.suppress(PrefectAway):
                        return await question()
                    await asyncio.sleep(0.2)
                raise AssertionError("the servers do not answer")

            deployment = await ask(lambda: api.deployment("score-only", "score"))
            runs = [{"parameters": {"workspace": str(space)}, "idempotency_key": space.name} for space in spaces]
            made = await ask(lambda: api.create_flow_runs(deployment["id"], runs))
            ids = [each["flow_run_id"] for each in made]
            killed = False
            deadline = time.monotonic() + 300
            while True:
                assert time.monotonic() < deadline, processes.log("left")[-3000:] + processes.log("right")[-3000:]
                found: dict[str, Any] = await ask(lambda: api.flow_runs(ids))
                ended = [run for run in found.values() if run["state_type"] not in ("SCHEDULED", "PENDING", "RUNNING")]
                if not killed and len(ended) >= RUNS // 4:
                    servers[0].kill()
                    killed = True
                if len(ended) == RUNS:
                    assert killed
                    return found
                await asyncio.sleep(0.05)

    found = asyncio.run(work())
    assert {run["state_type"] for run in found.values()} == {"COMPLETED"}
    # Once each: one attempt, one Result, written for that very run, and none before it.
    assert {run["run_count"] for run in found.values()} == {1}
    by_workspace = {run["parameters"]["workspace"]: run["id"] for run in found.values()}
    assert len(by_workspace) == RUNS
    for space in spaces:
        result = result_of(space)
        assert result["summary"]["score"] == 1.0
        assert result["versioning"]["flow_run_id"] == by_workspace[str(space)]
        assert not (space / "output" / "history").exists()

    # Both worked on them.
    counts = {}
    for name, worker in workers.items():
        worker.terminate()
        worker.wait(300)
        output = processes.log(name)
        answer = json.JSONDecoder().raw_decode(output[output.index('{\n  "status"') :])[0]
        counts[name] = answer["data"]["runs"]
    assert sum(counts.values()) == RUNS
    assert min(counts.values()) > 0
