"""What an earlier attempt of a flow run left goes with the next one's start, wherever nobody else has an engine."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.processes import ProcessIdentity
from autoscorer.flows.hooks import clear_earlier_attempt

from ..support.lost_runs import of_another_container


@pytest.mark.docker
def test_the_next_attempt_removes_the_container_of_the_last_one_and_nobody_elses(
    settings: Settings, make_workspace: Callable[..., Path], busybox: str, docker_client: Any
) -> None:
    root = make_workspace()
    runs = {name: str(uuid.uuid4()) for name in ("mine", "other")}
    made = {}
    for name, flow_run in runs.items():
        run_id = f"{name}-{flow_run}"
        labels = {"io.autoscorer.run": run_id, "io.autoscorer.flow_run": flow_run}
        container = docker_client.create_container(busybox, ["true"], name=f"autoscorer-{run_id}", labels=labels)
        staged = root / ".autoscorer" / f"run-{run_id}"
        (staged / "output").mkdir(parents=True)
        record = settings.home / "runs" / f"{run_id}.json"
        record.parent.mkdir(exist_ok=True)
        # A process of a container that is gone, as far as can be seen from another one.
        owner = of_another_container(ProcessIdentity.current()).text.replace("4026530000", "hidden")
        content = {"run_id": run_id, "backend": "docker", "owner": owner, "workspace": str(root)}
        record.write_text(json.dumps({**content, "flow_run": flow_run, "deadline": time.time() + 3600}))
        made[name] = container["Id"], record, staged
    try:
        clear_earlier_attempt(settings, runs["mine"])
        there = {each["Id"] for each in docker_client.containers(all=True)}
        for name, (container, record, staged) in made.items():
            assert (container in there, record.exists(), staged.exists()) == ((name == "other",) * 3)
    finally:
        docker_client.remove_container(made["other"][0], force=True)
