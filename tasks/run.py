"""Run: the model in its sealed container, its output in the workspace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError
from ..core.meta import Meta, read_meta
from ..core.storage import fault_of, naming_full_disks
from ..core.workspace import Workspace
from ..executors.backends import chosen_backend, make_executor
from ..executors.base import Observer, SilentObserver
from ..executors.limits import effective_limits
from ..executors.places import place
from ..executors.reaper import reap_if_needed
from ..executors.records import RunRecords
from ..executors.supervise import RunReport, run_sealed
from . import prefect_task
from .results.failures import ScoringFailed, located, save_failure
from .submissions.scoring import check_backend

__all__ = ["run", "run_workspace"]

if TYPE_CHECKING:
    from prefect.tasks import Task

    run_task: Task[..., Any]
else:
    __getattr__ = prefect_task("run_task")


def run_workspace(
    workspace: Path | str,
    *,
    settings: Settings | None = None,
    backend: str | None = None,
    observer: Observer | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    labels: Mapping[str, str] | None = None,
    timing: Mapping[str, float | None] | None = None,
    lock: bool = True,
) -> RunReport:
    """Run the workspace's model; its audited output replaces ``output/``.

    Args:
        workspace: The folder.
        settings: The configuration; read from its usual places when None.
        backend: ``auto``, ``docker``, ``kubernetes`` or ``process``; the configuration's default when None.
        observer: Told of stages and log lines.
        cancelled: Asked again and again; True ends the run with ``CANCELLED``.
        labels: Laid on the container, such as the flow run's id.
        timing: Seconds of stages that ran before, for the Result of a failure.
        lock: Hold the workspace; False when the caller holds it already.

    Returns:
        The report. A failure of the submission is in its ``error`` and in result.json; ``logs/`` holds the log.

    Raises:
        AutoScorerError: What is not the submission's fault: ``BACKEND_UNAVAILABLE``, ``IMAGE_PULL_FAILED``,
            ``STORAGE_FULL``, ``CONFLICT``, ``WORKSPACE_NOT_FOUND``; and ``INVALID_META``, where there is nothing to
            run.
    """
    settings = settings or load_settings()
    space = Workspace(workspace)
    with (
        naming_full_disks(home=settings.home, workspace=space.root),
        space.lock() if lock else contextlib.nullcontext(),
    ):
        try:
            return run(
                space,
                read_meta(space),
                settings,
                backend=backend,
                observer=observer,
                cancelled=cancelled,
                labels=labels,
                timing=timing,
            )
        except ScoringFailed as failure:
            if failure.report is None:
                raise
            return failure.report


def run(
    space: Workspace,
    meta: Meta,
    settings: Settings,
    *,
    backend: str | None = None,
    observer: Observer | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    labels: Mapping[str, str] | None = None,
    timing: Mapping[str, float | None] | None = None,
) -> RunReport:
    """As ``run_workspace``, of a workspace that is held and whose meta.json was read.

    Raises:
        ScoringFailed: Every failure, with the Result that says so; the submission's with its report, too.
    """
    job = meta.known
    try:
        reap_if_needed(settings)
        job = meta.job
        limits = effective_limits(job, settings)
        name = backend or settings.executors.default
        check_backend(space, name)
        observer = observer or SilentObserver()
        name = chosen_backend(name, settings)
        with place(settings, name, limits, cancelled, observer) as given:
            report = run_sealed(
                make_executor(name, settings),
                space,
                job,
                limits,
                records=RunRecords(settings.home),
                observer=observer,
                cancelled=cancelled,
                labels=labels,
                gpus=given.gpus,
                queue_seconds=given.waited,
            )
    except AutoScorerError as error:
        saved = save_failure(space, error, settings=settings, job=job, timing=timing)
        raise ScoringFailed.of(located(space, error), saved) from None
    except Exception as error:  # a fault of ours leaves a Result too, or an old one would pass for this run's
        fault = fault_of(error, home=settings.home, workspace=space.root)
        saved = save_failure(space, fault, settings=settings, job=job, timing=timing)
        raise ScoringFailed.of(fault, saved) from error
    if report.error is not None:
        spent = {"queue": report.queue_seconds, "pull": report.pull_seconds, "run": report.run_seconds}
        saved = save_failure(
            space, report.error, settings=settings, job=job, timing={**(timing or {}), **spent}, ran=True
        )
        report.error = located(space, report.error)
        raise ScoringFailed.of(report.error, saved, report=report)
    return report
