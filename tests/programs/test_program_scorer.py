"""An imported benchmark is scored by its own program: the number is the program's, and what it does costs nobody else.

Here it is run by the backend process, which seals nothing; ``test_program_docker.py`` has what only a container keeps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.schemas.result import Result
from autoscorer.scorers.registry import get_registry
from autoscorer.tasks.importers import ImportReport, import_codabench, import_evalai
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.scoring import GuardedScoring

from ..support.competitions import BROKEN_TRUTH, CHALLENGE, COMPETITION, submit, write_bundle, write_challenge

# Together half a minute of processes and applications of their own.
pytestmark = pytest.mark.slow

GUESS = "kama\nrosa\ncanadian\n"
Score = Callable[..., Result]
_loaded: list[Path] = []


@pytest.fixture
def unsealed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DEFAULT", "process")
    return load_settings()


def load(report: ImportReport) -> None:
    get_registry().load_file(report.scorer_file)
    _loaded.append(report.scorer_file)


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    """The registry of this process forgets the scorer of a test: the next one's has the same id."""
    yield
    while _loaded:
        get_registry().unload_file(_loaded.pop())


@pytest.fixture
def score(tmp_path: Path, unsealed: Settings) -> Score:
    """Score a submission to a benchmark that was imported from a bundle with this scoring program."""

    def scored(
        program: str | None = None, *, guess: str = GUESS, params: dict[str, Any] | None = None, **bundle: Any
    ) -> Result:
        more = {} if program is None else {"score": program}
        report = import_codabench(write_bundle(tmp_path / "bundle", **more, **bundle), tmp_path / "out")
        load(report)
        root = submit(tmp_path / "out", "labels.txt", guess, backends=["process"], params=params)
        return score_workspace(root, settings=unsealed)

    return scored


def scratch(tmp_path: Path) -> Path:
    return tmp_path / "out/submissions/team-a/0001/.autoscorer"


def failure(result: Result, tmp_path: Path) -> str:
    """Why there is no score; what the program said stays in its log, whatever it quoted."""
    assert result.error is not None and result.error.code == "SCORER_ERROR"
    assert BROKEN_TRUTH not in result.model_dump_json()
    assert not list(scratch(tmp_path).glob("program-*"))
    return result.error.message


def test_the_score_is_the_programs(score: Score, tmp_path: Path) -> None:
    result = score()
    assert result.error is None
    assert result.metrics == {"accuracy": 2 / 3, "duration": 0.5}
    assert (result.summary.score, result.summary.higher_is_better) == (2 / 3, True)
    assert result.disclosed.metrics == result.metrics
    assert any("without isolation" in note for note in result.notes)
    assert any("'unasked'" in note for note in result.notes)
    versioning = result.versioning
    assert versioning.ground_truth_sha256 and versioning.predictions_sha256 and versioning.input_sha256
    assert not list(scratch(tmp_path).glob("program-*"))


def test_the_same_output_gives_the_same_result(score: Score, tmp_path: Path, unsealed: Settings) -> None:
    first = score()
    again = score_workspace(tmp_path / "out/submissions/team-a/0001", settings=unsealed)
    assert again.metrics == first.metrics and again.notes == first.notes
    for key in ("predictions_sha256", "ground_truth_sha256", "scorer_sha256"):
        assert getattr(again.versioning, key) == getattr(first.versioning, key)


@pytest.mark.slow
def test_in_a_process_below_a_guard_it_is_the_same(tmp_path: Path, unsealed: Settings) -> None:
    report = import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "out")
    root = submit(tmp_path / "out", "labels.txt", GUESS, backends=["process"])
    with GuardedScoring(unsealed, scorers_dirs=(report.scorer_file.parent,)) as scoring:
        result = scoring.score(root)
    assert result.error is None and result.metrics["accuracy"] == 2 / 3


