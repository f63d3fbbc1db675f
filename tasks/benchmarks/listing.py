"""The submissions of a benchmark, a line each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError
from ...core.scores import read_submission
from ...core.submissions import number_of, team_of
from ...core.workspace import Workspace

__all__ = ["list_submissions", "view_submission"]

Json = dict[str, Any]


def list_submissions(folder: BenchmarkFolder, team: str | None = None) -> list[Json]:
    """What was handed in, by team and number, with what its Result says.

    Args:
        folder: The benchmark.
        team: Of this team alone.
    """
    return [view_submission(root) for root in folder.submissions(team)]


def view_submission(root: Path) -> Json:
    """One submission in a line: who handed in what and when, and what its Result says; None where there is none."""
    about = read_submission(root)
    try:
        result = Workspace(root).read_result()
    except AutoScorerError:
        result = None
    of = result.versioning.benchmark if result is not None else None
    main = next(iter(result.summary.model_extra or {}), "") if result is not None else ""
    interval = result.intervals.get(main) if result is not None else None
    return {
        "team": team_of(root),
        "number": number_of(root),
        "kind": about.kind if about else None,
        "label": about.label if about else None,
        "submitted_at": about.created_at if about else None,
        "phase": about.phase if about else None,
        "late": about.late if about else False,
        "score": result.summary.score if result else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "pass": result.summary.passed if result else None,
        "version": of.version if of else None,
        "error": result.error.code if result and result.error else None,
        "has_predictions": any(name.startswith("pred.") for name in _names(root / "output")),
    }


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
