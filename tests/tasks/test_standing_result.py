"""What a person does who asks for something that can't be done: the Result that was there, and its files, stay."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.tasks.pipeline import run_pipeline
from autoscorer.tasks.results.ensure import ensure_result
from autoscorer.tasks.results.failures import REFUSALS
from autoscorer.tasks.run import run_workspace
from autoscorer.tasks.score import score_workspace

from ..support.workspaces import result_of

Made = Callable[..., Path]
GOOD = "id,label\na,SECRET-TRUTH-1\nb,SECRET-TRUTH-2\n"
SHELL = {"container": {"image": "any", "cmd": ["sh", "-c", f"printf '{GOOD}' > output/pred.csv"]}}


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "output").rglob("*") if path.is_file()}


def scored(make_workspace: Made, settings: Settings, **meta: Any) -> tuple[Path, dict[str, bytes]]:
    root = make_workspace(pred=GOOD, **meta)
    assert score_workspace(root, settings=settings).error is None
    files = everything(root)
    assert "output/artifacts/report.html" in files
    return root, files


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"params": {"pass_treshold": 0.8}}, "BAD_PARAMS"),
        ({"params": {"pass_threshold": "much"}}, "BAD_PARAMS"),
        ({"scorer": "clasification_f1"}, "SCORER_NOT_FOUND"),
    ],
)
def test_a_mistyped_request_leaves_the_result_and_its_artifacts(
    make_workspace: Made, settings: Settings, options: dict[str, Any], code: str
) -> None:
    root, files = scored(make_workspace, settings, **SHELL)
    for ask in (score_workspace, partial(run_pipeline, backend="process")):
        result = ask(root, settings=settings, **options)
        assert result.error is not None and result.error.code == code
        assert any("stands" in note for note in result.notes)
        assert everything(root) == files


def test_an_unusable_meta_json_leaves_the_result(make_workspace: Made, settings: Settings) -> None:
    root, files = scored(make_workspace, settings)
    meta = root / "meta.json"
    before = meta.read_text()
    for text in ("{", json.dumps({**json.loads(before), "params": {"nonsense": 1}})):
        meta.write_text(text)
        for ask in (score_workspace, run_pipeline):
            assert ask(root, settings=settings).error is not None
            assert everything(root) == files
    meta.write_text(before)
    assert score_workspace(root, settings=settings).error is None


def test_a_damaged_ground_truth_found_by_validation_leaves_the_result(make_workspace: Made, settings: Settings) -> None:
    root, files = scored(make_workspace, settings, **SHELL)
    (root / "input" / "gt.csv").write_text("id,label\na\n")
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code in ("BAD_FORMAT", "PARSE_ERROR")
    assert everything(root) == files


def test_predictions_that_cannot_be_scored_do_replace_it(make_workspace: Made, settings: Settings) -> None:
    root, files = scored(make_workspace, settings)
    (root / "output" / "pred.csv").write_text("id,label\na,x\n")
    result = score_workspace(root, settings=settings)
    assert result.error is not None and result.error.code == "MISMATCH"
    assert result_of(root)["error"]["code"] == "MISMATCH"
    (kept,) = (root / "output" / "history").iterdir()
    assert kept.read_bytes() == files["output/result.json"]


def test_scoring_after_a_failed_run_keeps_how_the_run_ended(make_workspace: Made, settings: Settings) -> None:
    root = make_workspace(pred=GOOD, container={"image": "any", "cmd": ["sh", "-c", "exit 7"]})
    assert score_workspace(root, settings=settings).error is None
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code == "CONTAINER_FAILED"
    files = everything(root)
    result = score_workspace(root, settings=settings)
    assert result.error is not None and result.error.code == "MISSING_FILE"
    assert "CONTAINER_FAILED" in result.error.message
    assert everything(root) == files
    assert json.loads(files["output/result.json"])["error"]["code"] == "CONTAINER_FAILED"


def test_a_run_that_leaves_no_predictions_says_so_in_its_result(make_workspace: Made, settings: Settings) -> None:
    root = make_workspace(pred=GOOD, container={"image": "any", "cmd": ["true"]})
    assert score_workspace(root, settings=settings).error is None
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code == "MISSING_FILE"
    assert result_of(root)["error"]["code"] == "MISSING_FILE"
    assert len(list((root / "output" / "history").iterdir())) == 1


def test_a_backend_that_is_away_leaves_the_result(
    make_workspace: Made, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, files = scored(make_workspace, settings, container={"image": "any", "cmd": ["true"]})
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    result = run_pipeline(root, settings=settings, backend="docker")
    assert result.error is not None and result.error.code == "BACKEND_UNAVAILABLE"
    assert everything(root) == files
    with pytest.raises(Exception, match="BACKEND_UNAVAILABLE"):
        run_workspace(root, settings=settings, backend="docker")
    assert everything(root) == files


def test_where_nothing_stands_a_refusal_is_written_and_the_next_one_takes_its_place(
    make_workspace: Made, settings: Settings
) -> None:
    root = make_workspace(pred=GOOD)
    for options, code in (({"scorer": "nobody"}, "SCORER_NOT_FOUND"), ({"params": {"x": 1}}, "BAD_PARAMS")):
        score_workspace(root, settings=settings, **options)  # type: ignore[arg-type]
        assert result_of(root)["error"]["code"] == code
    assert score_workspace(root, settings=settings).error is None


@pytest.mark.slow
def test_a_scorer_that_gives_up_after_writing_leaves_the_artifacts_as_they_were(
    make_workspace: Made, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "scorers"
    folder.mkdir()
    (folder / "moody.py").write_text(
        "from pathlib import Path\n"
        "from autoscorer.core.errors import AutoScorerError, ErrorCode\n"
        "from autoscorer.core.workspace import ArtifactWriter\n"
        "from autoscorer.schemas.result import Result\n"
        "from autoscorer.scorers.base import BaseScorer\n"
        "from autoscorer.scorers.registry import register\n\n\n"
        '@register("moody")\n'
        "class Moody(BaseScorer):\n"
        '    name, version, task_type = "moody", "1", "any"\n\n'
        "    def score(self, workspace, params):\n"
        "        writer = ArtifactWriter(workspace)\n"
        '        happy = not (Path(workspace) / "input" / "sad").exists()\n'
        '        writer.write("tale", "tale.txt", "happy" if happy else "sad")\n'
        '        writer.write("more", "more.txt" if happy else "less.txt", "x")\n'
        "        if not happy:\n"
        '            raise AutoScorerError(ErrorCode.JUDGE_ERROR, "The judge is away.")\n'
        '        return Result(summary={"score": 1.0, "joy": 1.0}, metrics={"joy": 1.0}, artifacts=writer.artifacts)\n'
    )
    root = make_workspace(pred=GOOD, scorer="moody")

    def ask() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "autoscorer", "score", str(root), "--scorers", str(folder), "--json"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert ask().returncode == 0
    files = everything(root)
    (root / "input" / "sad").touch()
    answer = ask()
    assert answer.returncode == 3 and json.loads(answer.stdout)["error"]["code"] == "JUDGE_ERROR", answer.stderr
    assert everything(root) == files


def test_the_command_says_the_error_and_what_stands(make_workspace: Made, settings: Settings) -> None:
    root, files = scored(make_workspace, settings)
    command = [sys.executable, "-m", "autoscorer", "score", str(root), "--param", "pass_treshold=0.8", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(answer.stdout)
    assert answer.returncode == 1 and told["error"]["code"] == "BAD_PARAMS"
    assert everything(root) == files


def test_the_reference_names_every_code_that_leaves_a_result() -> None:
    text = (Path(__file__).parents[2] / "docs" / "result.md").read_text()
    section = text.split("## Which errors replace it", 1)[1].split("\n#", 1)[0]
    named = {code for code in ErrorCode if f"`{code}`" in section.split("Any other code", 1)[0]}
    assert named == REFUSALS


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_result_written_for_a_dead_process_is_reported_as_configured(
    make_workspace: Made, settings: Settings, language: str
) -> None:
    """By the settings of who writes it (`--config`), not by those that lie at the usual places."""
    root = make_workspace("dead")
    configured = settings.model_copy(
        update={"scorers": settings.scorers.model_copy(update={"report_language": language})}
    )
    error = AutoScorerError(ErrorCode.INTERNAL_ERROR, "The flow run crashed.")
    ensure_result(root, "11111111-1111-4111-8111-111111111111", error, settings=configured)
    html = (root / "output/artifacts/report.html").read_text(encoding="utf-8")
    assert re.findall(r'id="in-(\w+)"[^>]* checked', html) == [language]
