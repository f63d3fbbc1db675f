"""The Prefect tasks around ``validate_workspace``, ``run_workspace``, ``score_workspace`` and ``run_pipeline``.

They live here and not beside the plain functions because importing Prefect takes seconds: ``tasks.score.score_task``
and its like are looked up here on first use, so ``autoscorer score`` never pays for them.

A task returns its final state: ``Completed`` with JSON-able data, or, for a reason of the catalogue, ``Failed``
(``Cancelled`` for ``CANCELLED``). Returned and not raised, because the Prefect UI then shows the code and the message
without a traceback that would mean nothing to the submitter. ``state.result()`` gives the data or raises an
``ScoringFailed``, which also carries the Result.

Nothing is persisted by Prefect: the Result lies in the workspace, and a state's data ends with the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.tasks import Task

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Fault
from ...core.flowruns import FlowRunFiles
from ...core.meta import Meta, read_meta
from ...core.provenance import current_flow_run
from ...core.storage import fault_of, naming_full_disks
from ...core.workspace import Workspace
from ...executors.base import Observer, SilentObserver
from ...schemas.result import Result
from ...schemas.task import Purpose
from ..pipeline import check
from ..pipeline import pipeline as run_pipeline
from ..results.failures import save_failure
from ..run import run
from ..score import STEP_TIMEOUT
from ..scoring.guarded import Scoring
from .cancel import CancelWatch
from .context import current, use_scoring
from .log import RunLog, Tee
from .states import failed_state, state_of_result, valid_state

__all__ = ["pipeline_task", "run_task", "score_task", "validate_task"]

R = TypeVar("R")
Data = dict[str, Any]

# What a second attempt may cure. The fault being ours is not enough: a scorer that raised would raise again.
RETRIED = frozenset(
    {ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.STORAGE_FULL, ErrorCode.IMAGE_PULL_FAILED, ErrorCode.JUDGE_ERROR}
)
# Seconds before the second and the third attempt: an engine that restarts is back by then. Pulls retry by themselves.
RETRY_DELAYS = [2.0, 10.0]


def is_infrastructure(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: for what is ours and may pass, never for what is the submission's."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, AutoScorerError) and error.code is ErrorCode.STORAGE_FULL and current().put_back is not None:
        return False  # the whole run is put back, and takes nobody's place while it waits
    return isinstance(error, AutoScorerError) and error.spec.fault is Fault.SYSTEM and error.code in RETRIED


def _prefect_task(name: str, *tags: str, timeout: float | None = None) -> Callable[[Callable[..., R]], Task[..., R]]:
    """The options that all our tasks share."""

    def run_name(parameters: Data) -> str:
        return f"{name} {current().member or Path(parameters['workspace']).name}"

    return task(
        name=name,
        tags=["autoscorer", name, *tags],
        # Prefect's own protocol for such a function asks for a class method that no function has.
        task_run_name=cast(Any, run_name),
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=is_infrastructure,
        timeout_seconds=timeout,
        persist_result=False,
        cache_policy=NO_CACHE,
        log_prints=False,
    )


@_prefect_task("validate", timeout=STEP_TIMEOUT)
def validate_task(
    workspace: str,
    *,
    scorer: str | None = None,
    params: Data | None = None,
    backend: str | None = None,
    predictions: bool = False,
    purpose: Purpose | None = "pipeline",
    save: bool = True,
) -> State[Any]:
    """Check a workspace.

    Args:
        workspace: The folder.
        scorer: Scorer id instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        backend: ``auto``, ``docker`` or ``process``; the configuration's default when None.
        predictions: Whether to check predictions that are already there.
        purpose: ``score`` or ``pipeline``: what it is to be valid for; None for what it has.
        save: Write a failure to result.json; the caller holds the workspace.

    Returns:
        A state whose data is what ``validate_workspace`` says, and ``seconds``.
    """

    def work(step: _Step) -> State[Any]:
        checked = check(
            *step,
            save=save,
            scorer=scorer,
            params=params,
            backend=backend,
            predictions=predictions,
            purpose=purpose,
        )
        return valid_state(checked, checked.pop("seconds"))

    return _attempt(workspace, work)


# No timeout: the job's own deadline, the pull's and the build's are enforced by the executor, and Prefect's must never
# cut them short.
@_prefect_task("run")
def run_task(
    workspace: str, *, backend: str | None = None, timing: dict[str, float | None] | None = None, lock: bool = True
) -> State[Any]:
    """Run the model in its sealed container; its log goes to the Prefect run as it comes.

    Args:
        workspace: The folder.
        backend: ``auto``, ``docker`` or ``process``; the configuration's default when None.
        timing: Seconds of stages that ran before, for the Result of a failure.
        lock: Hold the workspace; False when the caller holds it already.

    Returns:
        A state whose data is the run's report, as ``logs/run_info.json`` has it.
    """

    def work(step: _Step) -> State[Any]:
        with CancelWatch(flow_run.id, current().cancelled, home=step.settings.home) as cancelled:
            report = run(
                step.space,
                step.meta,
                step.settings,
                backend=backend,
                observer=step.observer,
                cancelled=cancelled,
                labels=_labels(),
                timing=timing,
            )
        return Completed(message=f"The model ran for {report.run_seconds:.1f} s.", data=report.to_dict())

    return _attempt(workspace, work, timing, lock=lock)


@_prefect_task("score", timeout=STEP_TIMEOUT)
def score_task(
    workspace: str,
    *,
    scorer: str | None = None,
    params: Data | None = None,
    timing: dict[str, float | None] | None = None,
    lock: bool = True,
) -> State[Any]:
    """Score the predictions and write result.json.

    Args:
        workspace: The folder.
        scorer: Scorer id instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        timing: Seconds of stages that ran before, for ``Result.timing``.
        lock: Hold the workspace; False when the caller holds it already.

    Returns:
        A state whose data is the Result.
    """

    def work(step: _Step) -> State[Any]:
        return state_of_result(
            step.scoring.score_held(
                step.space, step.meta, observer=step.observer, scorer=scorer, params=params, timing=timing
            )
        )

    return _attempt(workspace, work, timing, lock=lock)


# It runs a model, so a limit on the tag ``run`` must hold for it too.
@_prefect_task("pipeline", "run")
def pipeline_task(
    workspace: str, *, scorer: str | None = None, params: Data | None = None, backend: str | None = None
) -> State[Any]:
    """Validate, run and score as one task: what a batch runs for each of its workspaces.

    Args:
        workspace: The folder.
        scorer: Scorer id instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        backend: ``auto``, ``docker`` or ``process``; the configuration's default when None.

    Returns:
        A state whose data is the Result.
    """

    def work(step: _Step) -> State[Any]:
        with CancelWatch(flow_run.id, current().cancelled, home=step.settings.home) as cancelled:
            result = run_pipeline(
                *step, backend=backend, scorer=scorer, params=params, cancelled=cancelled, labels=_labels()
            )
        return state_of_result(result)

    return _attempt(workspace, work, lock=True)


class _Step(NamedTuple):
    """What a task works with."""

    space: Workspace
    meta: Meta
    settings: Settings
    scoring: Scoring
    observer: Observer


def _attempt(
    workspace: str,
    work: Callable[[_Step], State[Any]],
    timing: Mapping[str, float | None] | None = None,
    *,
    lock: bool = False,
) -> State[Any]:
    """Do a task's work with its settings, its scorers and its log; whatever goes wrong becomes the state to end in."""
    state = _state_of(workspace, work, timing, lock)
    if (states := current().states) is not None:
        states.append(state)
    return state


