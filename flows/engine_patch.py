"""What a flow has said of its end stands, also for Prefect's engine. A patch of Prefect's inside, and made as one.

Prefect's engine takes its own failure to tell the server for a failure of the flow: when the server comes back just
then, a run that was scored would be Failed with "Connection refused". Inside ``kept_states_stand`` the engine proposes
what the flow has kept, whatever it has come to believe.

Only processes of AutoScorer's own enter it: those that the worker forks, and ``autoscorer pipeline --track``. Importing
the flows changes nothing, and a plain Prefect worker runs them in an engine that is as Prefect made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..tasks.prefect_version import require_patched_version

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State
    from prefect.flow_engine import FlowRunEngine

__all__ = ["keep_state", "kept_states_stand"]

# By flow run id: final states that were kept, and of which the engine has not told yet; None outside of the patch.
_kept: dict[str, State[Any]] | None = None


def keep_state(flow_run_id: str, state: State[Any]) -> None:
    """Have the engine of this process end the flow run in ``state``, if the patch is in force here."""
    if _kept is not None:
        _kept[flow_run_id] = state


@contextlib.contextmanager
def kept_states_stand() -> Iterator[None]:
    """Patch Prefect's flow engine in this process, inside.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the installed Prefect is not the one that this was made for.
    """
    global _kept

    require_patched_version()
    from prefect.flow_engine import FlowRunEngine

    set_state = FlowRunEngine.set_state
    kept: dict[str, State[Any]] = {}

    def set_kept_state(engine: FlowRunEngine[Any, Any], state: State[Any], force: bool = False) -> State[Any]:
        own = kept.get(str(engine.flow_run.id)) if engine.flow_run else None
        if own is not None and state.is_final():
            # Not by force, which would go past somebody's cancelling.
            state, force = own, force and state is own
        answer = set_state(engine, state, force)
        if answer.is_final() and engine.flow_run:
            kept.pop(str(engine.flow_run.id), None)
        return answer

    _kept = kept
    FlowRunEngine.set_state = set_kept_state  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        FlowRunEngine.set_state = set_state  # type: ignore[method-assign]
        _kept = None