def test_who_may_see_less_sees_no_hidden_column(score: Score) -> None:
    columns = [
        {"key": "accuracy", "index": 0},
        {"key": "duration", "index": 1, "hidden": True},
        {"key": "both", "index": 2, "computation": "sum", "computation_indexes": [0, 1]},
    ]
    board = [{**COMPETITION["leaderboards"][0], "columns": columns}]
    result = score(leaderboards=board)
    assert result.metrics == {"accuracy": 2 / 3, "both": 2 / 3 + 0.5}


def test_once_they_may_be_seen_hidden_columns_are_in_the_result(score: Score) -> None:
    columns = [{"key": "accuracy", "index": 0}, {"key": "duration", "index": 1, "hidden": True, "sorting": "asc"}]
    board = [{**COMPETITION["leaderboards"][0], "columns": columns}]
    result = score(leaderboards=board, params={"hidden": True, "main": "duration"})
    assert (result.summary.score, result.summary.higher_is_better) == (0.5, False)
    # Still for the organisers alone.
    assert result.disclosed.metrics == {"accuracy": 2 / 3}


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"main": "duration", "hidden": False}, None),
        ({"main": "unasked"}, "params.main"),
        ({"image": "no image!"}, "image"),
        ({"timeout": 10**9}, "timeout"),
        ({"memory": "1000Ti"}, "memory"),
        ({"predictions_as": "../x"}, "predictions_as"),
        ({"predictions_as": ".."}, "predictions_as"),
        ({"mian": "accuracy"}, "did you mean 'main'"),
    ],
)
def test_params_are_checked(score: Score, params: dict[str, Any], told: str | None) -> None:
    result = score(params=params)
    if told is None:
        assert result.error is None
        return
    assert result.error is not None and result.error.code == "BAD_PARAMS" and told in result.error.message


def test_a_direction_that_the_bundle_has_wrong_is_set_right(score: Score) -> None:
    assert score(params={"higher_is_better": False}).summary.higher_is_better is False


def test_a_column_may_be_called_as_the_summary_calls_its_own(score: Score) -> None:
    columns = [{"key": name, "index": number} for number, name in enumerate(("score", "rank", "pass"))]
    given = "{'score': 0.25, 'rank': 3, 'pass': 1}"
    program = f"import json, sys\njson.dump({given}, open(sys.argv[2] + '/scores.json', 'w'))\n"
    result = score(program, leaderboards=[{**COMPETITION["leaderboards"][0], "columns": columns}])
    assert result.error is None
    assert (result.summary.score, result.summary.rank, result.summary.passed) == (0.25, None, None)
    assert result.metrics == {"score": 0.25, "rank": 3.0, "pass": 1.0}


def test_a_program_that_fails_tells_the_organiser_and_nobody_else(score: Score, tmp_path: Path) -> None:
    program = "import pathlib, sys\nraise ValueError(pathlib.Path(sys.argv[1], 'ref', 'labels.txt').read_text())\n"
    assert "exit code 1" in failure(score(program), tmp_path)
    log = scratch(tmp_path) / "scoring.log"
    assert "ValueError" in log.read_text() and BROKEN_TRUTH in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_program_that_sleeps_is_stopped(score: Score, tmp_path: Path) -> None:
    program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n"
    started = time.monotonic()
    assert "did not end within 1 s" in failure(score(program, params={"timeout": 1}), tmp_path)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_what_a_program_has_started_ends_with_it(score: Score, tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(2)\n"
        f"    open({str(tmp_path / 'alive')!r}, 'w')\n"
        "    os._exit(0)\n"
        "open(sys.argv[2] + '/scores.json', 'w').write('{\"accuracy\": 1}')\n"
    )
    assert score(program).error is None
    time.sleep(3)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize(
    ("wrote", "told"),
    [
        ("pass", "neither scores.json nor scores.txt"),
        ("put('scores.json', '{\"accuracy\": NaN}')", "NaN"),
        ("put('scores.json', '{\"accuracy\": \"1\"}')", "str as 'accuracy'"),
        ("put('scores.json', '{\"duration\": 1}')", "no 'accuracy'"),
        ("put('scores.txt', 'accuracy: nan')", "not finite"),
        ("os.symlink('/etc/hostname', out + '/scores.json')", "plain files"),
        ("os.mkfifo(out + '/scores.json')", "plain files"),
        ("put('scores.json', '{\"accuracy\": 1}'); os._exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), 9)", "exit code"),
    ],
)
def test_what_a_program_leaves_is_not_trusted(score: Score, tmp_path: Path, wrote: str, told: str) -> None:
    begins = "import os, sys\nout = sys.argv[2]\nput = lambda name, text: open(out + '/' + name, 'w').write(text)\n"
    assert told in failure(score(f"{begins}{wrote}\n"), tmp_path)


