"""A scoring program is sealed as a model is: it sees what it scores, and nothing else, and reaches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.result import Result
from autoscorer.scorers.registry import get_registry
from autoscorer.tasks.importers import ImportReport, import_codabench, import_evalai
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.scoring.trial import try_scorer

from ..support.competitions import BROKEN_TRUTH, submit, write_bundle, write_challenge

pytestmark = pytest.mark.slow
GUESS = "kama\nrosa\ncanadian\n"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, docker_client: Any, busybox: str, settings: Settings) -> Iterator[Run]:
    """Score a submission by a shell script, which gets its places as a scoring program of Codabench does."""
    reports: list[ImportReport] = []

    def scored(script: str, *, image: str = busybox, **params: Any) -> Result:
        bundle = write_bundle(tmp_path / "bundle", command="sh $program/score.sh $input $output")
        (bundle / "scoring_program" / "score.sh").write_text(f"set -e\n{script}\n")
        reports.append(import_codabench(bundle, tmp_path / "out", image=image))
        get_registry().load_file(reports[-1].scorer_file)
        root = submit(tmp_path / "out", "labels.txt", GUESS, params={"memory": "64Mi", "timeout": 20, **params})
        return score_workspace(root, settings=settings)

    yield scored
    for report in reports:
        get_registry().unload_file(report.scorer_file)
    assert not docker_client.containers(all=True, filters={"label": "io.autoscorer.purpose=scoring"})
    reference = tmp_path / "out/input/gt_reference/labels.txt"
    assert not reference.exists() or BROKEN_TRUTH in reference.read_text()


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "out/submissions/team-a/0001/.autoscorer/scoring.log").read_text()


def gives(accuracy: str) -> str:
    return f"echo '{{\"accuracy\": {accuracy}}}' > /app/output/scores.json"


def test_it_sees_what_it_scores_where_codabench_shows_it(run: Run, tmp_path: Path) -> None:
    result = run(
        "pwd; ls /app /app/input /app/input/ref /app/input/res /app/program /app/output; echo $1 $2\n"
        "cmp -s $1/ref/labels.txt /workspace/input/ref/labels.txt\n"
        "grep -q kama $1/res/labels.txt\n" + gives("0.5")
    )
    assert result.error is None, log_of(tmp_path)
    assert result.metrics["accuracy"] == 0.5
    assert not any("without isolation" in note for note in result.notes)
    said = log_of(tmp_path).split()
    assert said[0] == "/app/program" and said[-2:] == ["/app/input", "/app/output"]
    assert {"program", "ref", "res", "score.sh"} <= {*said}


def test_it_sees_nothing_else_of_the_benchmark(run: Run, tmp_path: Path) -> None:
    other = "ls -a / /app /workspace /workspace/input; cat /proc/self/mountinfo; env; cat /workspace/meta.json"
    assert run(f"{other}\n{gives('1')}").error is None
    said = log_of(tmp_path)
    for name in (str(tmp_path), "submissions", "team-a", "gt_reference", "benchmark.json", "seeds.csv"):
        assert name not in said


@pytest.mark.parametrize(
    "attack",
    [
        "echo x > $1/ref/labels.txt",
        "echo x > $1/res/labels.txt",
        "echo x >> $0",
        "echo x > /app/x",
        "echo x > /etc/x",
        "mkdir /app/input/more",
        "ln -s / $1/ref/root",
    ],
)
def test_it_writes_to_its_output_alone(run: Run, tmp_path: Path, attack: str) -> None:
    result = run(f"if ({attack}); then echo it could; exit 1; fi\n{gives('1')}")
    assert result.error is None, log_of(tmp_path)


def test_it_has_no_network(run: Run, tmp_path: Path) -> None:
    result = run(
        f"echo interfaces: $(ls /sys/class/net); if wget -T 3 -q -O - http://1.1.1.1; then exit 1; fi\n{gives('1')}"
    )
    assert result.error is None, log_of(tmp_path)
    # Not necessarily the first line: stdout and stderr come in two streams.
    assert "interfaces: lo" in log_of(tmp_path).split("\n")


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ("trap '' TERM; sleep 600", "did not end within 3 s"),
        ("x=x; while true; do x=$x$x; done", "took more memory"),
        ("dd if=/dev/zero of=/app/output/big bs=1M count=100000", "took more disk"),
        ("b() { b | b & }; b; sleep 100", "scoring program"),
        ("ln -s /etc/passwd /app/output/scores.json", "plain files"),
        ("cat $1/ref/labels.txt >&2; exit 9", "exit code 9"),
        (gives("NaN"), "NaN"),
    ],
)
def test_what_it_does_costs_one_failed_scoring(run: Run, tmp_path: Path, attack: str, told: str) -> None:
    result = run(attack, timeout=3)
    assert result.error is not None and result.error.code == "SCORER_ERROR" and told in result.error.message
    assert BROKEN_TRUTH not in result.model_dump_json()
    scratch = tmp_path / "out/submissions/team-a/0001/.autoscorer"
    assert not list(scratch.glob("program-*")) and not list(scratch.glob("run-*"))


def test_an_image_that_is_not_there_is_the_organisers_fault(run: Run) -> None:
    result = run(gives("1"), image="autoscorer-test-nothing-of-this-name:1")
    assert result.error is not None and result.error.code in ("SCORER_ERROR", "IMAGE_PULL_FAILED")


def test_a_program_of_python_and_an_evaluation_script(tmp_path: Path, python_image: str, settings: Settings) -> None:
    codabench = import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "seeds", image=python_image)
    evalai = import_evalai(write_challenge(tmp_path / "challenge"), tmp_path / "pairs", image=python_image)
    for report in (codabench, evalai):
        get_registry().load_file(report.scorer_file)
    try:
        first = score_workspace(submit(tmp_path / "seeds", "labels.txt", GUESS), settings=settings)
        second = score_workspace(submit(tmp_path / "pairs", "pred.json", json.dumps({"a": "x"})), settings=settings)
    finally:
        for report in (codabench, evalai):
            get_registry().unload_file(report.scorer_file)
    assert first.error is None and first.metrics == {"accuracy": 2 / 3, "duration": 0.5}
    assert second.error is None and second.metrics == {"Hits": 1 / 3, "Misses": 2.0}


def test_a_scorer_can_be_tried_on_a_submission(run: Run, tmp_path: Path, busybox: str, settings: Settings) -> None:
    assert run(gives("0.5")).error is None
    root = tmp_path / "out/submissions/team-a/0001"
    before = sorted(str(path) for path in root.rglob("*"))
    entry = get_registry().get("codabench_out")
    found = try_scorer(entry, root, settings=settings, params={"image": busybox, "memory": "64Mi"})
    assert found["metrics"]["accuracy"] == 0.5
    assert sorted(str(path) for path in root.rglob("*")) == before
