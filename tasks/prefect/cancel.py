"""Noticing that a flow run was cancelled, without anyone's help.

A cancelled run is normally ended by the worker that started it. A run in the caller's own process has no worker, and a
worker that was cut off from the server for a minute forgets to act. So a run that has a container asks for itself, and
looks into the home, where the API leaves word also while the server is away.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from ...core.flowruns import FlowRunFiles

__all__ = ["CancelWatch"]

# Seconds between two questions.
_PAUSE = 5.0
_CANCELLED = (StateType.CANCELLING, StateType.CANCELLED)


class CancelWatch:
    """Gives (``with``) a function that says whether the flow run, or the caller, wants the run to end.

    Args:
        flow_run_id: The flow run; None outside of any, and then nobody is asked.
        also: Asked too.
        home: The installation's folder, where word may be left; None for nowhere.
        pause: Seconds between two questions to the server.
    """

    def __init__(
        self, flow_run_id: str | None, also: Callable[[], bool], *, home: Path | None = None, pause: float = _PAUSE
    ) -> None:
        self._flow_run_id = flow_run_id
        self._also = also
        self._home = home
        self._pause = pause
        self._cancelled = threading.Event()
        self._done = threading.Event()

    def __enter__(self) -> Callable[[], bool]:
        if self._flow_run_id:
            ask_on = contextvars.copy_context().run
            # A daemon that nobody waits for: a server that stands still must hold up neither the run nor the exit.
            threading.Thread(target=ask_on, args=(self._ask_on,), name="autoscorer-cancel", daemon=True).start()
        if not self._flow_run_id or self._home is None:
            return lambda: self._cancelled.is_set() or self._also()
        is_requested = FlowRunFiles(self._home, self._flow_run_id).is_cancel_requested
        return lambda: self._cancelled.is_set() or self._also() or is_requested()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()

    def _ask_on(self) -> None:
        while not self._done.wait(self._pause):
            # Whatever goes wrong (the server is away, the run was deleted): ask again later.
            with contextlib.suppress(Exception), get_client(sync_client=True) as client:
                state = client.read_flow_run(UUID(str(self._flow_run_id))).state
                if state is not None and state.type in _CANCELLED:
                    self._cancelled.set()
                    return
