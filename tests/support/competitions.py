"""Small competitions of other platforms, written by hand after the structure of real ones."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BROKEN_TRUTH", "CHALLENGE", "COMPETITION", "SCORE", "submit", "write_bundle", "write_challenge", "zipped"]

# What no log or error may quote.
BROKEN_TRUTH = "SECRET"
COMPETITION: dict[str, Any] = {
    "version": 2,
    "title": "Seeds",
    "description": "Tell three kinds of seeds apart.",
    "image": "logo.png",
    "docker_image": "codalab/codalab-legacy:py312",
    "terms": "pages/terms.md",
    "pages": [{"title": "Overview", "file": "pages/overview.md"}],
    "tasks": [
        {
            "index": 0,
            "name": "Seeds",
            "input_data": "input_data/",
            "reference_data": "reference_data/",
            "scoring_program": "scoring_program/",
        }
    ],
    "phases": [
        {
            "index": 0,
            "name": "Development",
            "start": "2026-01-01 09:30:00",
            "end": "2026-06-30",
            "max_submissions_per_day": 3,
            "max_submissions": 40,
            "execution_time_limit": 120,
            "tasks": [0],
        }
    ],
    "leaderboards": [
        {
            "title": "Results",
            "key": "main",
            "submission_rule": "Force_Last",
            "columns": [
                {"title": "Accuracy", "key": "accuracy", "index": 0, "sorting": "desc"},
                {"title": "Seconds", "key": "duration", "index": 1, "sorting": "asc"},
            ],
        }
    ],
}
# Reads its places from its arguments; accuracy by position, as such programs do.
SCORE = """\
import json, pathlib, sys
given, output = map(pathlib.Path, sys.argv[1:])
truth = (given / "ref" / "labels.txt").read_text().split()
guess = (given / "res" / "labels.txt").read_text().split()
right = sum(a == b for a, b in zip(truth, guess))
scores = {"accuracy": right / len(truth), "duration": 0.5, "unasked": 7}
(output / "scores.json").write_text(json.dumps(scores))
"""
CHALLENGE: dict[str, Any] = {
    "title": "Pairs",
    "short_description": "Find the pairs.",
    "description": "templates/description.html",
    "evaluation_script": "evaluation_script.zip",
    "remote_evaluation": False,
    "start_date": "2026-01-01 00:00:00",
    "end_date": "2026-12-31 23:59:59",
    "published": True,
    "leaderboard": [
        {
            "id": 1,
            "schema": {
                "labels": ["Hits", "Misses"],
                "default_order_by": "Hits",
                "metadata": {"Misses": {"sort_ascending": True, "description": "Pairs not found"}},
            },
        }
    ],
    "challenge_phases": [
        {
            "id": 1,
            "name": "Dev Phase",
            "codename": "dev",
            "leaderboard_public": True,
            "is_public": True,
            "start_date": "2026-02-01 00:00:00",
            "end_date": "2027-02-01 00:00:00",
            "test_annotation_file": "annotations/dev.json",
            "max_submissions_per_day": 5,
            "max_submissions_per_month": 50,
            "max_submissions": 100,
            "max_concurrent_submissions_allowed": 2,
        }
    ],
    "dataset_splits": [{"id": 1, "name": "Dev", "codename": "dev_split"}],
    "challenge_phase_splits": [
        {
            "challenge_phase_id": 1,
            "leaderboard_id": 1,
            "dataset_split_id": 1,
            "visibility": 3,
            "leaderboard_decimal_precision": 2,
            "is_leaderboard_order_descending": True,
        }
    ],
}
_MAIN = """\
import json
from .counting import hits

def evaluate(test_annotation_file, user_submission_file, phase_codename, **kwargs):
    truth, guess = json.load(open(test_annotation_file)), json.load(open(user_submission_file))
    found = hits(truth, guess)
    part = {"Hits": found / len(truth), "Misses": len(truth) - found}
    return {"result": [{phase_codename + "_split": part}], "submission_result": part}
"""


def write_bundle(root: Path, *, score: str = SCORE, command: str | None = None, **changed: Any) -> Path:
    """A Codabench bundle; keywords replace keys of competition.yaml.

    Args:
        root: Its folder, made.
        score: The scoring program's code.
        command: Of its metadata.yaml.
    """
    files = {
        "competition.yaml": yaml.safe_dump({**COMPETITION, **changed}),
        "input_data/seeds.csv": "area,length\n15.2,5.7\n12.1,5.2\n18.3,6.1\n",
        "reference_data/labels.txt": f"kama\nrosa\n{BROKEN_TRUTH}\n",
        "scoring_program/metadata.yaml": f"command: {command or 'python3 $program/score.py $input $output'}\n",
        "scoring_program/score.py": score,
        "pages/terms.md": "Be fair.\n",
    }
    return _write(root, files)


def write_challenge(root: Path, *, main: str = _MAIN, **changed: Any) -> Path:
    """An EvalAI challenge, as its repository has it; keywords replace keys of challenge_config.yaml.

    Args:
        root: Its folder, made.
        main: Code of evaluation_script/main.py.
    """
    files = {
        "challenge_config.yaml": yaml.safe_dump({**CHALLENGE, **changed}),
        "annotations/dev.json": json.dumps({"a": "x", "b": "y", "c": BROKEN_TRUTH}),
        "annotations/test.json": json.dumps({"d": "z"}),
        "evaluation_script/__init__.py": "from .main import evaluate\n",
        "evaluation_script/main.py": main,
        "evaluation_script/counting.py": "def hits(a, b):\n    return sum(b.get(key) == a[key] for key in a)\n",
        "templates/description.html": "<p>Find the pairs.</p>",
    }
    return _write(root, files)


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def zipped(folder: Path, target: Path) -> Path:
    """An archive of what a folder holds."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


def submit(
    benchmark: Path,
    name: str,
    content: str,
    *,
    backends: list[str] | None = None,
    params: dict[str, Any] | None = None,
) -> Path:
    """A submission with one file in its output.

    Args:
        benchmark: The benchmark.
        name: The file's.
        content: What it holds.
        backends: What benchmark.json allows from now on.
        params: What it says of them from now on, beside those that it has.
    """
    spec = json.loads((benchmark / "benchmark.json").read_text())
    spec |= {"params": {**spec["params"], **(params or {})}} | ({"backends": backends} if backends else {})
    (benchmark / "benchmark.json").write_text(json.dumps(spec))
    team = benchmark / "submissions" / "team-a"
    root = team / f"{len(list(team.glob('*'))) + 1:04}"
    (root / "output").mkdir(parents=True)
    (root / "input").symlink_to(os.path.join("..", "..", "..", "input"))
    (root / "meta.json").write_text("{}")
    (root / "output" / name).write_text(content)
    return root
