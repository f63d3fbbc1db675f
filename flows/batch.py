"""The flow ``batch``: many workspaces, a few at a time, and one failure stops none of the others.

Each outcome is journaled as it comes. A second attempt of the same flow run, after its process was killed, keeps what
was scored or failed by the submission's own fault, and does the rest.
"""

# No ``from __future__ import annotations`` here: Prefect reads the annotations of a flow also where it has the
# function without its module (``flow.serve()`` sends it to another process), and text could not be resolved there.
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import FlowRunFiles
from ..core.provenance import current_flow_run
from ..tasks.batch_outcome import Outcome, headline, summarize
from ..tasks.prefect_cancel import CancelWatch
from ..tasks.prefect_tasks import Unscored, settled
from ..tasks.run_context import here, scoring_here
from ..tasks.score import STEP_TIMEOUT
from ..tasks.score_pool import ScorePool
from .batch_book import Book
from .batch_report import Progress, batch_key, publish_batch
from .batch_work import Crew, PipelineCrew, member_names, work_through
from .expand import expand
from .final_state import keep_ending
from .hooks import clear_earlier_attempt, clear_up
from .pipeline import BackendName, ParamsField, ScorerField

__all__ = ["batch"]

Workspaces = Annotated[
    list[str],
    Field(
        title="Workspaces",
        description="Each a workspace, a folder of workspaces, or a pattern such as /data/round-1/*, as the worker "
        "sees it.",
        min_length=1,
        examples=[["/data/round-1"]],
    ),
]
Action = Annotated[
    Literal["pipeline", "score"],
    Field(
        title="Action", description="pipeline: validate, run and score. score: score the predictions that are there."
    ),
]
Concurrency = Annotated[
    int, Field(title="Concurrency", description="Workspaces worked on at the same time.", ge=1, le=64)
]


def _run_name() -> str:
    given = flow_run.parameters
    workspaces = given.get("workspaces") or []
    first = str(workspaces[0]).rstrip("/").rpartition("/")[2] if workspaces else "nothing"
    more = f" and {len(workspaces) - 1} more" if len(workspaces) > 1 else ""
    return f"{given.get('action', 'pipeline')} {first}{more}"


@flow(
    name="batch",
    description="Validate, run and score, or only score, many workspaces.",
    flow_run_name=_run_name,
    persist_result=False,
    on_cancellation=[clear_up],
    on_crashed=[clear_up],
)
def batch(
    workspaces: Workspaces,
    action: Action = "pipeline",
    scorer: ScorerField = None,
    params: ParamsField = None,
    backend: BackendName = None,
    concurrency: Concurrency = 2,
) -> Any:
    """Work on many workspaces.

    Args:
        workspaces: Each a workspace, a folder of workspaces, or a pattern, as the worker sees it.
        action: pipeline (validate, run and score) or score (the predictions that are there).
        scorer: Scorer id instead of the one that each meta.json names.
        params: Added to each meta.json's params, and stronger than they are.
        backend: auto, docker or process; empty as the worker is configured.
        concurrency: Workspaces worked on at the same time.

    Returns:
        ``{action, total, completed, failed, cancelled, duplicates, resumed, seconds, outcomes}``, the outcomes in the
        order given: ``{workspace, state, score, metric, higher_is_better, interval, pass, rank, seconds, error}``, and
        ``duplicate_of`` (a position) where the same folder was named before. The flow is Completed when it could work
        on all of them, however many failed.
    """
    settings = here().settings
    assert settings is not None
    token = current_flow_run.set(str(flow_run.id))
    try:
        started = time.monotonic()
        clear_earlier_attempt(settings, str(flow_run.id))
        files = FlowRunFiles(settings.home, str(flow_run.id))
        book = Book(expand(workspaces, settings.workspace_roots), files, warn=get_run_logger().warning)
        key = batch_key(action, workspaces)
        steps = {"scorer": scorer, "params": params}
        with Progress(action, key, book, files) as progress:
            error = None
            if left := book.left():
                size = min(concurrency, len(left))
                if action == "score":
                    crew = partial(_scoring, settings, size, steps)
                else:
                    crew = partial(_running, size, {**steps, "backend": backend}, member_names(left))
                error = _work(crew, book, progress)
            _wait_for_room(book)
            summary = summarize(action, book.close(error), seconds=time.monotonic() - started, resumed=book.resumed)
            # Before Prefect is told anything more: it may be away.
            state = keep_ending(_final(summary, error))
        publish_batch(summary, key, progress)
        return state
    finally:
        current_flow_run.reset(token)


@contextmanager
def _scoring(settings: Settings, size: int, steps: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Crew]:
    """Scorings compute, so more processes than twice the processors would only take memory."""
    most = 2 * len(os.sched_getaffinity(0))
    with ScorePool(settings, size=min(size, most), flow_run_id=str(flow_run.id), timeout=STEP_TIMEOUT, **steps) as pool:
        yield pool


@contextmanager
def _running(
    size: int, steps: dict[str, Any], members: dict[str, str], cancelled: Callable[[], bool]
) -> Iterator[Crew]:
    with scoring_here(), PipelineCrew(size, steps, cancelled, members) as crew:
        yield crew


def _work(
    crew: Callable[[Callable[[], bool]], AbstractContextManager[Crew]], book: Book, progress: Progress
) -> AutoScorerError | None:
    """Work on what is left; why not on all of it."""

    def done(workspace: str, outcome: Outcome) -> None:
        book.add(workspace, outcome)
        progress.add(outcome)

    try:
        found = here()
        assert found.settings is not None
        watch = CancelWatch(flow_run.id, found.cancelled, home=found.settings.home)
        with watch as cancelled, crew(cancelled) as workers:
            if work_through(workers, book.left(), cancelled=cancelled, done=done):
                return AutoScorerError(ErrorCode.CANCELLED, "The batch was cancelled.")
    except AutoScorerError as error:  # a signal, or processes that do not live
        return error
    return None


def _wait_for_room(book: Book) -> None:
    """Where a disk was full for some of its workspaces, have the batch put back: another attempt does those alone."""
    put_back = here().put_back
    if put_back is None:
        return
    for outcome in book.outcomes.values():
        error = outcome["error"]
        if error is not None and error["code"] == ErrorCode.STORAGE_FULL:
            put_back(AutoScorerError.from_dict(error))


def _final(summary: dict[str, Any], error: AutoScorerError | None) -> State[Any]:
    if error is None:
        return Completed(message=headline(summary), data=summary)
    failure = Unscored(error.code, f"{error.message} {headline(summary)}.", stage=error.stage, details=error.details)
    failure.result = summary
    return settled(failure)
