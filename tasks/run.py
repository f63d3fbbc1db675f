"""Run: the model in its sealed container, its output in the workspace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from ..core.config import Settings, load_settings
from ..core.meta import load_job
from ..core.workspace import Workspace
from ..executors.backends import make_executor
from ..executors.base import Observer, SilentObserver
from ..executors.limits import effective_limits
from ..executors.reaper import reap_if_needed
from ..executors.records import RunRecords
from ..executors.supervise import RunReport, run_sealed

__all__ = ["run_workspace"]


def run_workspace(
    workspace: Path | str,
    *,
    settings: Settings | None = None,
    backend: str | None = None,
    observer: Observer | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    labels: Mapping[str, str] | None = None,
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
        lock: Hold the workspace; False when the caller holds it already.

    Returns:
        The report. A failure of the submission is in its ``error``; ``logs/`` holds the container's log.

    Raises:
        AutoScorerError: What is not the submission's fault: ``BACKEND_UNAVAILABLE``, ``IMAGE_PULL_FAILED``,
            ``CONFLICT``, ``WORKSPACE_NOT_FOUND``; and ``INVALID_META``, where there is nothing to run.
    """
    settings = settings or load_settings()
    space = Workspace(workspace)
    reap_if_needed(settings)
    with space.lock() if lock else contextlib.nullcontext():
        job = load_job(space)
        limits = effective_limits(job, settings)
        executor = make_executor(backend or settings.executors.default, settings)
        return run_sealed(
            executor,
            space,
            job,
            limits,
            records=RunRecords(settings.home),
            observer=observer or SilentObserver(),
            cancelled=cancelled,
            labels=labels,
        )
