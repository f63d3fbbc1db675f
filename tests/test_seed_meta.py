"""As the first system writes it: meta.json, examples, scorers and metrics work beside our own spelling."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import autoscorer
import pytest
from autoscorer.schemas.job import Job

ROOT = Path(autoscorer.__file__).parent
EXAMPLES = ROOT / "examples"
PREDICTIONS = {"classification": "pred.csv", "regression": "pred.csv", "detection": "pred.json"}


def autoscorer_command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoscorer", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "AUTOSCORER_HOME": str(cwd.parent / "home")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def git(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(["git", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as somebody finds them who has cloned the repository: what git would add, and nothing else."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "examples", ".gitignore", cwd=ROOT
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "-q", cwd=folder)
    git("add", "-A", cwd=folder)
    git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "fresh", cwd=folder)
    return folder


# --- examples --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", PREDICTIONS)
def test_an_example_is_scored_on_a_fresh_checkout_and_leaves_it_clean(task: str, checkout: Path) -> None:
    done = autoscorer_command("score", f"examples/{task}", "--json", cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["error"] is None
    assert data["summary"]["pass"] is True
    assert (checkout / "examples" / task / data["artifacts"]["report"]["path"]).exists()
    assert git("status", "--porcelain", cwd=checkout) == ""


@pytest.mark.parametrize("task", PREDICTIONS)
def test_the_predictions_of_an_example_are_what_its_model_makes(task: str, checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "examples" / task / "input", tmp_path / "input", ignore=shutil.ignore_patterns("gt.*"))
    (tmp_path / "output").mkdir()
    command = Job.model_validate_json((EXAMPLES / task / "meta.json").read_bytes()).container.cmd
    assert command[0] == "python"
    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=checkout / "examples" / task,
        env={"PATH": os.environ["PATH"], "AUTOSCORER_WORKSPACE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    name = PREDICTIONS[task]
    assert (tmp_path / "output" / name).read_bytes() == (checkout / "examples" / task / "output" / name).read_bytes()


@pytest.mark.parametrize("task", PREDICTIONS)
def test_an_installation_has_the_predictions_too(task: str) -> None:
    import tomllib

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-data"]["autoscorer.examples"] == ["**/*"]
    tracked = git("ls-files", "--", f"examples/{task}/output", cwd=ROOT).split()
    assert tracked == [f"examples/{task}/output/{PREDICTIONS[task]}"]


def test_the_demo_runs_on_copies_and_leaves_the_checkout_as_it_was(checkout: Path) -> None:
    shutil.copytree(checkout, clone := checkout.parent / "demo-checkout")
    done = autoscorer_command("demo", "--backend", "process", "--json", cwd=clone)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["data"]["examples"]:
        assert Path(row["report"]).is_relative_to(clone / "autoscorer-demo")
    assert git("status", "--porcelain", cwd=clone) == ""