def test_a_program_can_not_change_the_reference_data(score: Score, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*.txt'):\n"
        "    path.write_text('changed')\n"
        "pathlib.Path(sys.argv[2], 'scores.json').write_text('{\"accuracy\": 1}')\n"
    )
    assert score(program).error is None
    assert BROKEN_TRUTH in (tmp_path / "out/input/gt_reference/labels.txt").read_text()
    assert (tmp_path / "out/submissions/team-a/0001/output/labels.txt").read_text() == GUESS


def test_what_was_changed_since_the_import_scores_nobody(score: Score, tmp_path: Path, unsealed: Settings) -> None:
    assert score().error is None
    root = tmp_path / "out/submissions/team-a/0001"
    reference = tmp_path / "out/input/gt_reference/labels.txt"
    kept = reference.read_text()
    reference.write_text("other\n")
    result = score_workspace(root, settings=unsealed)
    assert result.error is not None and (result.error.code, "labels.txt" in result.error.message) == (
        "BAD_FORMAT",
        True,
    )
    reference.write_text(kept)
    program = tmp_path / "out/input/gt_program/score.py"
    program.write_text(program.read_text() + "#\n")
    result = score_workspace(root, settings=unsealed)
    assert result.error is not None and "score.py" in result.error.message
    # Nor is another program run that comes with digests of its own.
    truth = json.loads((tmp_path / "out/input/gt.json").read_text())
    truth["program"]["score.py"] = "0" * 64
    (tmp_path / "out/input/gt.json").write_text(json.dumps(truth))
    result = score_workspace(root, settings=unsealed)
    assert result.error is not None and "another program" in result.error.message


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"program": {}, "reference": {}, "imported_from": 3}', "{" * 9000]
)
def test_a_workspace_that_was_not_imported_says_so(
    score: Score, tmp_path: Path, unsealed: Settings, content: str
) -> None:
    score()
    (tmp_path / "out/input/gt.json").write_text(content)
    result = score_workspace(tmp_path / "out/submissions/team-a/0001", settings=unsealed)
    assert result.error is not None and result.error.code == "BAD_FORMAT"
    assert "benchmark import" in result.error.message


def test_links_in_an_output_are_refused(score: Score, tmp_path: Path, unsealed: Settings) -> None:
    score()
    output = tmp_path / "out/submissions/team-a/0001/output"
    (output / "labels.txt").unlink()
    (output / "labels.txt").symlink_to(tmp_path / "out/input/gt_reference/labels.txt")
    result = score_workspace(output.parent, settings=unsealed)
    assert result.error is not None and result.summary.score is None
    (output / "labels.txt").unlink()
    os.mkfifo(output / "labels.txt")
    result = score_workspace(output.parent, settings=unsealed)
    assert result.error is not None and result.error.code == "OUTPUT_REJECTED"


def test_without_an_output_there_is_nothing_to_score(score: Score, tmp_path: Path, unsealed: Settings) -> None:
    score()
    (tmp_path / "out/submissions/team-a/0001/output/labels.txt").unlink()
    result = score_workspace(tmp_path / "out/submissions/team-a/0001", settings=unsealed)
    assert result.error is not None and result.error.code == "MISSING_FILE"


