"""Validate, run and score as one: the Result of every ending, and what lies on disk after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import Security
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.tasks.pipeline import run_pipeline
from autoscorer.tasks.run import run_workspace
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.scoring import GuardedScoring, PlainScoring, Scoring
from autoscorer.tasks.validate import validate_workspace

from ..support.opens import counting_opens
from ..support.workspaces import result_of

TRUTH = "id,label\na,cat\nb,dog\nc,cat\nd,dog\n"
GOOD = "id,label\nd,dog\nc,cat\nb,dog\na,dog\n"
WRITE = [
    "python",
    "-c",
    "import os,sys; open(os.environ['AUTOSCORER_WORKSPACE'] + '/output/pred.csv','w').write(sys.argv[1])",
]


@pytest.fixture
def writer(make_workspace: Callable[..., Path]) -> Callable[..., Path]:
    """A workspace whose model writes the given predictions."""

    def make(pred: str = GOOD, name: str = "ws", **meta: Any) -> Path:
        return make_workspace(name, truth=TRUTH, container={"cmd": [*WRITE, pred]}, **meta)

    return make


def _saved(root: Path) -> dict[str, Any]:
    return dict(result_of(root))


def _codes(error: AutoScorerError) -> set[str]:
    return {item["code"] for item in error.details.get("problems", [error.to_dict()])}


def test_a_good_submission(writer: Any, settings: Settings) -> None:
    root = writer(params={"pass_threshold": 0.7}, job_id="job-7")
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is None
    # By hand: cat has precision 1 and recall 1/2 (F1 2/3), dog precision 2/3 and recall 1 (F1 4/5).
    assert result.summary.score == pytest.approx((2 / 3 + 4 / 5) / 2, abs=1e-12)
    assert result.summary.passed is True and result.job_id == "job-7"
    assert _saved(root) == result.to_dict()
    versioning = result.versioning
    assert versioning.scorer == "classification_f1" and versioning.params == {"pass_threshold": 0.7}
    for digest in (
        versioning.scorer_sha256,
        versioning.ground_truth_sha256,
        versioning.predictions_sha256,
        versioning.input_sha256,
    ):
        assert digest is not None and len(digest) == 64
    assert versioning.image == "process" and versioning.timestamp is not None
    timing = result.timing
    assert timing.total is not None and timing.run is not None and timing.validate_ is not None
    assert timing.total >= timing.run
    for artifact in result.artifacts.values():
        path = root / artifact.path
        assert path.stat().st_size == artifact.size
    assert "report" in result.artifacts and (root / "logs" / "container.log").exists()


def test_the_result_is_the_same_bytes_again_apart_from_times(writer: Any, settings: Settings) -> None:
    root = writer()
    run_workspace(root, settings=settings, backend="process")

    def scored() -> tuple[dict[str, Any], dict[str, bytes]]:
        data = score_workspace(root, settings=settings).to_dict()
        del data["timing"], data["versioning"]["timestamp"], data["artifacts"]["report"]
        del data["disclosed"]["artifacts"]["report"]
        found = (path for path in sorted((root / "output" / "artifacts").rglob("*")) if path.is_file())
        files = {str(path.relative_to(root / "output" / "artifacts")): path.read_bytes() for path in found}
        del files["report.html"], files["shared/report.html"]
        return data, files

    assert scored() == scored()


def test_scoring_again_keeps_the_previous_result(writer: Any, settings: Settings) -> None:
    root = writer()
    first = run_pipeline(root, settings=settings, backend="process").to_dict()
    score_workspace(root, settings=settings, scorer="classification_accuracy")
    kept = list((root / "output" / "history").iterdir())
    assert [json.loads(path.read_text()) for path in kept] == [first]
    run_pipeline(root, settings=settings, backend="process")
    assert len(list((root / "output" / "history").iterdir())) == 2


def test_artifacts_of_an_earlier_scorer_do_not_stay(writer: Any, settings: Settings) -> None:
    root = writer()
    run_pipeline(root, settings=settings, backend="process")
    stray = root / "output" / "artifacts" / "of-an-old-scorer.svg"
    stray.write_text("old")
    score_workspace(root, settings=settings)
    assert not stray.exists()


def test_an_invalid_workspace_is_not_run(writer: Any, settings: Settings) -> None:
    root = writer(scorer="no_such_scorer")
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code == "SCORER_NOT_FOUND"
    assert result.error.stage == "validation"
    assert _saved(root)["error"]["code"] == "SCORER_NOT_FOUND"
    assert not (root / "logs").exists(), "an invalid submission was run"


def test_a_failed_model_leaves_a_result_a_log_and_a_report(make_workspace: Any, settings: Settings) -> None:
    root = make_workspace(container={"cmd": ["python", "-c", "print('about to fail'); raise SystemExit(3)"]})
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code == "CONTAINER_FAILED"
    assert result.error.details["exit_code"] == 3 and result.error.details["log"] == ["about to fail"]
    assert result.summary.score is None and result.resources.exit_code == 3
    assert _saved(root)["error"] == result.to_dict()["error"]
    assert (root / "logs" / "container.log").read_text() == "about to fail\n"
    assert "CONTAINER_FAILED" in (root / "output" / "artifacts" / "report.html").read_text()


@pytest.mark.parametrize(
    ("pred", "code"),
    [
        ("id,label\na,cat\n", "MISMATCH"),
        ("id,label\n" + "a,cat\n" * 4, "MISMATCH"),
        ("", "BAD_FORMAT"),
        ('id,label\na,"cat\n', "BAD_FORMAT"),
        ("nothing,here\n1,2\n", "BAD_FORMAT"),
    ],
)
def test_predictions_that_cannot_be_scored(writer: Any, settings: Settings, pred: str, code: str) -> None:
    root = writer(pred)
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and (result.error.code, result.error.stage) == (code, "scoring")
    assert _saved(root)["error"]["code"] == code


def test_no_predictions_at_all(make_workspace: Any, settings: Settings) -> None:
    root = make_workspace(container={"cmd": ["python", "-c", "pass"]})
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code == "MISSING_FILE"


def test_bad_predictions_of_an_earlier_run_do_not_stop_the_next(writer: Any, settings: Settings) -> None:
    root = writer()
    (root / "output").mkdir()
    (root / "output" / "pred.csv").write_text("broken")
    with pytest.raises(AutoScorerError):
        validate_workspace(root, settings=settings, backend="process")
    assert run_pipeline(root, settings=settings, backend="process").error is None


def test_every_problem_is_reported_at_once(make_workspace: Any, settings: Settings) -> None:
    root = make_workspace(
        truth="id,label\na,x\na,y\n", scorer="classification_f2", resources={"memory": "9Ti"}, timeout=9e9
    )
    (root / "input" / "data" / "copy.csv").write_bytes((root / "input" / "gt.csv").read_bytes())
    with pytest.raises(AutoScorerError) as caught:
        validate_workspace(root, settings=settings)
    assert _codes(caught.value) == {"INVALID_META", "SCORER_NOT_FOUND", "GROUND_TRUTH_EXPOSED"}
    text = caught.value.message
    for expected in ("resources.memory", "timeout", "classification_f1", "input/data/copy.csv", "container.image"):
        assert expected in text, expected


def test_problems_of_meta_do_not_hide_those_of_the_files(make_workspace: Any, settings: Settings) -> None:
    root = make_workspace(timout=3, resources={"memory": -1})
    (root / "input" / "gt.csv").unlink()
    with pytest.raises(AutoScorerError) as caught:
        validate_workspace(root, settings=settings)
    assert _codes(caught.value) == {"INVALID_META", "MISSING_FILE"}
    assert "did you mean 'timeout'" in caught.value.message


def test_bad_params_and_bad_truth_together(writer: Any, settings: Settings) -> None:
    root = writer(params={"pass_treshold": 0.5})
    (root / "input" / "gt.csv").write_text("id,label\na,x\na,y\n")
    with pytest.raises(AutoScorerError) as caught:
        validate_workspace(root, settings=settings, backend="process")
    assert "BAD_PARAMS" in _codes(caught.value)
    assert "did you mean 'pass_threshold'" in caught.value.message


def test_a_custom_scorer_that_fails_is_named_with_its_line(writer: Any, settings: Settings, tmp_path: Path) -> None:
    from autoscorer.scorers.registry import get_registry

    file = tmp_path / "broken_scorer.py"
    file.write_text(
        "from autoscorer.scorers.registry import register\n"
        "from autoscorer.scorers.base_csv import BaseCSVScorer\n"
        "@register('always_broken')\n"
        "class Broken(BaseCSVScorer):\n"
        "    name = 'always_broken'\n"
        "    version = '1'\n"
        "    def compute(self, table, params):\n"
        "        return {'score': 1 / 0}\n"
    )
    get_registry().load_file(file)
    try:
        root = writer()
        run_workspace(root, settings=settings, backend="process")
        result = score_workspace(root, settings=settings, scorer="always_broken")
    finally:
        get_registry().unload_file(file)
    assert result.error is not None and result.error.code == "SCORER_ERROR"
    assert "broken_scorer.py, line 8" in result.error.message and "division by zero" in result.error.message
    assert "Traceback" not in json.dumps(result.to_dict())


def test_provenance_of_a_run_is_taken_only_for_its_own_predictions(writer: Any, settings: Settings) -> None:
    root = writer()
    run_workspace(root, settings=settings, backend="process")
    assert score_workspace(root, settings=settings).versioning.image == "process"
    (root / "output" / "pred.csv").write_text(GOOD.replace("a,dog", "a,cat"))
    result = score_workspace(root, settings=settings)
    assert result.versioning.image is None and result.resources.exit_code is None
    assert any("not from the last run" in note for note in result.notes)


def test_a_workspace_that_does_not_exist(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(AutoScorerError) as caught:
        run_pipeline(tmp_path / "nothing", settings=settings)
    assert caught.value.code is ErrorCode.WORKSPACE_NOT_FOUND


def test_a_home_that_cannot_be_written_is_the_operators_to_mend(writer: Any, settings: Settings) -> None:
    root = writer()
    result = run_pipeline(root, settings=settings.model_copy(update={"home": Path("/proc/nope")}), backend="process")
    assert result.error is not None and (result.error.code, result.error.stage) == ("INVALID_REQUEST", "config")
    assert "AUTOSCORER_HOME" in result.error.message


@pytest.mark.parametrize("step", ["validate.validate", "run.run_sealed", "score._score"])
def test_a_fault_of_our_own_leaves_no_old_result(
    writer: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever breaks in us, the Result on disk is this run's, and says so without a traceback."""
    root = writer()
    assert run_pipeline(root, settings=settings, backend="process").error is None

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("injected")

    module, name = step.split(".")
    user = {"validate": "scoring.guarded"}.get(module, module)
    monkeypatch.setattr(f"autoscorer.tasks.{user}.{name}", broken)
    result = run_pipeline(root, settings=settings, backend="process")
    assert result.error is not None and result.error.code == "INTERNAL_ERROR"
    assert "ZeroDivisionError" in result.error.message and "Traceback" not in result.error.message
    assert _saved(root) == result.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("who", [PlainScoring, GuardedScoring])
