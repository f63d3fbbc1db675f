"""A submission's Result: by its benchmark as it is then, and which version of it that was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.exposure import input_digest
from autoscorer.core.provenance import sha256_file
from autoscorer.schemas.result import Result
from autoscorer.tasks.benchmarks.adding import Source
from autoscorer.tasks.benchmarks.evaluate import evaluate
from autoscorer.tasks.benchmarks.rescore import rescore
from autoscorer.tasks.pipeline import run_pipeline
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.scoring.guarded import PlainScoring
from autoscorer.tasks.submissions.version import known_versions
from autoscorer.tasks.validate import validate_workspace

from ...support.benchmarks import change_spec, rows, submit, write_benchmark
from ...support.workspaces import predicting


@pytest.fixture
def folder(tmp_path: Path) -> BenchmarkFolder:
    return write_benchmark(tmp_path)


def version_of(result: Result) -> int:
    assert result.versioning.benchmark is not None
    return result.versioning.benchmark.version


def test_the_result_is_the_one_of_a_workspace_with_these_files_and_says_which_benchmark(
    folder: BenchmarkFolder, tmp_path: Path
) -> None:
    root, result = submit(folder, rows("xyxx"))
    alone = tmp_path / "alone"
    (alone / "output").mkdir(parents=True)
    (alone / "input" / "data").mkdir(parents=True)
    for name in ("input/gt.csv", "input/data/x.csv"):
        (alone / name).write_bytes((folder.root / name).read_bytes())
    (alone / "output" / "pred.csv").write_text(rows("xyxx"))
    (alone / "meta.json").write_text(json.dumps({"scorer": "classification_accuracy"}))
    expected = score_workspace(alone)
    assert result.metrics == expected.metrics and result.intervals == expected.intervals
    for key in ("ground_truth_sha256", "predictions_sha256", "input_sha256", "scorer", "params"):
        assert getattr(result.versioning, key) == getattr(expected.versioning, key), key
    ref = result.versioning.benchmark
    assert ref is not None and (ref.name, ref.version, ref.part) == ("flowers", 1, None)
    assert (root / "output" / "artifacts" / "report.html").is_file()
    assert "benchmark" not in json.loads((alone / "output" / "result.json").read_text())["versioning"]


def test_nobody_has_it_scored_in_another_way(folder: BenchmarkFolder) -> None:
    root, _ = submit(folder, rows("xyxx"))
    before = (root / "output" / "result.json").read_bytes()
    for choice in ({"scorer": "regression_rmse"}, {"params": {"pass_threshold": 0.1}}):
        result = score_workspace(root, **choice)  # type: ignore[arg-type]
        assert result.error is not None and result.error.code == "INVALID_REQUEST"
        with pytest.raises(AutoScorerError, match="as its benchmark says"):
            validate_workspace(root, **choice)  # type: ignore[arg-type]
    assert (root / "output" / "result.json").read_bytes() == before, "the Result stands"


@pytest.mark.parametrize("what", ["truth", "data", "scorer", "params"])
def test_a_change_of_what_decides_a_score_makes_a_new_version(folder: BenchmarkFolder, what: str) -> None:
    _, first = submit(folder, rows("xyxx"))
    if what == "truth":
        (folder.input / "gt.csv").write_text(rows("xyxx"))
    elif what == "data":
        (folder.input / "data" / "more.csv").write_text("x")
    elif what == "scorer":
        change_spec(folder, scorer="classification_f1")
    else:
        change_spec(folder, params={"pass_threshold": 0.9})
    _, second = submit(folder, rows("xyxx"))
    assert (version_of(first), version_of(second)) == (1, 2)
    assert len({version.digest for version in known_versions(folder)}) == 2


def test_a_change_of_anything_else_makes_none_and_one_that_is_taken_back_is_the_version_that_it_was(
    folder: BenchmarkFolder,
) -> None:
    submit(folder, rows("xyxx"))
    change_spec(folder, title="Flowers", quota={"per_day": 3}, timeout=5)
    os.utime(folder.input / "gt.csv")
    assert version_of(submit(folder, rows("xyxx"))[1]) == 1
    truth = (folder.input / "gt.csv").read_text()
    (folder.input / "gt.csv").write_text(rows("yyyy"))
    assert version_of(submit(folder, rows("xyxx"))[1]) == 2
    (folder.input / "gt.csv").write_text(truth)
    assert version_of(submit(folder, rows("xyxx"))[1]) == 1
    assert [version.number for version in known_versions(folder)] == [1, 2]


def test_files_that_have_not_changed_are_not_read_again(
    folder: BenchmarkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(folder, rows("xyxx"))
    known = known_versions(folder)[0]
    assert known.input_sha256 == input_digest(folder.as_workspace())
    assert known.ground_truth_sha256 == sha256_file(folder.input / "gt.csv").hex()
    monkeypatch.setattr(
        "autoscorer.tasks.submissions.version.input_digest", lambda space: pytest.fail("the data was read again")
    )
    assert submit(folder, rows("xyxx"))[1].error is None


def test_a_swap_of_two_files_of_one_size_and_time_is_seen(folder: BenchmarkFolder) -> None:
    one, other = folder.input / "data" / "x.csv", folder.input / "data" / "y.csv"
    other.write_text("id,x\na,2\nb,1\n")
    for path in (one, other):
        os.utime(path, ns=(1, 1))
    assert version_of(submit(folder, rows("xyxx"))[1]) == 1
    one.rename(folder.input / "z")
    other.rename(one)
    (folder.input / "z").rename(other)
    assert version_of(submit(folder, rows("xyxx"))[1]) == 2


def test_an_input_that_was_put_in_its_place_is_not_read(folder: BenchmarkFolder) -> None:
    """Whatever lies at ``input`` of a submission, the ground truth is the benchmark's."""
    root, _ = submit(folder, rows("xyxx"))
    (root / "input").unlink()
    (root / "input").mkdir()
    (root / "input" / "gt.csv").write_text(rows("xyxx"))
    assert score_workspace(root).summary.score == 0.75
    assert os.readlink(root / "input") == "../../../input"


