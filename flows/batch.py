"""The flow ``batch``: many workspaces, a few at a time, and one failure stops none of the others.

Each outcome is journaled as it comes. A second attempt of the same flow run, after its process was killed, keeps what
was scored or failed by the submission's own fault, and does the rest.
"""

# No ``from __future__ import annotations`` here: Prefect reads the annotations of a flow also where it has the
# function without its module (``flow.serve()`` sends it to another process), and text could not be resolved there.
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import FlowRunFiles
from ..core.provenance import current_flow_run
from ..schemas.result import Result
from ..tasks.prefect.cancel import CancelWatch
from ..tasks.prefect.context import call_tracked, current, use, use_scoring
from ..tasks.prefect.states import failed_state, failure_of
from ..tasks.prefect.tasks import pipeline_task
from ..tasks.results.failures import ScoringFailed
from ..tasks.scoring.guarded import ScorerChoice, Scoring
from .batches.expand import expand
from .batches.journal import BatchJournal
from .batches.outcome import Outcome, batch_headline, summarize
from .batches.pool import WorkerPool, member_names, run_all
from .batches.report import BatchProgress, batch_key, publish_batch
from .final_state import persist_outcome
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
        backend: auto, docker, kubernetes or process; empty as the worker is configured.
        concurrency: Workspaces worked on at the same time.

    Returns:
        ``{action, total, completed, failed, cancelled, duplicates, resumed, seconds, outcomes}``, the outcomes in the
        order given: ``{workspace, state, score, metric, higher_is_better, interval, pass, rank, seconds, error, job_id,
        scorer, benchmark, ended_at, result_sha256}``, and ``duplicate_of`` (a position) where the same folder was named
        before. The flow is Completed when it could work on all of them, however many failed.
    """
    settings = current().settings
    assert settings is not None
    token = current_flow_run.set(str(flow_run.id))
    try:
        started = time.monotonic()
        clear_earlier_attempt(settings, str(flow_run.id))
        files = FlowRunFiles(settings.home, str(flow_run.id))
        journal = BatchJournal(expand(workspaces, settings.workspace_roots), files, warn=get_run_logger().warning)
        key = batch_key(action, workspaces)
        with BatchProgress(action, key, journal, files) as progress:
            error = None
            if left := journal.left():
                size = min(concurrency, len(left))
                choice: ScorerChoice = {"scorer": scorer, "params": params}
                if action == "score":
                    # Scorings compute, so more processes than twice the processors would only take memory.
                    error = _work(
                        min(size, 2 * len(os.sched_getaffinity(0))), partial(_score, choice), journal, progress
                    )
                else:
                    work = partial(_pipeline, {**choice, "backend": backend}, member_names(left))
                    error = _work(size, work, journal, progress)
            _wait_for_room(journal)
            summary = summarize(
                action, journal.close(error), seconds=time.monotonic() - started, resumed=journal.resumed
            )
            # Before Prefect is told anything more: it may be away.
            state = persist_outcome(_final(summary, error))
        publish_batch(summary, key, progress, settings)
        return state
    finally:
        current_flow_run.reset(token)


def _score(choice: ScorerChoice, scoring: Scoring, workspace: str, cancelled: Callable[[], bool]) -> Result:
    return scoring.score(workspace, **choice)


def _pipeline(
    options: dict[str, Any], names: dict[str, str], scoring: Scoring, workspace: str, cancelled: Callable[[], bool]
) -> Result:
    """A task run each, which a model's minutes are worth."""
    with use(replace(current(), cancelled=cancelled, member=names[workspace])):
        state = call_tracked(pipeline_task, workspace, **options)
    if state.is_completed():
        return Result.model_validate(state.result())
    failure = failure_of(state)
    if failure.result is None:
        raise failure
    return Result.model_validate(failure.result)


def _work(
    size: int,
    work: Callable[[Scoring, str, Callable[[], bool]], Result],
    journal: BatchJournal,
    progress: BatchProgress,
) -> AutoScorerError | None:
    """Work on what is left; why not on all of it."""

    def done(workspace: str, outcome: Outcome) -> None:
        journal.add(workspace, outcome)
        progress.add(outcome)

    try:
        settings = current().settings
        assert settings is not None
        with CancelWatch(flow_run.id, current().cancelled, home=settings.home) as cancelled, use_scoring() as scoring:

            def one(workspace: str, stopped: Callable[[], bool]) -> Result:
                return work(scoring, workspace, lambda: stopped() or cancelled())

            with WorkerPool(size, one, settings, scoring) as pool:
                if run_all(pool, journal.left(), cancelled=cancelled, done=done):
                    return AutoScorerError(ErrorCode.CANCELLED, "The batch was cancelled.")
    except AutoScorerError as error:  # a signal, or processes that can't be started
        return error
    return None


def _wait_for_room(journal: BatchJournal) -> None:
    """Where a disk was full for some of its workspaces, have the batch put back: another attempt does those alone."""
    put_back = current().put_back
    if put_back is None:
        return
    for outcome in journal.outcomes.values():
        error = outcome["error"]
        if error is not None and error["code"] == ErrorCode.STORAGE_FULL:
            put_back(AutoScorerError.from_dict(error))


def _final(summary: dict[str, Any], error: AutoScorerError | None) -> State[Any]:
    if error is None:
        return Completed(message=batch_headline(summary), data=summary)
    failure = ScoringFailed(
        error.code, f"{error.message} {batch_headline(summary)}.", stage=error.stage, details=error.details
    )
    failure.result = summary
    return failed_state(failure)
