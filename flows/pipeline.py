"""The flows of one workspace: ``pipeline``, ``score_only``, ``run_only``, ``validate_only``. Tasks composed, no more.

How a flow reports: a scored workspace is ``Completed``, its data the Result as a dict, so ``pipeline(workspace)``
returns it. A submission that failed is ``Failed`` (``Cancelled`` when it was cancelled); the state's message is the
error's code and message, its data a ``ScoringFailed``. So ``pipeline(workspace)`` raises that, ``pipeline(workspace,
return_state=True)`` does not, and either way result.json holds the Result with its ``error``. A flow is never retried
as a whole: its tasks retry what is ours.
"""

# No ``from __future__ import annotations`` here: Prefect reads the annotations of a flow also where it has the
# function without its module (``flow.serve()`` sends it to another process), and text could not be resolved there.
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.meta import read_meta
from ..core.provenance import current_flow_run
from ..core.storage import naming_full_disks
from ..core.workspace import Workspace
from ..schemas.result import Result
from ..tasks.pipeline import in_order
from ..tasks.prefect.context import call_tracked, current, use, use_scoring
from ..tasks.prefect.states import failed_state, failure_of, result_headline
from ..tasks.prefect.tasks import run_task, score_task, validate_task
from ..tasks.results.failures import ScoringFailed, save_failure
from .artifacts import publish_result
from .final_state import persist_outcome
from .hooks import clear_earlier_attempt, clear_up

__all__ = [
    "BackendName",
    "ParamsField",
    "ScorerField",
    "pipeline",
    "run_and_score",
    "run_only",
    "score_alone",
    "score_only",
    "validate_only",
]

WorkspacePath = Annotated[
    str,
    Field(
        title="Workspace",
        description="Folder with meta.json and input/, as the worker sees it.",
        min_length=1,
        examples=["/data/workspaces/team-a"],
    ),
]
ScorerField = Annotated[
    str | None, Field(title="Scorer", description="Scorer id instead of the one that meta.json names.")
]
ParamsField = Annotated[
    dict[str, Any] | None,
    Field(title="Scorer params", description="Added to meta.json's params, and stronger than they are."),
]
BackendName = Annotated[
    Literal["auto", "bubblewrap", "docker", "kubernetes", "process"] | None,
    Field(
        title="Backend",
        description="docker, kubernetes, bubblewrap: sealed. process: unsealed, for code you trust. auto: docker, or "
        "bubblewrap where there is none. Empty: as the "
        "worker is configured.",
    ),
]

PurposeField = Annotated[
    Literal["score", "pipeline"] | None,
    Field(
        title="For",
        description="What it is to be valid for. score: predictions, and nothing to run. pipeline: what is run. Empty: "
        "scoring where there are predictions and nothing to run, else a pipeline.",
    ),
]


def _run_name() -> str:
    workspace = flow_run.parameters.get("workspace")
    return os.path.basename(os.path.abspath(str(workspace)))


@flow(
    name="pipeline",
    description="Validate a workspace, run its model in a sealed container, score what it wrote.",
    flow_run_name=_run_name,
    persist_result=False,
    on_cancellation=[clear_up],
    on_crashed=[clear_up],
)
def pipeline(
    workspace: WorkspacePath, scorer: ScorerField = None, params: ParamsField = None, backend: BackendName = None
) -> Any:
    """Validate, run and score one workspace.

    Args:
        workspace: Folder with meta.json and input/, as the worker sees it.
        scorer: Scorer id instead of the one that meta.json names.
        params: Added to meta.json's params, and stronger than they are.
        backend: auto, docker, kubernetes or process; empty as the worker is configured.

    Returns:
        The Result; see the module for what a failed submission answers.
    """
    return run_and_score(workspace, scorer=scorer, params=params, backend=backend)


@flow(
    name="score-only",
    description="Score the predictions that lie in a workspace.",
    flow_run_name=_run_name,
    persist_result=False,
    on_cancellation=[clear_up],
    on_crashed=[clear_up],
)
def score_only(workspace: WorkspacePath, scorer: ScorerField = None, params: ParamsField = None) -> Any:
    """Score one workspace's predictions.

    Args:
        workspace: Folder with meta.json, input/ and output/, as the worker sees it.
        scorer: Scorer id instead of the one that meta.json names.
        params: Added to meta.json's params, and stronger than they are.

    Returns:
        The Result; see the module for what a failed submission answers.
    """
    return score_alone(workspace, scorer=scorer, params=params)


