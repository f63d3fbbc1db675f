"""Validate, run, score: the whole of a job in one process, and one Result whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError
from ..core.meta import Meta, read_meta
from ..core.storage import fault_of, naming_full_disks
from ..core.workspace import Workspace
from ..executors.base import Observer, SilentObserver
from ..schemas.result import Result
from . import prefect_task
from .results.failures import ScoringFailed, save_failure
from .run import run
from .scoring.guarded import PlainScoring, ScorerChoice, Scoring, ValidateOptions

__all__ = ["check", "in_order", "pipeline", "run_pipeline"]

R = TypeVar("R")
Timing = dict[str, float | None]

if TYPE_CHECKING:
    from prefect.tasks import Task

    pipeline_task: Task[..., Any]
else:
    __getattr__ = prefect_task("pipeline_task")


def run_pipeline(
    workspace: Path | str,
    *,
    settings: Settings | None = None,
    backend: str | None = None,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    labels: Mapping[str, str] | None = None,
    scoring: Scoring | None = None,
) -> Result:
    """Validate, run and score a workspace.

    Args:
        workspace: The folder.
        settings: The configuration; read from its usual places when None.
        backend: ``auto``, ``docker`` or ``process``; the configuration's default when None.
        scorer: Scorer id instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        observer: Told of stages and log lines.
        cancelled: Asked again and again; True ends the run.
        labels: Laid on the container.
        scoring: Who validates and scores; this process when None.

    Returns:
        The Result; a failure at any stage is in its ``error``, and in result.json.

    Raises:
        AutoScorerError: ``WORKSPACE_NOT_FOUND``, ``CONFLICT`` or ``STORAGE_FULL``: nothing was written then.
    """
    settings = settings or load_settings()
    observer = observer or SilentObserver()
    scoring = scoring or PlainScoring(settings)
    space = Workspace(workspace)
    with naming_full_disks(home=settings.home, workspace=space.root), space.lock():
        return pipeline(
            space,
            read_meta(space),
            settings,
            scoring,
            observer,
            backend=backend,
            scorer=scorer,
            params=params,
            cancelled=cancelled,
            labels=labels,
        )


def pipeline(
    space: Workspace,
    meta: Meta,
    settings: Settings,
    scoring: Scoring,
    observer: Observer,
    *,
    backend: str | None = None,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    labels: Mapping[str, str] | None = None,
) -> Result:
    """As ``run_pipeline``, of a workspace that is held and whose meta.json was read."""
    asked: ScorerChoice = {"scorer": scorer, "params": params}
    try:
        return in_order(
            lambda: check(
                space,
                meta,
                settings,
                scoring,
                observer,
                backend=backend,
                predictions=False,
                purpose="pipeline",
                **asked,
            ),
            lambda timing: run(
                space,
                meta,
                settings,
                backend=backend,
                observer=_Preloading(observer),
                cancelled=cancelled,
                labels=labels,
                timing=timing,
            ).to_dict(),
            lambda timing: scoring.score_held(space, meta, observer=observer, timing=timing, **asked),
        )
    except ScoringFailed as failure:
        return Result.model_validate(failure.result)


def in_order(
    validate: Callable[[], Mapping[str, Any]],
    run: Callable[[Timing], Mapping[str, Any]],
    score: Callable[[Timing], R],
) -> R:
    """What a pipeline is, whoever does its steps: the one after the other, each told how long those before it took.

    Args:
        validate: Gives what was checked, and ``seconds``; raises what ends the pipeline, as ``run`` does.
        run: Gives the run's report, as ``logs/run_info.json`` has it.
        score: Gives what the pipeline gives.
    """
    timing: Timing = {"validate": validate()["seconds"]}
    report = run(timing)
    timing.update(queue=report["queue_seconds"], pull=report["pull_seconds"], run=report["run_seconds"])
    return score(timing)


def check(
    space: Workspace,
    meta: Meta,
    settings: Settings,
    scoring: Scoring,
    observer: Observer,
    *,
    save: bool = True,
    **options: Unpack[ValidateOptions],
) -> dict[str, Any]:
    """The first step: validate, and write down why the workspace is not valid.

    Args:
        space: The workspace.
        meta: Its meta.json.
        settings: The configuration.
        scoring: Who validates.
        observer: Told that it begins.
        save: Write a failure to result.json; the workspace is held.
        options: As ``validate_workspace`` takes them.

    Returns:
        What was checked, and ``seconds``.

    Raises:
        ScoringFailed: It is not valid.
    """
    started = time.monotonic()
    observer.stage("validate")
    try:
        checked = scoring.validate_opened(space, meta, **options)
    except Exception as error:
        failure = (
            error if isinstance(error, AutoScorerError) else fault_of(error, home=settings.home, workspace=space.root)
        )
        saved = None
        if save:
            spent = {"validate": time.monotonic() - started}
            saved = save_failure(
                space, failure, settings=settings, job=meta.known, timing=spent, refused=failure is error
            )
        raise ScoringFailed.of(failure, saved) from error
    return {**checked, "seconds": time.monotonic() - started}


class _Preloading:
    """Passes everything on, and imports what scoring will need while the container starts and runs."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.progress, self.log, self.left_out = observer.progress, observer.log, observer.left_out

    def stage(self, name: str, detail: str = "") -> None:
        self._observer.stage(name, detail)
        if name == "run":
            threading.Thread(target=_preload, name="autoscorer-preload", daemon=True).start()


def _preload() -> None:
    from ..scorers.report import report  # noqa: F401