# --- with a model ------------------------------------------------------------------------------------------------


@pytest.fixture
def unsealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DEFAULT", "process")
    return load_settings()


def model(tmp_path: Path, program: str) -> Source:
    path = tmp_path / "model"
    path.mkdir()
    (path / "Dockerfile").write_text("FROM scratch\n")
    (path / "predict.py").write_text(program)
    return Source("dockerfile", path, {"cmd": ["python", "predict.py"]})


def test_a_model_sees_the_benchmarks_data_and_not_its_truth(tmp_path: Path, unsealed: Settings) -> None:
    folder = write_benchmark(tmp_path, backends=["process"])
    program = (
        "import os, pathlib\n"
        "root = pathlib.Path(os.environ['AUTOSCORER_WORKSPACE'])\n"
        "print(sorted(os.listdir(root / 'input')), sorted(os.listdir(root / 'input' / 'data')))\n"
        "print((root / 'meta.json').read_text())\n" + predicting(rows("xyxy"))
    )
    root, result = evaluate(folder.root, model(tmp_path, program), team="team-a", settings=unsealed)
    assert result.error is None, result.error
    log = (root / "logs" / "container.log").read_text()
    assert "['data'] ['x.csv']" in log and "accuracy" not in log
    assert result.summary.score == 1.0 and version_of(result) == 1
    assert result.resources.backend == "process"


def test_a_backend_that_the_benchmark_does_not_allow_is_refused(tmp_path: Path, unsealed: Settings) -> None:
    folder = write_benchmark(tmp_path)
    root, result = evaluate(folder.root, model(tmp_path, predicting(rows("xyxy"))), team="team-a", settings=unsealed)
    assert result.error is not None and result.error.code == "INVALID_REQUEST"
    assert "docker and kubernetes" in result.error.message
    assert not (root / "logs" / "container.log").exists(), "nothing ran"
    again = run_pipeline(root, settings=unsealed, backend="process")
    assert again.error is not None and again.error.code == "INVALID_REQUEST"


def test_a_model_that_fails_has_no_place_and_is_told_of(tmp_path: Path, unsealed: Settings) -> None:
    from autoscorer.tasks.benchmarks.leaderboard import board_of
    from autoscorer.tasks.benchmarks.listing import list_submissions

    folder = write_benchmark(tmp_path, backends=["process"])
    _, result = evaluate(folder.root, model(tmp_path, "raise SystemExit(3)"), team="team-a", settings=unsealed)
    assert result.error is not None and result.error.code == "CONTAINER_FAILED"
    assert board_of(folder, folder.read()) == []
    (row,) = list_submissions(folder)
    assert row["error"] == "CONTAINER_FAILED" and row["kind"] == "dockerfile"


# --- when the truth was wrong ---------------------------------------------------------------------------------------


def again(folder: BenchmarkFolder, **more: bool) -> list[tuple[str, int, str, float | None, float | None]]:
    settings = load_settings()
    found = rescore(folder, settings, PlainScoring(settings), **more)  # type: ignore[arg-type]
    return [(each.team, each.number, each.state, each.before, each.after) for each in found]


def test_all_kept_predictions_are_scored_again_and_history_is_kept(folder: BenchmarkFolder) -> None:
    root, _ = submit(folder, rows("xyxx"))
    submit(folder, rows("xyxy"), team="team-b")
    submit(folder, "id,label\na,x\n", team="team-c")
    (folder.input / "gt.csv").write_text(rows("xyxx"))
    assert again(folder) == [
        ("team-a", 1, "scored", 0.75, 1.0),
        ("team-b", 1, "scored", 1.0, 0.75),
        ("team-c", 1, "failed", None, None),
    ]
    from autoscorer.tasks.benchmarks.leaderboard import board_of

    assert [row["team"] for row in board_of(folder, folder.read(), version=2)] == ["team-a", "team-b"]
    (kept,) = (root / "output" / "history").iterdir()
    assert json.loads(kept.read_text())["summary"]["score"] == 0.75


def test_what_is_of_the_version_of_now_is_left_as_it_is(folder: BenchmarkFolder) -> None:
    submit(folder, rows("xyxx"))
    submit(folder, rows("xyxy"), team="team-b")
    assert {each[2] for each in again(folder)} == {"current"}
    assert {each[2] for each in again(folder, everything=True)} == {"scored"}


def test_one_that_was_interrupted_goes_on_where_it_was(folder: BenchmarkFolder) -> None:
    for team in ("team-a", "team-b", "team-c"):
        submit(folder, rows("xyxx"), team=team)
    (folder.input / "gt.csv").write_text(rows("xyxx"))
    settings = load_settings()
    first = rescore(folder, settings, PlainScoring(settings))
    assert next(first).state == "scored"
    first.close()
    assert [each[2] for each in again(folder)] == ["current", "scored", "scored"]


def test_a_submission_that_is_held_is_told_and_stays(folder: BenchmarkFolder) -> None:
    from autoscorer.core.workspace import Workspace

    root, _ = submit(folder, rows("xyxx"))
    (folder.input / "gt.csv").write_text(rows("xyxx"))
    with Workspace(root).lock():
        assert again(folder) == [("team-a", 1, "failed", 0.75, 0.75)]
    assert again(folder) == [("team-a", 1, "scored", 0.75, 1.0)]
