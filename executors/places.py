"""What a run has of this host before anything of it exists: its GPUs, and a place to run in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..core.config import Settings
from .base import Gpu, Observer, RunLimits
from .gpu.lease import leased_gpus
from .reaper import gpus_of_containers
from .slots import slot

__all__ = ["Place", "place"]


class Place(NamedTuple):
    """The GPUs of a run, and the seconds that it waited; None where it had nothing to wait for."""

    gpus: tuple[Gpu, ...]
    waited: float | None


@contextlib.contextmanager
def place(
    settings: Settings, executor: str, limits: RunLimits, cancelled: Callable[[], bool], observer: Observer
) -> Iterator[Place]:
    """Wait for all that a run needs of this host, and have it inside.

    Args:
        settings: The configuration.
        executor: The backend's name, not ``auto``.
        limits: What the run may use.
        cancelled: Asked again and again while it waits.
        observer: Told of the stage ``wait``, if it has to.

    Raises:
        AutoScorerError: As ``leased_gpus`` and ``slot``.
    """

    def held() -> frozenset[str]:
        return gpus_of_containers(settings, required=executor == "docker")

    with (
        # First: a run that waits for a GPU keeps no other from running.
        leased_gpus(settings, executor, limits, cancelled, observer, held) as leased,
        slot(settings, executor, cancelled, observer) as waited,
    ):
        waits = [seconds for seconds in (leased.waited, waited) if seconds is not None]
        yield Place(leased.gpus, sum(waits) if waits else None)
