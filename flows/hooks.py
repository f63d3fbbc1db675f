"""What is done for a flow run that was cancelled or crashed, by whoever is still alive to do it.

The hook runs in the worker when the flow's process was killed, and in the flow's own process otherwise. It finds the
containers by their label, because nothing that the flow's process knew is left.
"""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.flowruns import FlowRunFiles, was_cancelling
from ..executors.reaper import clear_flow_run, reap_if_needed, remove_by_label
from ..executors.records import RunRecords
from ..tasks.prefect.context import current
from ..tasks.results.ensure import ensure_result

__all__ = ["clear_earlier_attempt", "clear_up"]


def clear_up(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove the run's containers and staged folders, and see that its workspace says how it ended."""
    log = flow_run_logger(flow_run, flow)
    settings = current().settings
    assert settings is not None
    try:
        removed = remove_by_label(settings, "flow_run", str(flow_run.id))
        if removed:
            log.info("Removed %s.", ", ".join(removed))
    except AutoScorerError as error:
        if settings.executors.default != "process":
            log.warning("Containers of this run could not be looked for: %s", error.message)
    done = reap_if_needed(settings)
    for problem in done.problems if done else ():
        log.warning("Not cleared up: %s", problem)
    workspace = (flow_run.parameters or {}).get("workspace")
    if isinstance(workspace, str):
        _ensure_stated(workspace, flow_run, state, settings, log)


def clear_earlier_attempt(settings: Settings, flow_run_id: str) -> None:
    """Remove what an earlier attempt of this flow run left, before anything of this one exists.

    Whoever puts a run back does it; but the API of compose.yaml, for one, has no engine to ask.

    Args:
        settings: The configuration.
        flow_run_id: This flow run.
    """
    if RunRecords(settings.home).of_flow_run(flow_run_id):
        with contextlib.suppress(AutoScorerError):  # whoever needs the engine says that it does not answer
            clear_flow_run(settings, flow_run_id)


def _ensure_stated(workspace: str, flow_run: FlowRun, state: State[Any], settings: Settings, log: Any) -> None:
    """Write result.json where the killed process could not: an accepted job ends in a stated outcome."""
    if flow_run.start_time is None:
        # The worker knows the run from before it began.
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(flow_run.id)
    if flow_run.start_time is None:
        return  # it never touched the workspace
    if state.is_crashed() and not _was_cancelling(flow_run, settings, log):
        error = AutoScorerError(
            ErrorCode.INTERNAL_ERROR,
            f"The flow run {flow_run.name} crashed: {state.message or 'no reason known'}",
            stage=Stage.EXECUTION,
        )
    else:
        error = AutoScorerError(ErrorCode.CANCELLED, f"The flow run {flow_run.name} was cancelled.")
    try:
        written = ensure_result(workspace, str(flow_run.id), error, settings=settings)
    except AutoScorerError as reason:
        log.warning("result.json was left as it is: %s", reason.message)
    else:
        if written.error is not None and written.error.message == error.message:
            log.info("Wrote %s to result.json.", error.code)


def _was_cancelling(flow_run: FlowRun, settings: Settings, log: Any) -> bool:
    """Whether somebody was cancelling a run when it crashed: recovery ends it as cancelled, maybe before this hook."""
    if FlowRunFiles(settings.home, str(flow_run.id)).is_cancel_requested():
        return True
    try:
        with get_client(sync_client=True) as client:
            states = sorted(client.read_flow_run_states(flow_run.id), key=lambda one: one.timestamp)
    except (httpx.HTTPError, OSError) as error:
        log.warning("Whether this run was being cancelled could not be asked: %s", error)
        return False
    return was_cancelling(one.type.value for one in states)
