"""The Prefect tasks around ``validate_workspace``, ``run_workspace``, ``score_workspace`` and ``run_pipeline``.

They live here and not beside the plain functions because importing Prefect takes seconds: ``tasks.score.score_task``
and its like are looked up here on first use, so ``autoscorer score`` never pays for them.

A task returns its final state: ``Completed`` with JSON-able data, or, for a reason of the catalogue, ``Failed``
(``Cancelled`` for ``CANCELLED``). Returned and not raised, because the Prefect UI then shows the code and the message
without a traceback that would mean nothing to the submitter. ``state.result()`` gives the data or raises an
``Unscored``, which also carries the Result.

Nothing is persisted by Prefect: the Result lies in the workspace, and a state's data ends with the process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.tasks import Task

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Fault
from ..core.flowruns import FlowRunFiles
from ..core.meta import load_job
from ..core.provenance import current_flow_run
from ..core.storage import fault_of
from ..core.workspace import Workspace
from ..executors.base import Observer, SilentObserver
from ..schemas.job import Job
from ..schemas.result import Result
from ..schemas.task import Purpose
from ..scorers.report.html import number
from .pipeline import run_pipeline
from .prefect_cancel import CancelWatch
from .prefect_log import RunLog, Tee
from .result_metadata import save_failure
from .run import run_workspace
from .run_context import here, scoring_here
from .score import STEP_TIMEOUT
from .scoring import Scoring

__all__ = [
    "Unscored",
    "ended",
    "failure_of",
    "pipeline_task",
    "result_headline",
    "run_task",
    "score_task",
    "settled",
    "valid",
    "validate_task",
]

R = TypeVar("R")
Data = dict[str, Any]

# What a second attempt may cure. The fault being ours is not enough: a scorer that raised would raise again.
RETRIED = frozenset(
    {ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.STORAGE_FULL, ErrorCode.IMAGE_PULL_FAILED, ErrorCode.JUDGE_ERROR}
)
# Seconds before the second and the third attempt: an engine that restarts is back by then. Pulls retry by themselves.
RETRY_DELAYS = [2.0, 10.0]
# Prefect shows the message in lists, too; the Result has all of it.
_MESSAGE = 2000


class Unscored(AutoScorerError):
    """Why there is no score, with the Result that says so (None where none could be written)."""

    result: Data | None = None

    @classmethod
    def of(cls, error: AutoScorerError, result: Result | None = None) -> Unscored:
        made = cls.from_dict(error.to_dict())
        made.result = result.to_dict() if result is not None else None
        return made


def settled(error: AutoScorerError, result: Result | None = None) -> State[Any]:
    """The final state of a task or flow run that ended in ``error``."""
    unscored = error if isinstance(error, Unscored) else Unscored.of(error, result)
    message = str(unscored)
    message = message if len(message) <= _MESSAGE else message[: _MESSAGE - 1] + "…"
    make = Cancelled if error.code is ErrorCode.CANCELLED else Failed
    return make(message=message, data=unscored)


def valid(checked: Data, seconds: float) -> State[Any]:
    """The final state of a task or flow run that found a workspace valid."""
    return Completed(
        message=f"Valid for {' and '.join(checked['valid_for'])}, with {checked['scorer']}.",
        data={**checked, "seconds": seconds},
    )


def failure_of(state: State[Any]) -> Unscored:
    """Why a task run did not complete. Prefect's own reasons (a timeout, a crash) become errors of the catalogue."""
    # Asked for its result, a state starts an event loop, even where the data lies there.
    data = state.data if isinstance(state.data, Unscored) else state.result(raise_on_failure=False)
    if isinstance(data, Unscored):
        return data
    code = ErrorCode.SCORER_ERROR if state.name == "TimedOut" else ErrorCode.INTERNAL_ERROR
    return Unscored(code, f"The Prefect task ended in state {state.name}: {state.message or 'no message'}.")


