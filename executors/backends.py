"""Choosing a backend by name."""

from __future__ import annotations

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from .base import Executor

__all__ = ["BACKENDS", "chosen_backend", "make_executor"]

BACKENDS = ("auto", "bubblewrap", "docker", "kubernetes", "process")


def chosen_backend(backend: str, settings: Settings) -> str:
    """The backend that ``auto`` stands for here: Docker where it answers, else bubblewrap; another name is itself.

    Args:
        backend: One of ``BACKENDS``.
        settings: The configuration.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``, with what to do for each, where neither works.
    """
    if backend != "auto":
        return backend
    why = []
    for name in ("docker", "bubblewrap"):
        executor = _made(name, settings)
        try:
            executor.check()
            return name
        except AutoScorerError as error:
            if error.code is not ErrorCode.BACKEND_UNAVAILABLE:
                raise
            why.append(error.message)
        finally:
            executor.close()
    raise AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"Nothing here can seal a model. Docker: {why[0]} bubblewrap: {why[1]} Code that you trust runs without either "
        "by --backend process, unsealed.",
    )


def make_executor(backend: str, settings: Settings) -> Executor:
    """Make a fresh executor for one run.

    Args:
        backend: ``bubblewrap``, ``docker``, ``kubernetes``, ``process``, or ``auto`` as ``chosen_backend`` has it.
        settings: The configuration.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for another name, ``BACKEND_UNAVAILABLE`` when it can't run models here.
    """
    if backend not in BACKENDS:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"There is no backend {backend!r}; expected one of {', '.join(BACKENDS)}."
        )
    executor = _made(chosen_backend(backend, settings), settings)
    try:
        executor.check()
    except AutoScorerError:
        executor.close()
        raise
    return executor


def _made(backend: str, settings: Settings) -> Executor:
    if backend == "process":
        from .process import ProcessExecutor

        return ProcessExecutor()
    if backend == "kubernetes":
        from .kubernetes.executor import KubernetesExecutor

        return KubernetesExecutor(settings)
    if backend == "bubblewrap":
        from .bubblewrap.executor import BubblewrapExecutor

        return BubblewrapExecutor(settings)
    from .docker.executor import DockerExecutor

    return DockerExecutor(settings)
