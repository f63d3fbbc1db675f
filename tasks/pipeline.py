"""Validate, run, score: the whole of a job in one process, and one Result whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError
from ..core.meta import load_job
from ..core.storage import fault_of, naming_full_disks
from ..core.workspace import Workspace
from ..executors.base import Observer, SilentObserver
from ..schemas.job import Job
from ..schemas.result import Result
from .result_metadata import replaces, save_failure
from .run import run_workspace
from .scoring import PlainScoring, Scoring

__all__ = ["run_pipeline"]

if TYPE_CHECKING:
    from .prefect_tasks import pipeline_task as pipeline_task
else:
    # ``pipeline_task`` is made on first use: importing Prefect takes seconds that plain users must not pay. Hidden from
    # the type checker, which would otherwise take any name for an attribute of this module.
    def __getattr__(name: str) -> object:
        if name != "pipeline_task":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .prefect_tasks import pipeline_task

        return pipeline_task


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
        started = time.monotonic()
        observer.stage("validate")
        try:
            scoring.validate(
                space.root, scorer=scorer, params=params, backend=backend, predictions=False, purpose="pipeline"
            )
        except AutoScorerError as error:
            spent = {"validate": time.monotonic() - started}
            return save_failure(space, error, job=_job(space), timing=spent, refused=True, settings=settings)
        except Exception as error:
            fault = fault_of(error, home=settings.home, workspace=space.root)
            spent = {"validate": time.monotonic() - started}
            return save_failure(space, fault, job=_job(space), timing=spent, settings=settings)
        timing: dict[str, float | None] = {"validate": time.monotonic() - started}
        try:
            report = run_workspace(
                space.root,
                settings=settings,
                backend=backend,
                observer=_Preloading(observer),
                cancelled=cancelled,
                labels=labels,
                timing=timing,
                lock=False,
            )
            failure = report.error
        except AutoScorerError as error:
            failure = error
        if failure is not None:
            saved = space.read_result()
            if saved is not None and saved.error is not None and saved.error.message == failure.message:
                return saved
            if not replaces(failure, saved):
                return save_failure(space, failure, job=_job(space), timing=timing)
            raise failure  # it could not be written
        timing.update(queue=report.queue_seconds, pull=report.pull_seconds, run=report.run_seconds)
        return scoring.score(space.root, scorer=scorer, params=params, observer=observer, timing=timing, lock=False)


class _Preloading:
    """Passes everything on, and imports what scoring will need while the container starts and runs."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.log, self.left_out = observer.log, observer.left_out

    def stage(self, name: str, detail: str = "") -> None:
        self._observer.stage(name, detail)
        if name == "run":
            threading.Thread(target=_preload, name="autoscorer-preload", daemon=True).start()


def _preload() -> None:
    from ..scorers.report import report  # noqa: F401


def _job(space: Workspace) -> Job | None:
    try:
        return load_job(space)
    except AutoScorerError:
        return None
