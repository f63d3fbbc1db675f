"""``autoscorer scorers …``, through the real command."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli import scorers as command
from autoscorer.cli.main import main
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import registry as registry_module
from autoscorer.scorers.registry.builtin import BUILTIN_MODULES

pytestmark = pytest.mark.slow  # all together; each is quick

SCORER = '''\
from autoscorer.scorers.registry import register
from autoscorer.scorers.base_csv import BaseCSVScorer

@register("{name}")
class Custom(BaseCSVScorer):
    """Counts the rows."""
    name = "{name}"
    version = "{version}"
    metric = "rows"
    def compute(self, table, params):
        return {{"rows": len(table.ids){more}}}
'''


def scorer_text(name: str = "custom", version: str = "1.0.0", more: str = "") -> str:
    return SCORER.format(name=name, version=version, more=more)


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as in a process of its own (a new registry), and read its envelope."""

    def run(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
        monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
        capsys.readouterr()
        assert main(["scorers", *map(str, arguments)]) == code, capsys.readouterr()
        envelope = json.loads(capsys.readouterr().out)
        assert envelope["status"] == ("error" if code else "success")
        return envelope["error"] if code else envelope["data"]

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "custom.py"
    path.write_text(scorer_text())
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    for name, text in {
        "meta.json": json.dumps({"task_type": "regression", "scorer": "regression_rmse", "params": {}}),
        "input/gt.csv": "id,value\na,1\nb,2\n",
        "input/data/large.bin": "x",
        "input/data/more/deep.bin": "y",
        "output/masks/a.txt": "z",
        "output/pred.csv": "id,value\nb,2\na,3\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def tree(root: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def test_list_shows_the_built_ins(run: Run) -> None:
    data = run("list")
    assert {item["id"] for item in data["scorers"]} == set(BUILTIN_MODULES)
    assert data["errors"] == []
    by_id = {item["id"]: item for item in data["scorers"]}
    assert by_id["regression_rmse"]["higher_is_better"] is False
    assert by_id["classification_f1"]["higher_is_better"] is True


def test_show_answers_for_one_and_suggests_for_none(run: Run) -> None:
    assert run("show", "regression_rmse")["metric"] == "rmse"
    error = run("show", "regresion_rmse", code=1)
    assert error["code"] == "SCORER_NOT_FOUND"
    assert "did you mean 'regression_rmse'?" in error["message"]


def test_a_load_is_known_to_later_commands_until_it_is_unloaded(run: Run, file: Path, home: Path) -> None:
    before = tree(file.parent)
    loaded = run("load", file)
    assert [item["id"] for item in loaded["scorers"]] == ["custom"]
    assert loaded["recorded_in"] == str(home / "scorers.json")
    assert tree(file.parent) == before  # nothing was copied, no cache was written
    shown = run("show", "custom")
    assert shown["source"] == str(file)
    assert shown["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert run("unload", file)["unloaded"] == ["custom"]
    assert run("show", "custom", code=1)["code"] == "SCORER_NOT_FOUND"
    assert run("unload", file, code=2)["code"] == "INVALID_REQUEST"
    assert file.exists()


def test_what_does_not_load_is_not_recorded(run: Run, file: Path, home: Path) -> None:
    file.write_text(scorer_text() + "x = (\n")
    lines = len(file.read_text().splitlines())
    error = run("load", file, code=3)
    assert error["code"] == "SCORER_LOAD_ERROR"
    assert f"{file}:{lines}: SyntaxError" in error["message"]
    file.write_text(scorer_text("regression_rmse"))
    assert "taken by a built-in" in run("load", file, code=3)["message"]
    assert not (home / "scorers.json").exists()
    assert run("load", file.parent / "none.py", code=2)["code"] == "INVALID_REQUEST"
    assert "folder" in run("load", file.parent, code=2)["message"]


@pytest.mark.slow
def test_a_recorded_file_that_breaks_or_goes_stops_no_other_command(run: Run, file: Path) -> None:
    run("load", file)
    file.write_text("1/0\n")
    assert "ZeroDivisionError" in run("list")["errors"][0]["error"]["message"]
    # What a command before this one has seen load is in use, and says so.
    assert run("show", "custom")["status"] == "stale" and "ZeroDivisionError" in run("show", "custom")["error"]
    file.unlink()
    assert "custom.py" in run("show", "custom", code=1)["message"]
    assert run("show", "regression_rmse")["id"] == "regression_rmse"
    assert run("unload", file)["unloaded"] == ["custom"]
    assert run("list")["errors"] == []


@pytest.mark.slow
def test_reload_says_what_changed(run: Run, file: Path) -> None:
    assert "Load it first" in run("reload", file, code=2)["message"]
    run("load", file)

    def change() -> tuple[str, ...]:
        return tuple(f"{c['id']}: {c['change']}" for c in run("reload", file)["changes"])

    assert change() == ("custom: unchanged",)
    file.write_text(scorer_text(more=" + 1"))
    assert change() == ("custom: same version, other source",)
    file.write_text(scorer_text(version="2.0.0"))
    assert change() == ("custom: new version",)
    file.write_text(scorer_text("renamed"))
    assert change() == ("custom: removed", "renamed: added")
    file.write_text("1/0")
    assert run("reload", file, code=3)["code"] == "SCORER_LOAD_ERROR"


def test_a_folder_given_by_option_is_known_before_or_after_the_action(run: Run, file: Path) -> None:
    for arguments in (("list", "--scorers", file.parent), ("--scorers", file.parent, "list")):
        assert {item["origin"] for item in run(*arguments)["scorers"]} == {"builtin", "directory"}
    assert "configured folder" in run("unload", file, "--scorers", file.parent, code=2)["message"]


def test_test_scores_and_leaves_the_workspace_as_it_was(run: Run, workspace: Path, file: Path) -> None:
    before = tree(workspace)
    data = run("test", "--scorer-name", "regression_rmse", "--workspace", workspace)
    assert data["summary"]["score"] == pytest.approx(2**0.5)
    assert data["metrics"]["rmse"] == pytest.approx(2**0.5)
    assert data["artifacts"]
    assert set(data["seconds"]) == {"validate", "score"}
    run("load", file)
    data = run(
        "test", "--scorer-name=custom", "--workspace", workspace, "--param", "pass_threshold=2",
        "--param", "label_column=value",
    )  # fmt: skip
    assert (data["summary"]["score"], data["summary"]["pass"]) == (2.0, True)
    assert tree(workspace) == before


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda ws: (ws / "output/pred.csv").write_text("id,value\na,1\n"), "MISMATCH"),
        (lambda ws: (ws / "output/pred.csv").unlink(), "MISSING_FILE"),
        (lambda ws: (ws / "meta.json").write_text("{"), "INVALID_META"),
        (lambda ws: (ws / "meta.json").unlink(), "INVALID_META"),
    ],
    ids=["an id is missing", "no predictions", "meta.json is no JSON", "no meta.json"],
)
def test_test_tells_what_can_not_be_scored(run: Run, workspace: Path, spoil: Callable[[Path], Any], code: str) -> None:
    spoil(workspace)
    before = tree(workspace)
    error = run("test", "--scorer-name", "regression_rmse", "--workspace", workspace, code=1)
    assert error["code"] == code
    assert tree(workspace) == before


