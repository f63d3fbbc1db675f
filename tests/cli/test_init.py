"""``autoscorer init`` writes a workspace that runs as it is, and never harms what is there already."""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli import init, workspace_templates
from autoscorer.cli.workspace_templates import TASKS, write_workspace
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.workspace import Workspace
from autoscorer.schemas.job import Job
from autoscorer.scorers.registry.builtin import BUILTIN_MODULES
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

COMMON = {".gitignore", "Dockerfile", "README.md", "meta.json", "model.json", "predict.py"}


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def refused(directory: Path | str, task: str = "classification", *, force: bool = False) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        write_workspace(str(directory), task, force=force)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.exit_code == 2
    return caught.value


def cli(*arguments: str, cwd: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("task", TASKS)
def test_it_says_what_it_wrote(task: str, tmp_path: Path) -> None:
    root = tmp_path / "new" / "job one"
    data = write_workspace(str(root), task)
    assert set(data["files"]) == set(contents(root))
    assert set(data["files"]) >= {*COMMON, f"input/{TASKS[task].ground_truth}"}
    assert (data["workspace"], data["job_id"], data["task_type"]) == (str(root), "job one", task)
    json.dumps(data, allow_nan=False)


@pytest.mark.parametrize("task", TASKS)
def test_the_workspace_is_valid(task: str, tmp_path: Path) -> None:
    write_workspace(str(tmp_path / "job"), task)
    job = Job.model_validate_json((tmp_path / "job" / "meta.json").read_bytes())
    assert (job.job_id, job.task_type, job.scorer) == ("job", task, TASKS[task].scorer)
    assert job.scorer in BUILTIN_MODULES
    assert job.container.image is None
    assert "pass_threshold" in job.params
    assert Workspace(tmp_path / "job").ground_truth().name == TASKS[task].ground_truth


@pytest.mark.parametrize("task", TASKS)
def test_the_model_runs_on_any_python_without_the_ground_truth_and_passes(task: str, tmp_path: Path) -> None:
    root = tmp_path / "job"
    write_workspace(str(root), task)
    truth = root / "input" / TASKS[task].ground_truth
    aside = truth.rename(tmp_path / truth.name)
    (root / "output").mkdir()
    # -I -S: neither site-packages nor anything of the environment; a bare Python image has no more.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "predict.py"],
        cwd=root, env={"AUTOSCORER_WORKSPACE": str(root)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (root / "output").iterdir()] == [TASKS[task].predictions]
    threshold = json.loads((root / "meta.json").read_text())["params"]["pass_threshold"]
    score = oracle(task, aside, root / "output" / TASKS[task].predictions)
    assert score <= threshold if task == "regression" else score >= threshold
    # Good, but not so good that it looks as if it knew the answers.
    assert score > 0.1 if task == "regression" else score < 0.99


def oracle(task: str, truth: Path, predictions: Path) -> float:
    if task == "detection":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return float(evaluation.stats[0])
    from sklearn.metrics import f1_score, root_mean_squared_error

    tables = []
    for path in (truth, predictions):
        with path.open(newline="", encoding="utf-8") as file:
            tables.append({row["id"]: row["label"] for row in csv.DictReader(file)})
    expected, found = tables
    assert expected.keys() == found.keys()
    pairs = [(expected[name], found[name]) for name in expected]
    if task == "classification":
        return float(f1_score(*zip(*pairs, strict=True), average="macro"))
    return float(root_mean_squared_error(*([float(v) for v in column] for column in zip(*pairs, strict=True))))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_commands_it_names_work(task: str, tmp_path: Path) -> None:
    code, envelope = cli("init", "my job", "--task", task, cwd=tmp_path)
    assert (code, envelope["status"]) == (0, "success")
    commands = [shlex.split(item["command"]) for item in envelope["data"]["next"]]
    # The sealed run needs a container engine; tests/executors/test_hostile.py and the pipeline's own tests have it.
    for program, *arguments in [c for c in commands if c[1] == "validate" or "process" in c]:
        assert program == "autoscorer"
        code, envelope = cli(*arguments, cwd=tmp_path)
        assert (code, envelope["status"]) == (0, "success")
    assert envelope["data"]["summary"]["pass"] is True


def test_the_readme_names_the_same_commands(tmp_path: Path) -> None:
    data = write_workspace(str(tmp_path / "a job's folder"), "classification")
    readme = (tmp_path / "a job's folder" / "README.md").read_text(encoding="utf-8")
    shown = [line[2:] for line in readme.splitlines() if line.startswith("$ ")]
    assert shown == [item["command"] for item in data["next"]]


def test_the_current_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert write_workspace(".", "classification")["job_id"] == "here"


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("mine")
    assert "--force" in refused(tmp_path).message
    assert contents(tmp_path) == {"meta.json": b"mine"}


def test_force_replaces_its_own_files_and_no_others(tmp_path: Path) -> None:
    first = tmp_path / "job"
    write_workspace(str(first), "classification")
    expected = contents(first)
    (first / "meta.json").write_text("changed")
    (first / "mine.txt").write_text("mine")
    write_workspace(str(first), "classification", force=True)
    assert contents(first) == {**expected, "mine.txt": b"mine"}


def test_force_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "predict.py").symlink_to(outside)
    write_workspace(str(tmp_path / "job"), "classification", force=True)
    assert outside.read_text() == "mine"
    assert not (tmp_path / "job" / "predict.py").is_symlink()


