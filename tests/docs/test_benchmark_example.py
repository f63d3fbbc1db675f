"""The example benchmark: three teams with real models, as its README tells it; the commands of docs/benchmarks.md."""

from __future__ import annotations

import csv
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import autoscorer
import pytest
from autoscorer.cli.main import main
from sklearn.metrics import f1_score

from ..support.markdown import BASE_IMAGE

ROOT = Path(autoscorer.__file__).parent
EXAMPLE = ROOT / "examples" / "tumours"
TEAMS = ("logistic", "centroid", "tree")
Json = dict[str, Any]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, where submissions to it may lie."""
    shutil.copytree(EXAMPLE, tmp_path / "tumours", ignore=shutil.ignore_patterns("submissions", ".autoscorer"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> Json:
    capsys.readouterr()
    code = main([*words])
    envelope = json.loads(capsys.readouterr().out)
    assert code == 0, envelope
    return dict(envelope["data"])


def predicted(here: Path, team: str) -> Path:
    """What a team's model says of the data, run as its container would."""
    workspace = here / f"run-{team}"
    (workspace / "output").mkdir(parents=True)
    (workspace / "input").mkdir()
    (workspace / "input" / "data").symlink_to(here / "tumours" / "input" / "data")
    program = here / "tumours" / "teams" / team / "predict.py"
    environment = {"PATH": os.environ["PATH"], "AUTOSCORER_WORKSPACE": str(workspace)}
    subprocess.run([sys.executable, "-I", str(program)], env=environment, check=True, capture_output=True, timeout=300)
    return workspace / "output" / "pred.csv"


def expected(part: str) -> dict[str, float]:
    """What the README says of each team."""
    told = (EXAMPLE / "README.md").read_text().replace("\n", " ")
    public, private = re.findall(r"public rows (.*?) of the private ones\s+(.*?)\.\s", told)[0]
    if part == "public":
        return {team: float(number) for number, team in re.findall(r"(0\.\d+) \((\w+)\)", public)}
    return dict(zip(TEAMS, map(float, re.findall(r"0\.\d+", private)), strict=True))


def oracle(here: Path, predictions: Path, part: str) -> float:
    """scikit-learn's, of the rows of a part."""
    with (here / "tumours" / "input" / "gt.csv").open() as file:
        truth = {row["id"]: row["label"] for row in csv.DictReader(file) if row["Usage"] == part.title()}
    with predictions.open() as file:
        said = {row["id"]: row["label"] for row in csv.DictReader(file)}
    return float(f1_score([*truth.values()], [said[ident] for ident in truth], average="macro"))


def test_by_predictions_the_places_are_those_of_the_readme(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "benchmark", "validate", "tumours")["withheld"] == {"public": 136, "private": 92}
    files = {team: predicted(copy, team) for team in TEAMS}
    for team, file in files.items():
        typed(capsys, "evaluate", "tumours", "--predictions", str(file), "--team", team)
    for part, more in (("public", ()), ("private", ("--private",))):
        rows = typed(capsys, "benchmark", "leaderboard", "tumours", *more)["leaderboard"]
        found = {row["team"]: row["score"] for row in rows}
        assert found == pytest.approx({team: oracle(copy, files[team], part) for team in TEAMS}, abs=1e-12)
        assert found == pytest.approx(expected(part), abs=5e-5)
        assert [row["team"] for row in rows] == ["logistic", "centroid", "tree"]


@pytest.mark.docker
@pytest.mark.slow
def test_the_three_teams_images_are_built_and_run_sealed(
    copy: Path, docker_client: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_IMAGES__BUILD_ARGS", json.dumps({"BASE_IMAGE": BASE_IMAGE}))
    for team in TEAMS:
        told = typed(capsys, "evaluate", "tumours", f"tumours/teams/{team}", "--team", team)
        assert told["resources"]["backend"] == "docker" and told["submission"]["number"] == 1
    rows = typed(capsys, "benchmark", "leaderboard", "tumours")["leaderboard"]
    assert {row["team"]: row["score"] for row in rows} == pytest.approx(expected("public"), abs=5e-5)


@pytest.mark.slow
def test_training_again_gives_the_same_data_and_the_same_models(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(EXAMPLE / "train.py"), str(tmp_path)], check=True, capture_output=True, timeout=300
    )
    for name in ("input/gt.csv", "input/data/tumours.csv"):
        assert filecmp.cmp(tmp_path / name, EXAMPLE / name, shallow=False), name
    for team in TEAMS:
        again, kept = (json.loads((at / "teams" / team / "model.json").read_text()) for at in (tmp_path, EXAMPLE))
        assert flat(again) == pytest.approx(flat(kept), abs=1e-4)


def flat(value: Any, at: str = "") -> dict[str, float]:
    """The numbers of a model by their path; a word is part of the path."""
    if isinstance(value, dict):
        return {key: number for name, each in value.items() for key, number in flat(each, f"{at}.{name}").items()}
    return {at: value} if isinstance(value, float | int) else {f"{at}={value}": 0.0}


def test_what_the_page_tells_organisers_works_as_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    commands = re.findall(r"^\$ autoscorer (.+)$", page, re.MULTILINE)
    assert len(commands) == 11
    # A model has to be built or pulled for these, or a service be there; other tests do.
    with_models = [command for command in commands if re.search(r"--image|--archive|\./my-model|--remote", command)]
    assert len(with_models) == 4
    typed(capsys, "benchmark", "new", "spring-2026")
    shutil.copy("spring-2026/input/gt.csv", "pred.csv")
    for command in commands:
        if command not in with_models and " new " not in command:
            typed(capsys, *command.split())
    assert Path("board.csv").is_file() and Path("board.md").is_file()
