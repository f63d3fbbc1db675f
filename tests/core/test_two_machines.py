"""Machines that share a home and a name: none takes another one's living runs for what a reboot left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscorer.core.flowruns import Claim, FlowRunFiles
from autoscorer.core.processes import ProcessIdentity

from ..support.machines import Machine, needs_root
from ..support.prefect_server import eventually

pytestmark = needs_root

WAITS = """
import os, pathlib, time
print("ready", flush=True)
while not (pathlib.Path(os.environ["AUTOSCORER_WORKSPACE"]) / "input" / "data" / "go").exists(): time.sleep(0.02)
(pathlib.Path(os.environ["AUTOSCORER_WORKSPACE"]) / "output" / "pred.csv").write_text("id,label\\na,x\\nb,y\\n")
"""
OWN = "from autoscorer.core.processes import ProcessIdentity; print(ProcessIdentity.current().text)"
LOST = """
import sys
from autoscorer.core.config import load_settings
from autoscorer.core.flowruns import FlowRunFiles
files = FlowRunFiles(load_settings().home, sys.argv[1])
print(files.is_lost(files.read_claim()))
"""


@pytest.fixture
def machines(tmp_path: Path) -> list[Machine]:
    return [Machine(tmp_path / f"machine-{number}", "worker") for number in range(2)]


@pytest.fixture
def running(
    machines: list[Machine], make_workspace: Callable[..., Path], docker_client: object
) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A workspace whose model runs on the first machine until the file ``go`` is in its data.

    With an engine, because `reap` says so where there is none.
    """
    root = make_workspace("shared", container={"cmd": ["python", "predict.py"]}, timeout=120)
    (root / "predict.py").write_text(WAITS)
    process = machines[0].start("-m", "autoscorer", "run", str(root), "--backend", "process")
    log = root / "logs" / "container.log"
    eventually(lambda: (log.is_file() and "ready" in log.read_text()) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    yield root, process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_run_is_not_torn_down_by_another_machine_of_the_same_name(
    machines: list[Machine], running: tuple[Path, subprocess.Popen[str]], home: Path
) -> None:
    root, process = running
    for _ in range(3):
        done = json.loads(machines[1].do("-m", "autoscorer", "reap"))
        assert done["data"]["folders"] == [], "the other machine took a run that was under way"
    assert process.poll() is None and list((home / "runs").glob("*.json"))
    (root / "input" / "data" / "go").touch()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert (root / "output" / "pred.csv").exists()


def test_what_was_there_before_a_reboot_is_cleared_up_on_that_machine(
    machines: list[Machine], running: tuple[Path, subprocess.Popen[str]], home: Path
) -> None:
    root, process = running
    process.kill()
    process.communicate()
    machines[0].boot()
    assert json.loads(machines[1].do("-m", "autoscorer", "reap"))["data"]["folders"] == []
    done = json.loads(machines[0].do("-m", "autoscorer", "reap"))
    (folder,) = done["data"]["folders"]
    assert Path(folder).parent == root / ".autoscorer" and not Path(folder).exists()
    assert not list((home / "runs").glob("*"))


@pytest.mark.slow
def test_a_claim_of_another_machine_of_the_same_name_is_not_lost(machines: list[Machine], home: Path) -> None:
    files = FlowRunFiles(home, "0190a1b2-0000-7000-8000-000000000000")
    files.claim(Claim(ProcessIdentity(machines[0].do("-c", OWN).strip())))
    # Its process has ended: on its own machine that is to be seen, on the other one it is not.
    assert machines[1].do("-c", LOST, files.flow_run_id).strip() == "False"
    assert machines[0].do("-c", LOST, files.flow_run_id).strip() == "True"
    machines[0].boot()
    assert machines[0].do("-c", LOST, files.flow_run_id).strip() == "True"
