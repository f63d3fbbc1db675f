"""Run: the model in its sealed container, its output in the workspace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError
from ..core.meta import load_job
from ..core.storage import fault_of, naming_full_disks
from ..core.workspace import Workspace
from ..executors.backends import make_executor
from ..executors.base import Observer, SilentObserver
from ..executors.limits import effective_limits
from ..executors.reaper import reap_if_needed
from ..executors.records import RunRecords
from ..executors.slots import slot
from ..executors.supervise import RunReport, run_sealed
from ..schemas.job import Job
from .result_metadata import located, save_failure

__all__ = ["run_workspace"]

if TYPE_CHECKING:
    from .prefect_tasks import run_task as run_task
else:
    # ``run_task`` is made on first use: importing Prefect takes seconds that plain users must not pay. Hidden from
    # the type checker, which would otherwise take any name for an attribute of this module.
    def __getattr__(name: str) -> object:
        if name != "run_task":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .prefect_tasks import run_task

        return run_task


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
        backend: ``auto``, ``docker`` or ``process``; the configuration's default when None.
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
    reap_if_needed(settings)
    with (
        naming_full_disks(home=settings.home, workspace=space.root),
        space.lock() if lock else contextlib.nullcontext(),
    ):
        job: Job | None = None
        try:
            job = load_job(space)
            limits = effective_limits(job, settings)
            name = backend or settings.executors.default
            observer = observer or SilentObserver()
            with slot(settings, "process" if name == "process" else "docker", cancelled, observer) as waited:
                report = run_sealed(
                    make_executor(name, settings),
                    space,
                    job,
                    limits,
                    records=RunRecords(settings.home),
                    observer=observer,
                    cancelled=cancelled,
                    labels=labels,
                    queue_seconds=waited,
                )
        except AutoScorerError as error:
            save_failure(space, error, job=job, timing=timing, settings=settings)
            raise located(space, error) from None
        except Exception as error:  # a fault of ours leaves a Result too, or an old one would pass for this run's
            fault = fault_of(error, home=settings.home, workspace=space.root)
            save_failure(space, fault, job=job, timing=timing, settings=settings)
            raise fault from error
        if report.error is not None:
            spent = {"queue": report.queue_seconds, "pull": report.pull_seconds, "run": report.run_seconds}
            save_failure(space, report.error, job=job, timing={**(timing or {}), **spent}, ran=True, settings=settings)
            report.error = located(space, report.error)
        return report