def test_the_program_is_not_run_unsealed_unless_the_benchmark_says_so(tmp_path: Path, unsealed: Settings) -> None:
    report = import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "out")
    load(report)
    root = submit(tmp_path / "out", "labels.txt", GUESS)
    result = score_workspace(root, settings=unsealed)
    assert result.error is not None and result.error.code == "BACKEND_UNAVAILABLE"
    assert "process" in result.error.message


def test_predictions_get_the_name_that_the_program_knows(tmp_path: Path, unsealed: Settings) -> None:
    report = import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "out", predictions_as="labels.txt")
    load(report)
    root = submit(tmp_path / "out", "pred.csv", GUESS, backends=["process"])
    assert score_workspace(root, settings=unsealed).metrics["accuracy"] == 2 / 3
    (root / "output" / "more.csv").touch()
    result = score_workspace(root, settings=unsealed)
    assert result.error is not None and result.error.code == "BAD_FORMAT"


def test_what_a_killed_scoring_left_is_cleared(score: Score, tmp_path: Path, unsealed: Settings) -> None:
    score()
    left = scratch(tmp_path) / "program-0123"
    (left / "input").mkdir(parents=True)
    score_workspace(tmp_path / "out/submissions/team-a/0001", settings=unsealed)
    assert not left.exists()


def evaluated(tmp_path: Path, unsealed: Settings, guess: str = '{"a": "x"}', **challenge: Any) -> Result:
    report = import_evalai(write_challenge(tmp_path / "challenge", **challenge), tmp_path / "out", image="python:3.11")
    load(report)
    return score_workspace(submit(tmp_path / "out", "pred.json", guess, backends=["process"]), settings=unsealed)


def test_an_evaluation_script_is_called_as_evalai_calls_it(tmp_path: Path, unsealed: Settings) -> None:
    result = evaluated(tmp_path, unsealed)
    assert result.error is None
    assert result.metrics == {"Hits": 1 / 3, "Misses": 2.0}
    assert (result.summary.score, result.summary.higher_is_better) == (1 / 3, True)


def test_several_splits_are_told_apart(tmp_path: Path, unsealed: Settings) -> None:
    split = CHALLENGE["challenge_phase_splits"][0]
    main = (
        "def evaluate(test_annotation_file, user_submission_file, phase_codename, **kwargs):\n"
        "    assert kwargs == {'submission_metadata': {}} and phase_codename == 'dev'\n"
        "    return {'result': [{'dev_split': {'Hits': 1, 'Misses': 2}}, {'held': {'Hits': 3, 'Misses': 4}}]}\n"
    )
    result = evaluated(
        tmp_path,
        unsealed,
        main=main,
        dataset_splits=[*CHALLENGE["dataset_splits"], {"id": 2, "codename": "held"}],
        challenge_phase_splits=[split, {**split, "dataset_split_id": 2, "visibility": 1}],
    )
    assert result.error is None
    assert result.metrics == {"dev_split/Hits": 1.0, "dev_split/Misses": 2.0}


@pytest.mark.parametrize(
    "answer",
    ["None", "{}", "{'result': []}", "{'result': [{'other': {'Hits': 1}}]}",
     "{'result': [{'dev_split': {'Hits': 'x'}}]}",
     "{'result': [{'dev_split': {'Hits': float('nan')}}]}", "{'result': [{'dev_split': {'Hits': {1}}}]}"],
)  # fmt: skip
def test_what_an_evaluation_script_answers_is_not_trusted(tmp_path: Path, unsealed: Settings, answer: str) -> None:
    result = evaluated(tmp_path, unsealed, main=f"def evaluate(*args, **kwargs):\n    return {answer}\n")
    assert result.error is not None and result.error.code == "SCORER_ERROR"


def test_a_script_gets_one_file(tmp_path: Path, unsealed: Settings) -> None:
    evaluated(tmp_path, unsealed)
    root = tmp_path / "out/submissions/team-a/0001"
    (root / "output" / "more.json").touch()
    result = score_workspace(root, settings=unsealed)
    assert result.error is not None and result.error.code == "BAD_FORMAT" and "one file" in result.error.message
