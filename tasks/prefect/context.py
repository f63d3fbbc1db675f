"""What a process adds to the flow runs it has, and how a flow goes on when Prefect is away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import httpx
from prefect.client.schemas.objects import State
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.logging import get_run_logger
from prefect.tasks import Task

from ...core.config import Settings, load_settings
from ...core.errors import AutoScorerError
from ...core.meta import Meta
from ...core.workspace import Workspace
from ...executors.base import Observer
from ..scoring.guarded import GuardedScoring, Scoring

__all__ = ["AWAY", "RunContext", "call_tracked", "call_untracked", "current", "use", "use_scoring"]

# What comes out of a call of a task when the server does not answer for about a minute. The second is the first place
# where a task asks: whether one of its tags has a concurrency limit.
AWAY = (httpx.HTTPError, ConcurrencySlotAcquisitionError)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What a process adds to flows that it runs itself; a flow run's parameters are JSON and can't carry it."""

    settings: Settings | None = None
    observer: Observer | None = None
    cancelled: Callable[[], bool] = lambda: False
    # Ends this process and has the flow run put back into its queue until there is room; None where nobody would do it.
    put_back: Callable[[AutoScorerError], NoReturn] | None = None
    # Called when the outcome was saved, and returns once Prefect may be told; None where it may be told at once.
    publish: Callable[[], None] | None = None
    # Where a task puts the state that it ends in: what was done need not be done again for want of a record.
    states: list[State[Any]] | None = None
    # Which workspace of a batch the work is on, for the log and the name of its task run; "" outside of one.
    member: str = ""
    # Who validates and scores.
    scoring: Scoring | None = None
    # The workspace that the flow holds, with its meta.json as it was read then: its tasks go by that.
    held: tuple[Workspace, Meta] | None = None


_context: ContextVar[RunContext | None] = ContextVar("autoscorer_run_context", default=None)


@contextlib.contextmanager
def use(value: RunContext) -> Iterator[None]:
    """Run flows inside with ``value``."""
    token = _context.set(value)
    try:
        yield
    finally:
        _context.reset(token)


@contextlib.contextmanager
def use_scoring() -> Iterator[Scoring]:
    """Have somebody who validates and scores, inside; the guards that a flow has started end with it."""
    found = current()
    assert found.settings is not None
    if found.scoring is not None:
        yield found.scoring
        return
    with GuardedScoring(found.settings) as scoring, use(replace(found, scoring=scoring)):
        yield scoring


def current() -> RunContext:
    """What applies here, with the settings read."""
    found = _context.get() or RunContext()
    return found if found.settings is not None else replace(found, settings=load_settings())


def call_tracked(task: Task[..., State[Any]], *args: Any, **kwargs: Any) -> State[Any]:
    """Call a task in a flow; when Prefect's server is away for too long, do its work all the same."""
    states: list[State[Any]] = []
    with use(replace(current(), states=states)):
        try:
            return task(*args, **kwargs, return_state=True)
        except AWAY as error:
            return call_untracked(error, task, states, *args, **kwargs)


def call_untracked(
    error: Exception, task: Task[..., State[Any]], states: list[State[Any]], *args: Any, **kwargs: Any
) -> State[Any]:
    """Go on without a record: a model that ran for hours is not given up for the sake of one.

    Args:
        error: One of ``AWAY``.
        task: The task that could not be recorded.
        states: What was its ``RunContext.states``.
        args: What it was called with.
        kwargs: The same.

    Returns:
        The state that it ended in, or that its work ends in now.
    """
    get_run_logger().warning("Prefect does not answer (%s): %s goes on unrecorded.", error, task.name)
    return states[-1] if states else task.fn(*args, **kwargs)
