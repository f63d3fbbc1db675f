"""Submissions to a benchmark that attack it: its ground truth, other teams' submissions, and its data."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.core.config import Settings
from autoscorer.schemas.result import Result
from autoscorer.tasks.benchmarks.adding import Source
from autoscorer.tasks.benchmarks.evaluate import evaluate

from ..support.benchmarks import submit, write_benchmark

pytestmark = pytest.mark.docker

TRUTH = "id,label\na,golden-truth-1\nb,golden-truth-2\n"
ANSWER = "printf 'id,label\\na,x\\nb,y\\n' > /workspace/output/pred.csv"


@pytest.fixture
def folder(docker_client: Any, tmp_path: Path) -> BenchmarkFolder:
    """A benchmark with a withheld part, to which another team has handed something in."""
    made = write_benchmark(
        tmp_path, "league", truth=TRUTH, withheld={"file": "gt_usage.csv"}, resources={"memory": "64Mi", "disk": "20Mi"}
    )
    (made.input / "gt_usage.csv").write_text("id,usage\na,public\nb,private\n")
    (made.input / "data" / "large").write_bytes(os.urandom(20_000_000))
    (made.input / "data" / "large").chmod(0o644)
    _, result = submit(made, "id,label\na,others-guess\nb,others-guess\n", team="rivals")
    assert result.error is None
    return made


def attack(folder: BenchmarkFolder, script: str, busybox: str, settings: Settings) -> tuple[str, Result]:
    """Hand in an image that runs a script; what it wrote, and the Result."""
    before = digests(folder.input)
    source = Source("image", container={"image": busybox, "cmd": ["sh", "-c", script]})
    root, result = evaluate(folder.root, source, team="attackers", backend="docker", settings=settings)
    assert digests(folder.input) == before, "the benchmark's input was changed"
    return (root / "logs" / "container.log").read_text(errors="replace"), result


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() + oct(path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_truth_and_other_teams_are_nowhere_in_it(folder: BenchmarkFolder, busybox: str, settings: Settings) -> None:
    script = (
        "exec 2>/dev/null; echo seen;"
        "find / -xdev -not -path '/proc/*' | grep -E 'gt|usage|submission|scores|rival|league';"
        "for at in /workspace/input /workspace/output /tmp /dev/shm /run /etc; do"
        "  grep -rlE 'golden-truth|others-guess' $at; done;"
        "cat /proc/self/mountinfo; grep -E '^  .(scorer|params)' /workspace/meta.json;"
        "cat /workspace/input/../../input/gt.csv /workspace/input/data/../gt.csv /workspace/input/gt_usage.csv;"
        "cat /workspace/../league/input/gt.csv /workspace/submission.json; " + ANSWER
    )
    log, result = attack(folder, script, busybox, settings)
    assert "seen" in log and "/workspace/input/data" in log and result.error is None, (log, result.error)
    for told in (
        "golden-truth",
        "others-guess",
        "rivals",
        "league",
        '"scorer"',
        '"params"',
        "gt.csv",
        "usage",
        str(folder.root),
    ):
        assert told not in log, told


def test_its_input_can_not_be_written(folder: BenchmarkFolder, busybox: str, settings: Settings) -> None:
    script = (
        "cd /workspace/input; for at in data/x.csv data/new gt.csv new; do"
        "  (echo x >> $at) 2>/dev/null && echo wrote $at; done;"
        "mv data other 2>/dev/null && echo moved; rm -f data/x.csv 2>/dev/null && echo removed;"
        "chmod 777 data/x.csv 2>/dev/null && echo chmod; ln data/x.csv /workspace/output/x 2>/dev/null && echo linked;"
        "mount -o remount,rw /workspace/input/data 2>/dev/null && echo remounted; " + ANSWER
    )
    log, result = attack(folder, script, busybox, settings)
    assert log == "" and result.error is None, (log, result.error)


def test_a_link_in_the_output_leads_to_no_truth(folder: BenchmarkFolder, busybox: str, settings: Settings) -> None:
    """A model may guess where the benchmark lies on the host."""
    for target in (folder.input / "gt.csv", Path("../../../../input/gt.csv"), Path("../input/gt.csv")):
        _, result = attack(folder, f"ln -s {target} /workspace/output/pred.csv", busybox, settings)
        assert result.error is not None and result.error.code == "OUTPUT_REJECTED"


def test_many_submissions_take_the_disk_of_their_outputs(
    folder: BenchmarkFolder, busybox: str, settings: Settings
) -> None:
    for _ in range(3):
        assert attack(folder, ANSWER, busybox, settings)[1].error is None
    taken = sum(
        os.lstat(os.path.join(parent, name)).st_blocks * 512
        for parent, _, names in os.walk(folder.root / "submissions" / "attackers")
        for name in names
    )
    # Twenty megabytes of data are in the benchmark.
    assert taken < 3 * 1_000_000
    assert os.lstat(folder.input / "data" / "large").st_nlink == 1, "a staged copy was left"
