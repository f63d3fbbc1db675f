"""Evaluating a submission: made, run and scored, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...core.benchmark import BenchmarkFolder
from ...core.config import Settings, load_settings
from ...executors.base import Observer
from ...schemas.benchmark import Kind
from ...schemas.result import Result
from ..pipeline import run_pipeline
from ..scoring.guarded import PlainScoring, Scoring
from .adding import Source, add_submission

__all__ = ["action_of", "evaluate", "work_on"]


def action_of(kind: Kind) -> str:
    """What is done with a submission: predictions are scored, everything else is run before."""
    return "score" if kind == "predictions" else "pipeline"


def evaluate(
    benchmark: Path | str,
    source: Source,
    *,
    team: str = "local",
    label: str | None = None,
    backend: str | None = None,
    settings: Settings | None = None,
    observer: Observer | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    scoring: Scoring | None = None,
) -> tuple[Path, Result]:
    """Make a submission to a benchmark, run its model and score what came out.

    Args:
        benchmark: The benchmark's folder.
        source: What is handed in.
        team: Whose it is.
        label: Their own words for it.
        backend: Where the model runs; the configuration's default when None.
        settings: The configuration; read from its usual places when None.
        observer: Told of stages and log lines.
        cancelled: Asked again and again; True ends the run.
        scoring: Who validates and scores; this process when None.

    Returns:
        The submission's workspace, and its Result; a failure at any stage is in the Result's ``error``.

    Raises:
        AutoScorerError: ``BENCHMARK_NOT_FOUND``, ``INVALID_BENCHMARK``; as ``add_submission`` and ``run_pipeline``.
    """
    settings = settings or load_settings()
    root = add_submission(BenchmarkFolder(benchmark), team, source, label=label)
    result = work_on(
        root,
        source.kind,
        backend=backend,
        settings=settings,
        observer=observer,
        cancelled=cancelled,
        scoring=scoring or PlainScoring(settings),
    )
    return root, result


def work_on(
    root: Path,
    kind: Kind,
    *,
    settings: Settings,
    scoring: Scoring,
    backend: str | None = None,
    observer: Observer | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Result:
    """Do with a submission what its kind asks for."""
    if action_of(kind) == "score":
        return scoring.score(root, observer=observer)
    return run_pipeline(
        root, settings=settings, backend=backend, observer=observer, cancelled=cancelled, scoring=scoring
    )