def test_force_never_makes_two_ground_truths(tmp_path: Path) -> None:
    write_workspace(str(tmp_path / "job"), "classification")
    before = contents(tmp_path / "job")
    assert "gt.csv" in refused(tmp_path / "job", "detection", force=True).message
    assert contents(tmp_path / "job") == before


@pytest.mark.parametrize(
    ("at", "make"),
    [
        ("file", lambda root: (root / "file").write_text("mine")),
        ("file/below", lambda root: (root / "file").write_text("mine")),
        ("job", lambda root: (root / "job" / "predict.py").mkdir(parents=True)),
        ("job", lambda root: ((root / "job").mkdir(), (root / "job" / "input").write_text("mine"))),
    ],
    ids=["a file", "below a file", "a folder in a file's place", "a file in a folder's place"],
)
def test_what_stands_in_the_way_is_named(at: str, make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    assert str(tmp_path) in refused(tmp_path / at, force=True).message


def test_a_file_system_without_rights_is_refused() -> None:
    message = refused("/proc/autoscorer-job").message
    assert "can't be written" in message


@pytest.mark.parametrize("directory", ["/", "back\\slash", "new\nline", "\udcff"])
def test_a_name_no_job_can_have_is_refused(directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(directory, force=True).message.startswith("DIR: ")
    assert list(tmp_path.iterdir()) == []


@given(name=st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=210))
def test_a_name_is_accepted_exactly_when_a_job_may_have_it(name: str) -> None:
    root = Path("/nowhere-at-all") / name
    if name in (".", "..") or root.name != name:
        return
    try:
        Job(job_id=name)
        name.encode()
        good = True
    except (ValidationError, UnicodeEncodeError):
        good = False
    try:
        workspace_templates._check_name(root)
        accepted = True
    except AutoScorerError:
        accepted = False
    assert accepted == good


@pytest.mark.parametrize(
    "arguments", [["init"], ["init", "job", "--task", "nonsense"], ["init", "job", "more"]], ids=" ".join
)
def test_wrong_usage_writes_nothing(arguments: list[str], tmp_path: Path) -> None:
    code, envelope = cli(*arguments, cwd=tmp_path)
    assert (code, envelope["status"], envelope["error"]["code"]) == (2, "error", "INVALID_REQUEST")
    assert list(tmp_path.iterdir()) == []


def test_the_readable_view_shows_files_and_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_workspace(str(tmp_path / "job"), "regression")
    init.render(data, argparse.Namespace(benchmark=False))
    shown = capsys.readouterr().out
    for text in (*data["files"], *(item["command"] for item in data["next"])):
        assert text in shown


def test_the_templates_hold_nothing_that_would_be_left_out_of_a_package() -> None:
    # setuptools' patterns match no dot files; a .py file would be taken for one of ours.
    for path in workspace_templates._TEMPLATES.rglob("*"):
        assert not path.name.startswith(".")
        assert path.suffix != ".py"