def _state_of(
    workspace: str,
    work: Callable[[_Step], State[Any]],
    timing: Mapping[str, float | None] | None,
    lock: bool,
) -> State[Any]:
    found = current()
    settings = found.settings
    assert settings is not None
    token = current_flow_run.set(str(flow_run.id) if flow_run.id else None)
    try:
        file = Path(workspace) / "logs" / "container.log"
        with RunLog(get_run_logger(), file, member=found.member) as log:
            if found.cancelled():
                raise AutoScorerError(ErrorCode.CANCELLED, "Cancelled before it began.")
            observer = Tee(log, _stages(settings), found.observer or SilentObserver())
            with use_scoring() as scoring, _held(workspace, settings, lock) as (space, meta):
                return work(_Step(space, meta, settings, scoring, observer))
    except AutoScorerError as error:
        _log_fault(error)
        return failed_state(error)
    except Exception as error:
        fault = fault_of(error, home=settings.home, workspace=Path(workspace))
        _log_fault(fault)
        return failed_state(fault, _saved(workspace, fault, timing or {}, settings))
    finally:
        current_flow_run.reset(token)


@contextlib.contextmanager
def _held(workspace: str, settings: Settings, lock: bool) -> Iterator[tuple[Workspace, Meta]]:
    """The workspace and its meta.json: as the flow holds them, else opened now."""
    held = current().held
    if held is not None and str(held[0].root) == workspace:
        yield held
        return
    space = Workspace(workspace)
    with (
        naming_full_disks(home=settings.home, workspace=space.root),
        space.lock() if lock else contextlib.nullcontext(),
    ):
        yield space, read_meta(space)


def _log_fault(error: AutoScorerError) -> None:
    if error.code is ErrorCode.INTERNAL_ERROR:
        get_run_logger().error("A fault of AutoScorer itself; please report it.", exc_info=True)


class _Stages(SilentObserver):
    """Notes each stage among the flow run's files, for whoever asks how far it is."""

    def __init__(self, files: FlowRunFiles) -> None:
        self._files = files

    def stage(self, name: str, detail: str = "") -> None:
        self._files.set_stage(name, detail)


def _stages(settings: Settings) -> Observer:
    # A batch is at many stages at once; how far it is, its outcomes say.
    if not flow_run.id or flow_run.flow_name == "batch":
        return SilentObserver()
    return _Stages(FlowRunFiles(settings.home, str(flow_run.id)))


def _labels() -> dict[str, str]:
    """Laid on the container, so that it can be found by who knows no more than the flow run."""
    return {"flow_run": str(flow_run.id)} if flow_run.id else {}


def _saved(
    workspace: str, error: AutoScorerError, timing: Mapping[str, float | None], settings: Settings
) -> Result | None:
    """Write the failure down, as far as the workspace allows it; the caller, or nobody, holds the workspace."""
    try:
        space = Workspace(workspace)
        return save_failure(space, error, settings=settings, job=read_meta(space).known, timing=timing)
    except (AutoScorerError, OSError):
        return None
