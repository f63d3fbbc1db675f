"""A link in a workspace is refused before the model runs, and the error says that it is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.cli.main import main

from ..support.workspaces import result_of

COMMAND = ["python", "-c", "import os; os.chdir(os.environ['AUTOSCORER_WORKSPACE']); "
           "open('output/pred.csv', 'w').write('id,label\\na,' + open('input/data/near/again').read())"]  # fmt: skip

Answer = tuple[int, dict[str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def told(*arguments: str) -> Answer:
        code = main([arguments[0], *arguments[1:], *(["--backend", "process"] if arguments[0] != "score" else [])])
        error = json.loads(capsys.readouterr().out).get("error") or {}
        problems = error.get("details", {}).get("problems", [error] if error else [])
        return code, {each["code"]: each["message"] for each in problems}

    return told


@pytest.fixture
def workspace(make_workspace: Callable[..., Path]) -> Path:
    root = make_workspace("linked", container={"cmd": COMMAND})
    (root / "input" / "gt.csv").write_text("id,label\na,cat\n")
    near = root / "input" / "data" / "near"
    near.mkdir(parents=True)
    (near / "label").write_text("cat")
    (near / "again").symlink_to("../near/label")
    return root


def test_a_link_that_stays_in_its_folder_is_one_for_the_model_too(workspace: Path, ask: Callable[..., Answer]) -> None:
    assert ask("validate", str(workspace)) == (0, {})
    assert ask("pipeline", str(workspace)) == (0, {})
    assert result_of(workspace)["summary"]["score"] == 1.0


@pytest.mark.parametrize("kind", ["absolute", "out", "sibling", "nothing", "loop", "folder"])
@pytest.mark.parametrize("command", ["validate", "run", "pipeline"])
def test_one_that_leads_out_is_refused(
    workspace: Path, ask: Callable[..., Answer], tmp_path: Path, kind: str, command: str
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x").write_text("x")
    (workspace / "input" / "other").mkdir()
    (workspace / "input" / "other" / "x").write_text("x")
    link = workspace / "input" / "data" / "near" / "link"
    link.symlink_to({
        "absolute": workspace / "input" / "data" / "near" / "label",
        "out": "../../../../far/x",
        "sibling": "../../other/x",
        "nothing": "gone",
        "loop": "link",
        "folder": tmp_path / "far",
    }[kind])  # fmt: skip
    code, problems = ask(command, str(workspace))
    assert code == 1 and set(problems) == {"MISSING_FILE"}
    assert "input/data/near/link is a link" in problems["MISSING_FILE"]
    assert str(tmp_path) not in problems["MISSING_FILE"]


@pytest.mark.parametrize("command", ["validate", "score", "pipeline"])
def test_a_linked_ground_truth_is_called_a_link(
    workspace: Path, ask: Callable[..., Answer], tmp_path: Path, command: str
) -> None:
    (workspace / "input" / "gt.csv").rename(tmp_path / "elsewhere.csv")
    (workspace / "input" / "gt.csv").symlink_to(tmp_path / "elsewhere.csv")
    (workspace / "output").mkdir(exist_ok=True)
    (workspace / "output" / "pred.csv").write_text("id,label\na,cat\n")
    code, problems = ask(command, str(workspace))
    assert code == 1 and "input/gt.csv is a link" in problems["MISSING_FILE"], problems
