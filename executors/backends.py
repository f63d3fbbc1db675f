"""Choosing a backend by name."""

from __future__ import annotations

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from .base import Executor

__all__ = ["BACKENDS", "make_executor"]

BACKENDS = ("auto", "docker", "kubernetes", "process")


def make_executor(backend: str, settings: Settings) -> Executor:
    """Make a fresh executor for one run.

    Args:
        backend: ``docker``, ``kubernetes``, ``process``, or ``auto``: Docker, and never anything else in its place.
        settings: The configuration.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for another name, ``BACKEND_UNAVAILABLE`` when Docker or the cluster does
            not answer.
    """
    if backend == "process":
        from .process import ProcessExecutor

        return ProcessExecutor()
    if backend not in BACKENDS:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"There is no backend {backend!r}; expected one of {', '.join(BACKENDS)}."
        )
    executor: Executor
    if backend == "kubernetes":
        from .kubernetes.executor import KubernetesExecutor

        executor = KubernetesExecutor(settings)
    else:
        from .docker.executor import DockerExecutor

        executor = DockerExecutor(settings)
    try:
        executor.check()
    except AutoScorerError as error:
        executor.close()
        if backend == "auto":
            error.message += " Code that you trust runs without Docker by --backend process, unsealed."
        raise
    return executor
