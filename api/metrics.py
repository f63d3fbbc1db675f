"""What Prometheus may ask: tasks, stages, the queue, containers, requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..core.config import Settings
from ..schemas.task import TaskState, TaskView
from ..service.recovery.containers import count_containers

if TYPE_CHECKING:
    from ..service.tasks import TaskService

__all__ = ["Metrics"]

logger = logging.getLogger(__name__)

# Seconds between two looks at the containers: asking the engine takes a while, and scrapes must not wait for it.
_CONTAINERS_EVERY = 15.0
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)


class Metrics:
    """One installation's metrics, in a registry of their own: two applications in a process share nothing.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "autoscorer_http_requests", "Requests served.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "autoscorer_http_request_seconds",
            "Seconds to serve a request.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._finished = Counter(
            "autoscorer_tasks_finished", "Tasks that have ended.", ("action", "state"), registry=self.registry
        )
        self._stages = Histogram(
            "autoscorer_stage_seconds",
            "Seconds that tasks spent in a stage.",
            ("action", "stage"),
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "autoscorer_task_attempts_repeated",
            "Attempts beyond the first, after infrastructure failed.",
            ("action",),
            registry=self.registry,
        )
        self._containers = Gauge("autoscorer_containers", "Containers of models on this host.", registry=self.registry)
        self._containers.set(float("nan"))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._tasks: TaskService | None = None
        self._counts = _Counts()
        # Looking up labels costs more than counting.
        self._by_request: dict[tuple[str, str | None, int], tuple[Any, Any]] = {}

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one request."""
        key = (method, route, status)
        known = self._by_request.get(key)
        if known is None:
            name = route or "none"
            known = (self._requests.labels(method, name, str(status)), self._seconds.labels(method, name))
            self._by_request[key] = known
        known[0].inc()
        known[1].observe(seconds)

    def finished(self, task: TaskView) -> None:
        """Count a task that has ended, and its stages."""
        self._finished.labels(task.action, task.state.value).inc()
        if task.attempts > 1:
            self._attempts.labels(task.action).inc(task.attempts - 1)
        for stage, seconds in _stages(task):
            self._stages.labels(task.action, stage).observe(seconds)

    async def render(self) -> bytes:
        """All of it in Prometheus's text format; the tasks are counted now."""
        if self._tasks is not None:
            self._counts.set(await self._tasks.ledger.counts())
        return generate_latest(self.registry)

    @contextlib.asynccontextmanager
    async def watching(self, tasks: TaskService) -> AsyncIterator[None]:
        """Read the tasks' counts at each scrape, and count containers in the background, until the block ends."""
        self._tasks = tasks
        self.registry.register(self._counts)
        watch = asyncio.create_task(self._watch_containers())
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            self.registry.unregister(self._counts)
            self._tasks = None

    async def _watch_containers(self) -> None:
        while True:
            try:
                count = await asyncio.to_thread(count_containers, self._settings)
            except Exception:
                # A gauge must not end the facade; what is wrong is logged, and the number is unknown.
                logger.exception("containers could not be counted")
                count = None
            self._containers.set(float("nan") if count is None else count)
            await asyncio.sleep(_CONTAINERS_EVERY)


class _Counts(Collector):
    def __init__(self) -> None:
        self._counts: Mapping[str, int] = {}

    def set(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = self._counts
        by_state = GaugeMetricFamily("autoscorer_tasks", "Tasks the facade lists, by state.", labels=["state"])
        for state in TaskState:
            by_state.add_metric([state.value], counts.get(state.value, 0))
        yield by_state
        yield GaugeMetricFamily(
            "autoscorer_queue_depth",
            "Tasks that were accepted and have not begun.",
            value=counts.get(TaskState.QUEUED.value, 0),
        )


def _stages(task: TaskView) -> Iterator[tuple[str, float]]:
    if task.queue_seconds is not None:
        yield "queue", task.queue_seconds
    if task.run_seconds is not None:
        yield "total", task.run_seconds
    timing = (task.result or {}).get("timing")
    if isinstance(timing, dict):
        for stage, seconds in timing.items():
            # The task's own queue and total are longer: they hold what lies around the work.
            if stage not in ("queue", "total") and isinstance(seconds, (int, float)):
                yield stage, float(seconds)
