"""What benchmarks cost: two files alone, a large leaderboard, scoring everything again.

    python benchmarks/benchmarks.py [--runs N] [--submissions N]

- A leaderboard of 1,000 teams with 20 submissions each: at most 100 ms.
- Rescoring N submissions (1,000) of 10,000 rows each, beside a plain loop that scores the same files with no benchmark
  around them: at least 0.8 of its speed. Both take turns, a hundred at a time.

Two files alone beside the import of numpy and pandas: ``cold_start.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TEAMS, OF_A_TEAM = 1000, 20
ROWS = 10_000
MOST_BOARD, LEAST_RATIO = 0.1, 0.8
TURN = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11, help="of the leaderboard")
    parser.add_argument("--submissions", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["AUTOSCORER_HOME"] = str(root / "home")
        return max(_leaderboard(root, args.runs), _rescoring(root, args.submissions))


def _leaderboard(root: Path, runs: int) -> int:
    from autoscorer.core.benchmark import BenchmarkFolder
    from autoscorer.tasks.benchmarks.leaderboard import board_of

    random.seed(1)
    folder = BenchmarkFolder(_benchmark(root / "large", "id,label\na,x\n"))
    folder.state.mkdir()
    with (folder.state / "scores.jsonl").open("w") as file:
        for number in range(1, OF_A_TEAM + 1):
            for team in range(TEAMS):
                score = random.random()
                line = {
                    "team": f"team-{team:04d}", "number": number, "at": f"2026-06-{number:02d}T12:00:00Z",
                    "version": 1, "metric": "accuracy", "score": score, "low": score - 0.01, "high": score + 0.01,
                    "higher_is_better": True, "pass": True, "error": None, "label": f"try {number}",
                    "submitted_at": f"2026-06-{number:02d}T12:00:00.123456Z", "late": False,
                }  # fmt: skip
                file.write(json.dumps(line) + "\n")
    spec = folder.read()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        rows = board_of(folder, spec, as_team=True, version=1)
        seconds.append(time.perf_counter() - started)
        assert len(rows) == TEAMS
    median = statistics.median(seconds)
    good = median <= MOST_BOARD
    print(
        f"leaderboard of {TEAMS:,} teams x {OF_A_TEAM}: median {median * 1000:.0f} ms, "
        f"slowest {max(seconds) * 1000:.0f} ms   limit {MOST_BOARD * 1000:.0f} ms  {'ok' if good else 'TOO SLOW'}"
    )
    return 0 if good else 1


def _rescoring(root: Path, count: int) -> int:
    from autoscorer.core.benchmark import BenchmarkFolder
    from autoscorer.core.config import load_settings
    from autoscorer.tasks.benchmarks.adding import Source, add_submission
    from autoscorer.tasks.benchmarks.rescore import rescore
    from autoscorer.tasks.score import score_workspace
    from autoscorer.tasks.scoring.guarded import PlainScoring

    random.seed(2)
    ids = [f"row-{number:05d}" for number in range(ROWS)]
    truth = [random.choice("xyz") for _ in ids]
    folder = BenchmarkFolder(_benchmark(root / "many", _table(ids, truth)))
    file = root / "pred.csv"
    plain = []
    for number in range(count):
        file.write_text(_table(ids, [label if random.random() < 0.8 else "x" for label in truth]))
        add_submission(folder, f"team-{number % 50:02d}", Source("predictions", file))
        workspace = root / "plain" / f"{number:04d}"
        for place, content in (
            ("input/gt.csv", (folder.input / "gt.csv").read_text()),
            ("input/data/x.csv", "id\n"),
            ("output/pred.csv", file.read_text()),
            ("meta.json", json.dumps({"scorer": "classification_accuracy"})),
        ):
            (workspace / place).parent.mkdir(parents=True, exist_ok=True)
            (workspace / place).write_text(content)
        plain.append(workspace)
    settings = load_settings()
    score_workspace(plain[0], settings=settings)  # imports
    found = rescore(folder, settings, PlainScoring(settings))

    def by_benchmark(number: int) -> Iterator[object]:
        for _ in range(number):
            each = next(found)
            assert each.state == "scored", each
            yield each

    ratios = []
    for begin in range(0, count, TURN):
        turn = plain[begin : begin + TURN]
        started = time.perf_counter()
        for workspace in turn:
            assert score_workspace(workspace, settings=settings).error is None
        alone = time.perf_counter() - started
        started = time.perf_counter()
        for _ in by_benchmark(len(turn)):
            pass
        ratios.append(alone / (time.perf_counter() - started))
    median = statistics.median(ratios)
    good = median >= LEAST_RATIO
    print(
        f"rescoring {count:,} submissions of {ROWS:,} rows: {median:.2f} x the speed of a plain loop "
        f"({alone / len(turn) * 1000:.0f} ms each)   limit {LEAST_RATIO} x  {'ok' if good else 'TOO SLOW'}"
    )
    return 0 if good else 1


def _benchmark(folder: Path, truth: str) -> Path:
    (folder / "input" / "data").mkdir(parents=True)
    (folder / "input" / "gt.csv").write_text(truth)
    (folder / "input" / "data" / "x.csv").write_text("id\n")
    (folder / "benchmark.json").write_text(json.dumps({"name": folder.name, "scorer": "classification_accuracy"}))
    return folder


def _table(ids: list[str], labels: list[str]) -> str:
    return "id,label\n" + "".join(f"{ident},{label}\n" for ident, label in zip(ids, labels, strict=True))


if __name__ == "__main__":
    sys.exit(main())
