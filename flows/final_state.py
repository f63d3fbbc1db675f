"""How a flow run ended, kept on disk before Prefect is told: Prefect may be away, and the work is done all the same.

What a flow has said of its end stands. Prefect's engine takes its own failure to tell the server for a failure of the
flow: when the server comes back just then, a run that was scored would be Failed with "Connection refused". So from
there on the engine proposes what was kept, whatever it has come to believe.
"""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.flow_engine import FlowRunEngine
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from ..core.errors import ErrorCode
from ..core.flowruns import FlowRunFiles
from ..tasks.prefect.context import current
from ..tasks.prefect.states import failure_of

__all__ = ["ending_of", "keep_ending"]

# By flow run id: those that have said how they end and that this process has not seen the end of.
_kept: dict[str, State[Any]] = {}


def ending_of(state: State[Any]) -> dict[str, Any]:
    """A final state as ``FlowRunFiles.save_ending`` takes it.

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


def keep_ending(state: State[Any]) -> State[Any]:
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
            FlowRunFiles(settings.home, str(flow_run.id)).save_ending(ending_of(state))
        except (OSError, ValueError, TypeError) as error:
            # A full disk, say. The state is still told to Prefect as ever.
            get_run_logger().warning("How this run ended could not be kept on disk: %s", error)
        _kept[str(flow_run.id)] = state
    return state


_set_state = FlowRunEngine.set_state


def _set_kept_state(engine: FlowRunEngine[Any, Any], state: State[Any], force: bool = False) -> State[Any]:
    kept = _kept.get(str(engine.flow_run.id)) if engine.flow_run else None
    if kept is not None and state.is_final():
        # Not by force, which would go past somebody's cancelling.
        state, force = kept, force and state is kept
    answer = _set_state(engine, state, force)
    if answer.is_final() and engine.flow_run:
        _kept.pop(str(engine.flow_run.id), None)
    return answer


FlowRunEngine.set_state = _set_kept_state  # type: ignore[method-assign, assignment]
