"""Small benchmarks of a classification: written, submitted to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.schemas.result import Result
from autoscorer.tasks.benchmarks.adding import Source
from autoscorer.tasks.benchmarks.evaluate import evaluate

__all__ = ["TRUTH", "change_spec", "rows", "submit", "write_benchmark"]

TRUTH = "id,label\na,x\nb,y\nc,x\nd,y\n"


def write_benchmark(
    root: Path,
    name: str = "flowers",
    *,
    truth: str = TRUTH,
    truth_name: str = "gt.csv",
    scorer: str = "classification_accuracy",
    **spec: Any,
) -> BenchmarkFolder:
    """A benchmark; keywords go into benchmark.json.

    Args:
        root: Where its folder is made.
        name: Its folder's, and its own.
        truth: Content of the ground truth.
        truth_name: Its file's name.
        scorer: Scorer id.
    """
    folder = root / name
    (folder / "input" / "data").mkdir(parents=True)
    (folder / "input" / truth_name).write_text(truth)
    (folder / "input" / "data" / "x.csv").write_text("id,x\na,1\nb,2\n")
    (folder / "benchmark.json").write_text(json.dumps({"name": name, "scorer": scorer, **spec}))
    return BenchmarkFolder(folder)


def change_spec(folder: BenchmarkFolder, **changed: Any) -> None:
    """Change keys of benchmark.json."""
    file = folder.root / "benchmark.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def rows(labels: str, *, ids: str = "abcd") -> str:
    """Predictions: a label of one letter for each id of one letter."""
    return "id,label\n" + "".join(f"{ident},{label}\n" for ident, label in zip(ids, labels, strict=True))


def submit(
    folder: BenchmarkFolder, predictions: str, *, team: str = "team-a", name: str = "pred.csv", label: str | None = None
) -> tuple[Path, Result]:
    """Hand in predictions, and have them scored here; the submission's workspace, and its Result."""
    file = folder.root.parent / name
    file.write_text(predictions)
    return evaluate(folder.root, Source("predictions", file), team=team, label=label)