def is_infrastructure(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: for what is ours and may pass, never for what is the submission's."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, AutoScorerError) and error.code is ErrorCode.STORAGE_FULL and here().put_back is not None:
        return False  # the whole run is put back, and takes nobody's place while it waits
    return isinstance(error, AutoScorerError) and error.spec.fault is Fault.SYSTEM and error.code in RETRIED


def _step(name: str, *tags: str, timeout: float | None = None) -> Callable[[Callable[..., R]], Task[..., R]]:
    """The options that all our tasks share."""

    def run_name(parameters: Data) -> str:
        return f"{name} {here().member or Path(parameters['workspace']).name}"

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


@_step("validate", timeout=STEP_TIMEOUT)
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

    def work(settings: Settings, observer: Observer) -> State[Any]:
        started = time.monotonic()
        observer.stage("validate")
        try:
            checked = _scoring().validate(
                workspace, scorer=scorer, params=params, backend=backend, predictions=predictions, purpose=purpose
            )
        except AutoScorerError as error:
            spent = {"validate": time.monotonic() - started}
            return settled(error, _saved(workspace, error, spent, refused=True) if save else None)
        return valid(checked, time.monotonic() - started)

    return _attempt(workspace, work)


# No timeout: the job's own deadline, the pull's and the build's are enforced by the executor, and Prefect's must never
# cut them short.
@_step("run")
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

    def work(settings: Settings, observer: Observer) -> State[Any]:
        with CancelWatch(flow_run.id, here().cancelled, home=settings.home) as cancelled:
            report = run_workspace(
                workspace,
                settings=settings,
                backend=backend,
                observer=observer,
                cancelled=cancelled,
                labels=_labels(),
                timing=timing,
                lock=lock,
            )
        if report.error is not None:
            return settled(report.error, _written(workspace, report.error))
        return Completed(message=f"The model ran for {report.run_seconds:.1f} s.", data=report.to_dict())

    return _attempt(workspace, work, timing)


@_step("score", timeout=STEP_TIMEOUT)
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

    def work(settings: Settings, observer: Observer) -> State[Any]:
        return ended(
            _scoring().score(
                workspace,
                scorer=scorer,
                params=params,
                observer=observer,
                timing=timing,
                lock=lock,
            )
        )

    return _attempt(workspace, work, timing)


# It runs a model, so a limit on the tag ``run`` must hold for it too.
@_step("pipeline", "run")
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

    def work(settings: Settings, observer: Observer) -> State[Any]:
        with CancelWatch(flow_run.id, here().cancelled, home=settings.home) as cancelled:
            return ended(
                run_pipeline(
                    workspace,
                    settings=settings,
                    backend=backend,
                    scorer=scorer,
                    params=params,
                    observer=observer,
                    cancelled=cancelled,
                    labels=_labels(),
                    scoring=_scoring(),
                )
            )

    return _attempt(workspace, work)


def _scoring() -> Scoring:
    found = here().scoring
    assert found is not None
    return found


def _attempt(
    workspace: str,
    work: Callable[[Settings, Observer], State[Any]],
    timing: Mapping[str, float | None] | None = None,
) -> State[Any]:
    """Do a task's work with its settings, its scorers and its log; whatever goes wrong becomes the state to end in."""
    state = _state_of(workspace, work, timing)
    if (states := here().states) is not None:
        states.append(state)
    return state


def _state_of(
    workspace: str,
    work: Callable[[Settings, Observer], State[Any]],
    timing: Mapping[str, float | None] | None,
) -> State[Any]:
    found = here()
    assert found.settings is not None
    token = current_flow_run.set(str(flow_run.id) if flow_run.id else None)
    try:
        file = Path(workspace) / "logs" / "container.log"
        with RunLog(get_run_logger(), file, member=found.member) as log:
            if found.cancelled():
                raise AutoScorerError(ErrorCode.CANCELLED, "Cancelled before it began.")
            with scoring_here():
                return work(found.settings, Tee(log, _stages(found.settings), found.observer or SilentObserver()))
    except AutoScorerError as error:
        return settled(error, _written(workspace, error))
    except Exception as error:
        fault = fault_of(error, home=found.settings.home, workspace=Path(workspace))
        if fault.code is ErrorCode.INTERNAL_ERROR:
            get_run_logger().error("A fault of AutoScorer itself; please report it.", exc_info=True)
        return settled(fault, _saved(workspace, fault, timing or {}))
    finally:
        current_flow_run.reset(token)


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


def result_headline(result: Result) -> str:
    """A Result in one line."""
    if result.error is not None:
        return f"failed with {result.error.code}"
    summary = result.summary
    if summary.score is None:
        return "scored; the main metric is undefined"
    parts = [f"score {number(summary.score)}"]
    if summary.passed is not None:
        parts.append("pass" if summary.passed else "fail")
    if summary.rank:
        parts.append(f"rank {summary.rank}")
    return ", ".join(parts)


def _labels() -> dict[str, str]:
    """Laid on the container, so that it can be found by who knows no more than the flow run."""
    return {"flow_run": str(flow_run.id)} if flow_run.id else {}


def ended(result: Result) -> State[Any]:
    """The final state of a task or flow run that wrote ``result``."""
    if result.error is None:
        return Completed(message=result_headline(result), data=result.to_dict())
    return settled(AutoScorerError.from_dict(result.error.model_dump()), result)


def _written(workspace: str, error: AutoScorerError) -> Result | None:
    """The Result that the plain function wrote for ``error``; where it wrote none, an older one would mislead."""
    with contextlib.suppress(AutoScorerError):
        found = Workspace(workspace).read_result()
        if found is not None and found.error is not None and found.error.message == error.message:
            return found
    return None


def _saved(
    workspace: str, error: AutoScorerError, timing: Mapping[str, float | None], *, refused: bool = False
) -> Result | None:
    """Write the failure down, as far as the workspace allows it; the caller, or nobody, holds the workspace."""
    try:
        space = Workspace(workspace)
        job: Job | None = None
        with contextlib.suppress(AutoScorerError):
            job = load_job(space)
        return save_failure(space, error, job=job, timing=timing, refused=refused, settings=here().settings)
    except (AutoScorerError, OSError):
        return None
