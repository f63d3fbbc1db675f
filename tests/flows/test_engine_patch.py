"""Prefect's inside is changed in AutoScorer's own processes alone, and only where it is the Prefect that is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from autoscorer.tasks.prefect_version import PATCHED, require_patched_version

# Every function of every class of Prefect that is loaded, before and after our flows and tasks are.
_IMPORTS = """
import importlib, pkgutil, sys, types
import prefect, prefect.flow_engine, prefect.task_engine, prefect.flows, prefect.tasks, prefect.task_runners
import prefect.artifacts, prefect.runtime, prefect.states, prefect.server.database.configurations

def functions():
    return {
        (module.__name__, kind.__qualname__, name): function
        for module in list(sys.modules.values()) if getattr(module, "__name__", "").startswith("prefect")
        for kind in list(vars(module).values()) if isinstance(kind, type) and kind.__module__.startswith("prefect")
        for name, function in vars(kind).items() if isinstance(function, types.FunctionType)
    }

before = functions()
assert len(before) > 1000
for package in ("autoscorer.flows", "autoscorer.tasks", "autoscorer.worker", "autoscorer.service.prefect"):
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(found.name)
import autoscorer.cli.tracked

def changed():
    after = functions()
    return [name for name, function in before.items() if after[name] is not function]

assert not changed(), changed()
from autoscorer.flows.engine_patch import kept_states_stand
with kept_states_stand():
    assert changed(), "this test does not see what is changed"
assert not changed(), changed()
"""


@pytest.mark.slow
def test_importing_the_flows_changes_nothing_of_prefect_and_the_patch_ends_with_its_block() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_state_is_kept_only_where_the_patch_is_in_force() -> None:
    from autoscorer.flows import engine_patch
    from prefect.states import Completed

    engine_patch.keep_state("1", Completed())
    assert engine_patch._kept is None  # a plain Prefect process would hold every Result until its end
    with engine_patch.kept_states_stand():
        engine_patch.keep_state("1", Completed())
        assert engine_patch._kept is not None and list(engine_patch._kept) == ["1"]


def test_the_patches_were_made_for_the_version_that_is_pinned_and_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (pin,) = [one for one in project["project"]["dependencies"] if one.startswith("prefect==")]
    assert pin.removeprefix("prefect==") in PATCHED
    require_patched_version()


@pytest.fixture
def another_prefect(tmp_path: Path) -> dict[str, str]:
    """The environment of a process for which another Prefect is installed, as far as its metadata says."""
    metadata = tmp_path / "site" / "prefect-3.99.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: prefect\nVersion: 3.99.0\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


@pytest.mark.parametrize("command", [["worker"], ["up", "--api-port", "0", "--prefect-port", "0"]], ids=lambda c: c[0])
def test_what_runs_prefect_s_engine_or_its_server_refuses_another_version_by_name(
    another_prefect: dict[str, str], command: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", *command, "--json"], env=another_prefect, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "BACKEND_UNAVAILABLE" and error["details"]["installed"] == "3.99.0"
    assert "3.99.0" in error["message"] and f"prefect=={PATCHED[-1]}" in error["message"]


def test_the_server_itself_refuses_another_version_before_it_imports_it(another_prefect: dict[str, str]) -> None:
    command = [sys.executable, "-m", "autoscorer.service.prefect.server", "server", "start"]
    done = subprocess.run(command, env=another_prefect, capture_output=True, text=True)
    assert done.returncode == 1 and "Prefect 3.99.0 is installed" in done.stderr


@pytest.mark.slow
def test_the_patch_refuses_another_version_and_leaves_its_engine_alone(another_prefect: dict[str, str]) -> None:
    code = (
        "from autoscorer.core.errors import AutoScorerError\n"
        "from autoscorer.flows.engine_patch import kept_states_stand\n"
        "from prefect.flow_engine import FlowRunEngine\n"
        "before = FlowRunEngine.set_state\n"
        "try:\n"
        "    with kept_states_stand(): raise SystemExit('patched')\n"
        "except AutoScorerError as error:\n"
        "    assert '3.99.0' in error.message, error.message\n"
        "assert FlowRunEngine.set_state is before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=another_prefect, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