@pytest.mark.parametrize("ending", ["scored", "refused", "failed"])
def test_a_run_reads_meta_json_once_and_writes_one_result(
    writer: Any, settings: Settings, who: type[Scoring], ending: str
) -> None:
    root = writer(scorer="no_such_scorer") if ending == "refused" else writer(GOOD if ending == "scored" else "id\na\n")
    with counting_opens(root / "meta.json") as opened:
        (root / "meta.json").read_bytes()
        assert opened() == 1, "it does not count"
        scoring = who(settings)
        result = run_pipeline(root, settings=settings, backend="process", scoring=scoring)
        assert opened() == 1
    if isinstance(scoring, GuardedScoring):
        scoring.close()
    assert (result.error is None) == (ending == "scored")
    assert _saved(root) == result.to_dict()
    assert not (root / "output" / "history").exists(), "a second Result has taken the first one's place"


@pytest.mark.slow
@pytest.mark.parametrize("who", [PlainScoring, GuardedScoring])
def test_a_pipeline_goes_by_the_meta_json_that_was_checked(
    make_workspace: Any, settings: Settings, who: type[Scoring]
) -> None:
    """The model's minutes are enough to change it: to another scorer, to a job that nobody has checked."""
    change = "import os, pathlib, sys; root = pathlib.Path(sys.argv[1]); (root / 'meta.json').write_text('[]')"
    write = WRITE[2] + "; " + change.replace("sys.argv[1]", "sys.argv[2]")
    root = make_workspace("changed", truth=TRUTH, container={"cmd": ["python", "-c", write, GOOD, "{root}"]})
    meta = json.loads((root / "meta.json").read_text())
    meta["container"]["cmd"][-1] = str(root)
    (root / "meta.json").write_text(json.dumps(meta))
    scoring = who(settings)
    result = run_pipeline(root, settings=settings, backend="process", scoring=scoring)
    if isinstance(scoring, GuardedScoring):
        scoring.close()
    assert (root / "meta.json").read_text() == "[]"
    assert result.error is None and result.summary.score == pytest.approx((2 / 3 + 4 / 5) / 2, abs=1e-12)


@pytest.mark.docker
def test_the_whole_of_it_in_docker(make_workspace: Any, busybox: str, settings: Settings) -> None:
    command = [
        "sh",
        "-c",
        "echo predicting; printf 'id,label\\na,SECRET-TRUTH-1\\nb,x\\n' > /workspace/output/pred.csv",
    ]
    root = make_workspace(container={"image": busybox, "cmd": command})
    strict = settings.model_copy(update={"security": Security(allowed_images=("autoscorer-test-*",))})
    result = run_pipeline(root, settings=strict)
    assert result.error is None and result.metrics["accuracy"] == 0.5
    assert result.versioning.image == busybox
    assert str(result.versioning.image_digest).startswith("sha256:")
    assert result.resources.backend == "docker"
    refused = run_pipeline(
        root, settings=settings.model_copy(update={"security": Security(allowed_images=("team/*",))})
    )
    assert refused.error is not None and refused.error.code == "IMAGE_NOT_ALLOWED"
