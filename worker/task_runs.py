"""Task runs for flow runs that no engine of Prefect's works on: events, of which the server makes what its page shows.

Prefect's own engine does the same: a task run is never created by a request, but by the events of its states
(``prefect.utilities.engine`` and ``prefect.server.services.task_run_recorder``).
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from ..service.prefect.model import FlowRun

__all__ = ["TaskRun"]

Json = dict[str, Any]


class TaskRun:
    """One step of a flow run, as Prefect shows it. Made when the step begins.

    Every attempt at a flow run has the same one, as its tasks have in Prefect's engine.

    Args:
        run: The flow run, as Prefect gave it.
        task: The step's name, and its task's: ``score`` or ``validate``.
    """

    def __init__(self, run: FlowRun, task: str) -> None:
        self.flow_run_id: str = run["id"]
        self._id = uuid.uuid5(uuid.UUID(self.flow_run_id), task)
        self._task = task
        workspace = (run.get("parameters") or {}).get("workspace")
        self._name = f"{task} {run['name'] if workspace is None else PurePath(str(workspace)).name}"
        self._attempt: int = run["run_count"] + 1
        self._began = datetime.now(UTC)

    def event(self, state: str, message: str | None = None) -> Json:
        """What tells Prefect that the task run is in a state now.

        Args:
            state: The state's type, such as ``RUNNING``.

        Returns:
            An item of the list that ``POST /events`` takes.
        """
        now, tags = datetime.now(UTC), ["autoscorer", self._task]
        has_ended = state != "RUNNING"
        return {
            "id": str(uuid.uuid4()),
            "occurred": now.isoformat(),
            "event": f"prefect.task-run.{state.capitalize()}",
            "resource": {
                "prefect.resource.id": f"prefect.task-run.{self._id}",
                "prefect.resource.name": self._name,
                "prefect.state-name": state.capitalize(),
                "prefect.state-type": state,
                # The server records the task runs of clients alone.
                "prefect.orchestration": "client",
            },
            "related": [
                {"prefect.resource.id": f"prefect.flow-run.{self.flow_run_id}", "prefect.resource.role": "flow-run"}
            ],
            "payload": {
                "validated_state": {"type": state, "name": state.capitalize(), "message": message},
                "task_run": {
                    "name": self._name,
                    "task_key": f"autoscorer.{self._task}",
                    "dynamic_key": "0",
                    "tags": tags,
                    "run_count": self._attempt,
                    "flow_run_run_count": self._attempt,
                    "expected_start_time": self._began.isoformat(),
                    "start_time": self._began.isoformat(),
                    "end_time": now.isoformat() if has_ended else None,
                    "total_run_time": (now - self._began).total_seconds() if has_ended else 0,
                },
            },
        }
