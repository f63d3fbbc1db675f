"""From what a job asks for and what the operator allows to what a run gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.job import Job
from .base import RunLimits

__all__ = ["check_limits", "effective_limits"]


def check_limits(job: Job, settings: Settings) -> Iterator[AutoScorerError]:
    """Yield one error for everything that a job asks for above the operator's maximum."""
    top = settings.security.limits
    asked: list[tuple[str, Any, Any]] = [
        ("resources.cpu", job.resources.cpu, top.cpu),
        ("resources.memory", job.resources.memory, top.memory),
        ("resources.gpu", job.resources.gpu, top.gpu),
        ("resources.disk", job.resources.disk, top.disk),
        ("container.shm_size", job.container.shm_size, top.shm_size),
        # 300 s where the job says nothing is our choice, no wish of the job's.
        ("timeout", job.timeout if "timeout" in job.model_fields_set else None, top.timeout),
    ]
    for key, value, most in asked:
        if value is not None and value > most:
            yield AutoScorerError(
                ErrorCode.INVALID_META,
                f"{key}: {_shown(value)} is above the operator's maximum of {_shown(most)}. Ask for less.",
                details={"key": key, "value": value, "maximum": most},
            )
    yield from _check_gpus(job, settings)
    if job.network_policy not in settings.security.network_policies:
        allowed = ", ".join(settings.security.network_policies)
        yield AutoScorerError(
            ErrorCode.INVALID_META,
            f"network_policy: {job.network_policy[:50]!r} is not allowed here; allowed: {allowed}.",
            details={"key": "network_policy", "allowed": list(settings.security.network_policies)},
        )


def effective_limits(job: Job, settings: Settings) -> RunLimits:
    """What the run gets: the job's wish or the operator's default, never above the operator's maximum.

    Raises:
        AutoScorerError: ``INVALID_META`` when the job asks for more than the operator's maximum.
    """
    for problem in check_limits(job, settings):
        raise problem
    top, usual, asked = settings.security.limits, settings.security.defaults, job.resources
    return RunLimits(
        cpu=asked.cpu or min(usual.cpu, top.cpu),
        memory=asked.memory or min(usual.memory, top.memory),
        gpu=asked.gpu if asked.gpu is not None else min(usual.gpu, top.gpu),
        gpu_types=asked.gpu_types or (),
        gpu_memory=asked.gpu_memory or 0,
        disk=asked.disk or min(usual.disk, top.disk),
        shm_size=job.container.shm_size or min(usual.shm_size, top.shm_size),
        timeout=min(job.timeout if "timeout" in job.model_fields_set else usual.timeout, top.timeout),
        pids=top.pids,
        nofile=top.nofile,
        tmp=top.tmp,
        output_files=top.output_files,
        log=top.log,
        free_disk=top.free_disk,
    )


def _check_gpus(job: Job, settings: Settings) -> Iterator[AutoScorerError]:
    asked, most = job.resources, settings.executors.gpu.max_per_type
    usual = min(settings.security.defaults.gpu, settings.security.limits.gpu)
    number = asked.gpu if asked.gpu is not None else usual
    for key in ("gpu_types", "gpu_memory"):
        if number == 0 and getattr(asked, key) is not None:
            yield AutoScorerError(
                ErrorCode.INVALID_META,
                f"resources.{key} says which GPUs are wanted, and resources.gpu asks for none. Set resources.gpu.",
                details={"key": f"resources.{key}"},
            )
    if asked.gpu_types and all(most.get(name, number) < number for name in asked.gpu_types):
        maxima = {name: most[name] for name in asked.gpu_types}
        told = ", ".join(f"{name}: {maximum}" for name, maximum in maxima.items())
        yield AutoScorerError(
            ErrorCode.INVALID_META,
            f"resources.gpu: {_shown(number)} is above the operator's maximum for each of resources.gpu_types: {told}. "
            "Ask for less.",
            details={"key": "resources.gpu", "value": number, "maximum": max(maxima.values())},
        )


def _shown(value: float) -> str:
    text = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return text if len(text) <= 40 else f"a number of {len(text)} digits"