def test_test_follows_no_link_that_a_submission_left(run: Run, workspace: Path) -> None:
    (workspace / "output/pred.csv").unlink()
    (workspace / "output/pred.csv").symlink_to(workspace / "input/gt.csv")
    error = run("test", "--scorer-name", "regression_rmse", "--workspace", workspace, code=1)
    assert error["code"] == "OUTPUT_REJECTED"


def test_new_writes_a_scorer_that_loads_and_tests(run: Run, tmp_path: Path, workspace: Path) -> None:
    written = run("new", "my_scorer", "--into", tmp_path / "mine")
    run("load", written["scorer"])
    data = run("test", "--scorer-name", "my_scorer", "--workspace", workspace)
    assert data["metrics"] == {"within_tolerance": 0.5, "largest_error": 2.0}
    assert "there already" in run("new", "my_scorer", "--into", tmp_path / "mine", code=2)["message"]


def test_wrong_usage_is_told_as_such(run: Run) -> None:
    for arguments in ((), ("lode", "x.py"), ("load",), ("test", "--workspace", "x"), ("list", "--nonsense")):
        assert run(*arguments, code=2)["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("action", ["list", "show", "load", "reload", "unload", "test", "new"])
def test_every_action_has_a_readable_view(
    run: Run, file: Path, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    import argparse

    file.write_text(scorer_text().replace("Counts the rows.", "Counts \x1b[31mthe rows."))
    arguments = {
        "show": ["custom"], "test": ["--scorer-name", "regression_rmse", "--workspace", workspace],
        "new": ["my_scorer", "--into", tmp_path / "mine"], "list": [],
    }.get(action, [file])  # fmt: skip
    if action != "load":
        run("load", file)
    data = run(action, *arguments)
    command.render(data, argparse.Namespace(action=action))
    shown = capsys.readouterr().out
    assert {"test": "regression_rmse", "new": "my_scorer.py"}.get(action, "custom") in shown
    assert "\x1b" not in shown  # a scorer's text does not command the terminal


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(file: Path, home: Path) -> None:
    """What a scorer file prints at import stays out of the envelope; a later process knows what one loaded."""
    file.write_text("print('hello from the file')\n" + scorer_text())
    environment = {**os.environ, "AUTOSCORER_HOME": str(home)}

    def call(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "autoscorer", "scorers", *arguments], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert "hello from the file" in done.stderr
        return json.loads(done.stdout)["data"]

    call("load", str(file))
    assert call("show", "custom")["version"] == "1.0.0"
