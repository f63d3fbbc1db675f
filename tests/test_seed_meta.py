"""As the first system writes it: meta.json, examples, scorers and metrics work beside our own spelling."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import autoscorer
import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.job import Job
from autoscorer.service.disclosure import Disclosure
from autoscorer.tasks.score import score_workspace
from hypothesis import given, settings
from hypothesis import strategies as st

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


# --- params.threshold ------------------------------------------------------------------------------------


def labelled(folder: Path, truth: dict[str, str], predictions: dict[str, str], **meta: Any) -> Path:
    """A workspace of two tables, and its meta.json."""
    for place, name, rows in (("input", "gt.csv", truth), ("output", "pred.csv", predictions)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        text = "id,label\n" + "".join(f"{key},{value}\n" for key, value in rows.items())
        (folder / place / name).write_text(text, encoding="utf-8")
    meta = {"scorer": "classification_f1", "container": {"image": "model:1"}, **meta}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
        min_size=2,
        max_size=30,
    ).filter(lambda rows: {truth for truth, _ in rows} == {True, False} and any(0 < p < 1 for _, p in rows)),
    threshold=st.floats(0, 1) | st.sampled_from([0.25, 0.5, 0.75]),
    names=st.sampled_from([("0", "1"), ("no", "yes"), ("-1", "1"), ("False", "True"), ("negative", "positive")]),
    scorer=st.sampled_from(["classification_f1", "classification_accuracy"]),
)
def test_probabilities_are_decided_at_the_threshold_as_scikit_learn_would(
    rows: list[tuple[bool, float]], threshold: float, names: tuple[str, str], scorer: str
) -> None:
    import warnings

    from sklearn.metrics import accuracy_score, f1_score

    ids = [f"{number:03}" for number in range(len(rows))]
    with tempfile.TemporaryDirectory() as folder:
        workspace = labelled(
            Path(folder),
            {key: names[truth] for key, (truth, _) in zip(ids, rows, strict=True)},
            {key: repr(p) for key, (_, p) in zip(ids, rows, strict=True)},
            scorer=scorer,
            params={"threshold": threshold, "artifacts": False},
        )
        result = score_workspace(workspace)
    assert result.error is None, result.error
    truth, decided = [t for t, _ in rows], [p >= threshold for _, p in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.metrics["accuracy"] == pytest.approx(accuracy_score(truth, decided))
        if scorer == "classification_f1":
            assert result.metrics["f1_macro"] == pytest.approx(f1_score(truth, decided, average="macro"))
            assert result.metrics[f"f1/{names[1]}"] == pytest.approx(f1_score(truth, decided))
    assert any(repr(names[1]) in note and f"{threshold:g}" in note for note in result.notes)
    assert not any(name in note for note in result.disclosed.notes for name in map(repr, names))


def test_what_was_decided_stands_in_the_artifacts(tmp_path: Path) -> None:
    truth = {"a": "yes", "b": "no", "c": "yes"}
    workspace = labelled(tmp_path, truth, {"a": "0.9", "b": "0.8", "c": "0.5"}, params={"threshold": 0.5})
    result = score_workspace(workspace)
    assert result.error is None
    assert result.summary.score == pytest.approx(0.4)
    assert (tmp_path / "output/artifacts/errors.csv").read_text() == "id,truth,prediction\nb,no,yes\n"


@pytest.mark.parametrize(
    ("truth", "predictions"),
    [
        ({"a": "cat", "b": "dog"}, {"a": "cat", "b": "cat"}),
        ({"a": "0", "b": "1"}, {"a": "0", "b": "0"}),
        ({"a": "0", "b": "1", "c": "2"}, {"a": "0", "b": "2", "c": "0.5"}),
    ],
    ids=["words", "numbers", "three classes"],
)
def test_a_threshold_changes_nothing_where_labels_were_predicted_and_a_note_says_so(
    tmp_path: Path, truth: dict[str, str], predictions: dict[str, str]
) -> None:
    plain = score_workspace(labelled(tmp_path / "plain", truth, predictions))
    result = score_workspace(labelled(tmp_path / "with", truth, predictions, params={"threshold": 0.5}))
    assert result.error is None
    assert result.metrics == plain.metrics
    assert any("threshold" in note and "labels" in note for note in result.notes)


def test_which_label_a_probability_is_of_is_never_guessed(tmp_path: Path) -> None:
    truth, predictions = {"a": "ok", "b": "fraud", "c": "ok"}, {"a": "0.1", "b": "0.7", "c": "0.6"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params={"threshold": 0.5}))
    assert result.error is not None
    assert result.error.code == "BAD_PARAMS"
    assert "positive_label" in result.error.message
    hidden = Disclosure(Settings(), "submit").error(result.error.model_dump())
    assert "fraud" not in json.dumps(hidden)
    asked = {"threshold": 0.5, "positive_label": "fraud"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params=asked))
    assert result.error is None
    assert result.metrics["recall/fraud"] == 1
    assert result.metrics["precision/fraud"] == 0.5
    wrong = {"threshold": 0.5, "positive_label": "frauds"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params=wrong))
    assert result.error is not None and result.error.code == "BAD_PARAMS"


def test_a_truth_of_one_class_is_scored_with_probabilities_too(tmp_path: Path) -> None:
    truth, predictions = {"a": "1", "b": "1"}, {"a": "0.1", "b": "0.7"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params={"threshold": 0.5}))
    assert result.error is None
    assert result.metrics["accuracy"] == 0.5
    assert result.metrics["recall/1"] == 0.5


@pytest.mark.parametrize("value", ["1.5", "-0.25", "1e3"])
def test_a_number_that_is_no_probability_is_refused(tmp_path: Path, value: str) -> None:
    workspace = labelled(tmp_path, {"a": "0", "b": "1"}, {"a": "0.5", "b": value}, params={"threshold": 0.5})
    result = score_workspace(workspace)
    assert result.error is not None
    assert (result.error.code, result.error.details["file"]) == ("BAD_FORMAT", "pred.csv")
    assert value in result.error.message


@pytest.mark.parametrize(
    ("scorer", "params", "says"),
    [
        ("classification_f1", {"threshold": 1.5}, "threshold"),
        ("classification_f1", {"treshold": 0.5}, "did you mean 'threshold'"),
        ("classification_f1", {"positive_label": "1"}, "threshold"),
        ("regression_rmse", {"threshold": 0.5}, "threshold"),
    ],
)
def test_other_params_stay_errors(tmp_path: Path, scorer: str, params: dict[str, Any], says: str) -> None:
    workspace = labelled(tmp_path, {"a": "0", "b": "1"}, {"a": "0", "b": "1"}, scorer=scorer, params=params)
    result = score_workspace(workspace)
    assert result.error is not None
    assert result.error.code == "BAD_PARAMS"
    assert says in result.error.message