@flow(
    name="run-only",
    description="Run a workspace's model in its sealed container; nothing is scored.",
    flow_run_name=_run_name,
    persist_result=False,
    on_cancellation=[clear_up],
    on_crashed=[clear_up],
)
def run_only(workspace: WorkspacePath, backend: BackendName = None) -> Any:
    """Run one workspace's model.

    Args:
        workspace: Folder with meta.json and input/, as the worker sees it.
        backend: auto, docker, kubernetes or process; empty as the worker is configured.

    Returns:
        The run's report, as logs/run_info.json has it; see the module for what a failed submission answers.
    """
    return _holding(workspace, lambda held: _data(call_tracked(run_task, held, backend=backend, lock=False)))


@flow(
    name="validate-only",
    description="Check a workspace: every problem at once. Nothing is run, scored or written.",
    flow_run_name=_run_name,
    persist_result=False,
)
def validate_only(
    workspace: WorkspacePath,
    scorer: ScorerField = None,
    params: ParamsField = None,
    backend: BackendName = None,
    purpose: PurposeField = None,
) -> Any:
    """Check one workspace.

    Args:
        workspace: Folder with meta.json and input/, as the worker sees it.
        scorer: Scorer id instead of the one that meta.json names.
        params: Added to meta.json's params, and stronger than they are.
        backend: auto, docker, kubernetes or process; empty as the worker is configured.
        purpose: score or pipeline: what it is to be valid for; empty for what it has.

    Returns:
        What was checked; every problem is in the error's details.
    """
    try:
        state = call_tracked(
            validate_task,
            workspace,
            scorer=scorer,
            params=params,
            backend=backend,
            predictions=True,
            purpose=purpose,
            save=False,
        )
        return persist_outcome(state if state.is_completed() else failed_state(failure_of(state)))
    except AutoScorerError as error:  # a signal
        return persist_outcome(failed_state(error))


def run_and_score(
    workspace: str, *, scorer: str | None = None, params: dict[str, Any] | None = None, backend: str | None = None
) -> State[Any]:
    """The steps of a pipeline, in the flow run that calls it; the flow's own final state."""
    choice = {"scorer": scorer, "params": params}
    return _holding(
        workspace,
        lambda held: in_order(
            lambda: _data(call_tracked(validate_task, held, backend=backend, **choice)),
            lambda timing: _data(call_tracked(run_task, held, backend=backend, timing=timing, lock=False)),
            lambda timing: _data(call_tracked(score_task, held, timing=timing, lock=False, **choice)),
        ),
    )


def score_alone(workspace: str, *, scorer: str | None = None, params: dict[str, Any] | None = None) -> State[Any]:
    """Scoring alone, in the flow run that calls it; the flow's own final state."""
    return _holding(
        workspace,
        lambda held: _data(call_tracked(score_task, held, scorer=scorer, params=params, lock=False)),
    )


def _holding(workspace: str, steps: Callable[[str], dict[str, Any]]) -> State[Any]:
    """Do the steps while holding the workspace, publish the Result, and give the flow's own final state.

    How it ended is on disk before anything is published or told: Prefect may be away.

    Args:
        workspace: The folder.
        steps: Given its path, as the tasks take it; what they give is what the flow gives.
    """
    token = current_flow_run.set(str(flow_run.id) if flow_run.id else None)
    settings = current().settings
    assert settings is not None
    try:
        space = Workspace(workspace)
        with naming_full_disks(home=settings.home, workspace=space.root), space.lock(), use_scoring():
            clear_earlier_attempt(settings, str(flow_run.id))
            meta = read_meta(space)
            try:
                with use(replace(current(), held=(space, meta))):
                    data = steps(str(space.root))
            except AutoScorerError as error:
                failure = error if isinstance(error, ScoringFailed) else ScoringFailed.of(error)  # a signal
                if failure.result is None:
                    saved = save_failure(space, failure, settings=settings, job=meta.known)
                    failure = ScoringFailed.of(failure, saved)
                ended = persist_outcome(failed_state(failure))
                if failure.code is not ErrorCode.CANCELLED:
                    publish_result(space, Result.model_validate(failure.result), settings)
                return ended
            return _completed(space, data, settings)
    except AutoScorerError as error:  # not there, or another run holds it: nothing was written
        return persist_outcome(failed_state(error))
    finally:
        current_flow_run.reset(token)


def _completed(space: Workspace, data: dict[str, Any], settings: Settings) -> State[Any]:
    if "summary" not in data:  # a run's report: there is no score to show
        return persist_outcome(Completed(message=f"The model ran for {data['run_seconds']:.1f} s.", data=data))
    result = Result.model_validate(data)
    ended = persist_outcome(Completed(message=result_headline(result), data=data))
    publish_result(space, result, settings)
    return ended


def _data(state: State[Any]) -> dict[str, Any]:
    if not state.is_completed():
        raise failure_of(state)
    data: dict[str, Any] = state.result()
    return data
