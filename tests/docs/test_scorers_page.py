"""docs/scorers.md's first steps work word for word; no page starts a Prefect server that reports to anybody."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.markdown import ROOT, blocks_of, read, section_of
from ..support.prefect_server import PrefectServer, server

__all__ = ["server"]

PAGES = ["README.md", "README.zh-CN.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md")))]
_START = re.compile(r"^.*\bprefect server start\b.*$", re.MULTILINE)


@pytest.mark.slow
def test_a_scorer_is_written_tested_loaded_and_tried_as_the_page_says(
    make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    block = blocks_of(section_of(read("docs/scorers.md"), "Write one"))[0]
    assert any("pytest" in line for line in block.lines)
    workspace = make_workspace("tried")
    (workspace / "input" / "gt.csv").write_text("id,value\na,1\nb,2\n")
    (workspace / "output").mkdir(exist_ok=True)
    (workspace / "output" / "pred.csv").write_text("id,value\na,1\nb,3\n")
    script = "\n".join(["set -e", *block.lines]).replace("--workspace WS", f"--workspace {workspace}")
    folder = tmp_path / "mine"
    folder.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout) and '"status": "success"' in done.stdout


def test_pytest_is_installed_before_it_is_used() -> None:
    """Whoever installed AutoScorer alone has none."""
    lines = blocks_of(section_of(read("docs/scorers.md"), "Write one"))[0].lines
    needed = next(number for number, line in enumerate(lines) if "-m pytest" in line)
    assert any("pip install pytest" in line for line in lines[:needed])


def test_a_metric_is_added_by_the_steps_that_the_page_shows(
    tmp_path: Path, make_workspace: Callable[..., Path]
) -> None:
    """In a copy of the source, so that the steps fail here when the source has moved on."""
    copy = tmp_path / "autoscorer"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "tests", "docs", "__pycache__", "*.egg-info"))
    shown = section_of(read("docs/scorers.md"), "Add a metric to a built-in scorer")
    _change(copy, textwrap.dedent(shown[shown.index("   ```diff\n") : shown.index("   ```\n\n")]).splitlines()[1:])
    workspace = make_workspace("errors", task_type="regression", scorer="regression_rmse")
    (workspace / "input" / "gt.csv").write_text("id,value\na,1\nb,2\nc,2\n")
    (workspace / "output").mkdir(exist_ok=True)
    (workspace / "output" / "pred.csv").write_text("id,value\na,1\nb,3\nc,7\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "autoscorer", "score", str(workspace), "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)["data"]
    assert result["metrics"]["mean_error"] == pytest.approx(2.0)
    assert result["disclosed"]["metrics"]["mean_error"] == result["metrics"]["mean_error"]
    assert result["versioning"]["scorer_version"] == "1.1.0"


def _change(root: Path, diff: list[str]) -> None:
    """Apply a diff for people: hunks without numbers, each of whose old lines stand once in the file."""
    file = root / diff[1].removeprefix("+++ b/")
    text = file.read_text()
    for hunk in "\n".join(diff[2:]).split("@@\n")[1:]:
        lines = hunk.splitlines()
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kinds) for kinds in (" -", " +"))
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)


@pytest.mark.parametrize("page", PAGES)
def test_a_prefect_server_is_started_without_telemetry(page: str) -> None:
    for line in _START.findall(read(page)):
        assert "PREFECT_SERVER_ANALYTICS_ENABLED=false prefect server start" in line, line


@pytest.mark.prefect
def test_that_variable_switches_the_servers_telemetry_off(server: PrefectServer) -> None:
    assert server.call("GET", "/admin/settings")["server"]["analytics_enabled"] is False
