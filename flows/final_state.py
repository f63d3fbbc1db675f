"""How a flow run ended, kept on disk before Prefect is told: Prefect may be away, and the work is done all the same.

What a flow has said of its end stands: see ``flows/engine_patch.py``.
"""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from ..core.errors import ErrorCode
from ..core.flowruns import FlowRunFiles
from ..tasks.prefect.context import current
from ..tasks.prefect.states import failure_of
from .engine_patch import keep_state

__all__ = ["outcome_of_state", "persist_outcome"]


def outcome_of_state(state: State[Any]) -> dict[str, Any]:
    """A final state as ``FlowRunFiles.save_outcome`` takes it.

    Args:
        state: ``Completed`` with a dict as its data, or what ``failed_state`` made of an error.

    Returns:
        ``{state, message, data, error}``: for a failure ``data`` is the Result that says why, where there is one.
    """
    message = state.message or ""
    if state.is_completed():
        # Asked for its result, a state starts an event loop, even where the data lies there.
        data = state.data if isinstance(state.data, dict) else state.result()
        return {"state": "COMPLETED", "message": message, "data": data, "error": None}
    failure = failure_of(state)
    name = "CANCELLED" if failure.code is ErrorCode.CANCELLED else "FAILED"
    return {"state": name, "message": message, "data": failure.result, "error": failure.to_dict()}


def persist_outcome(state: State[Any]) -> State[Any]:
    """Save how this flow run ends.

    Args:
        state: The final state that the flow is about to return.

    Returns:
        The same state. It does not return where the run waits for room on a disk and somebody puts it back.
    """
    if flow_run.id:
        found = current()
        settings = found.settings
        assert settings is not None
        if found.put_back is not None and not state.is_completed():
            failure = failure_of(state)
            if failure.code is ErrorCode.STORAGE_FULL:
                found.put_back(failure)
        try:
            FlowRunFiles(settings.home, str(flow_run.id)).save_outcome(outcome_of_state(state))
        except (OSError, ValueError, TypeError) as error:
            # A full disk, say. The state is still told to Prefect as ever.
            get_run_logger().warning("How this run ended could not be kept on disk: %s", error)
        else:
            if found.publish is not None:
                found.publish()
        keep_state(str(flow_run.id), state)
    return state
