"""How a task ended and what it left: from the outcome that was saved, else the workspace, else what Prefect says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from ...core.errors import CATALOGUE, AutoScorerError, ErrorCode, Stage
from ...core.workspace import open_regular
from ...schemas.task import TaskState
from ..ledger.records import TaskEnd, TaskRow
from ..prefect.model import FlowRun, Json, StateType, seconds_of
from ..workspaces.roots import WorkspaceRoots
from .members import members_of

__all__ = ["task_end_of", "task_end_without_run"]

_TASK_STATES: dict[StateType, TaskState] = {
    "COMPLETED": TaskState.COMPLETED,
    "FAILED": TaskState.FAILED,
    "CANCELLED": TaskState.CANCELLED,
}
# Bytes of a file that is taken into the ledger.
_LARGEST = 16 * 1024 * 1024
_CODE = re.compile(r"^([A-Z_]+): (.+)$", re.DOTALL)


def task_end_of(saved: Json | None, roots: WorkspaceRoots, row: TaskRow, run: FlowRun) -> TaskEnd:
    """How a task ended whose flow run is final. Reads files of the workspace.

    Args:
        saved: The outcome that its worker saved.
        roots: Take the host's paths from what is kept.
    """
    state = _TASK_STATES[run["state"]["type"]]
    message = run["state"].get("message") or ""
    # One of an earlier attempt says nothing about what was decided since.
    if saved is not None and saved.get("state") == run["state"]["type"]:
        result, error = saved.get("data"), saved.get("error")
        message = saved.get("message") or message
    else:
        result = _left_behind(row, run["id"], state)
        error = None
    return _task_end(roots, row, state, result, error, message, run)


def task_end_without_run(saved: Json | None, roots: WorkspaceRoots, row: TaskRow) -> TaskEnd | None:
    """How a task ended by what its worker saved, if it did; Prefect knows its flow run no more, or is away."""
    state = _TASK_STATES.get(cast(StateType, saved.get("state"))) if saved else None
    if saved is None or state is None:
        return None
    return _task_end(roots, row, state, saved.get("data"), saved.get("error"), saved.get("message") or "", None)


def _task_end(
    roots: WorkspaceRoots, row: TaskRow, state: TaskState, result: Any, error: Any, message: str, run: FlowRun | None
) -> TaskEnd:
    result = result if isinstance(result, dict) and _is_json(result) else None
    failed = state is not TaskState.COMPLETED
    error = error or (result or {}).get("error") or _error(state, message) if failed else None
    members = None
    if result is not None:
        if row.action == "batch" and isinstance(result.get("outcomes"), list):
            members = members_of(row, result["outcomes"], roots)
        result = _located(roots, row.workspace, result)
    error = _whole(error, state) if error else None
    if error is not None and row.workspace is not None:
        error = roots.located(error, row.workspace)
    return TaskEnd(
        row.id,
        state,
        result=roots.redact(result),
        error=error,
        attempts=run["run_count"] if run else None,
        started_at=seconds_of(run["start_time"]) if run else None,
        ended_at=seconds_of(run["end_time"]) if run else None,
        scorer=((result or {}).get("versioning") or {}).get("scorer"),
        members=members,
    )


def _located(roots: WorkspaceRoots, workspace: str | None, result: Json) -> Json:
    """A result whose error, or those of a batch's outcomes, say of which workspace they are."""
    error, outcomes = result.get("error"), result.get("outcomes")
    if workspace is not None and isinstance(error, dict):
        return {**result, "error": roots.located(error, workspace)}
    if workspace is None and isinstance(outcomes, list):
        named = [
            _located(roots, str(each.get("workspace")), each) if isinstance(each, dict) else each for each in outcomes
        ]
        return {**result, "outcomes": named}
    return result


def _left_behind(row: TaskRow, flow_run_id: str, state: TaskState) -> Json | None:
    """What lies in the workspace, if this very flow run has made it and it says the same."""
    if row.workspace is None:
        return None
    space = Path(row.workspace)
    if row.action == "run" and state is TaskState.COMPLETED:
        info = _read(space / "logs" / "run_info.json")
        return info if info and info.get("flow_run_id") == flow_run_id else None
    result = _read(space / "output" / "result.json")
    if not result or (result.get("versioning") or {}).get("flow_run_id") != flow_run_id:
        return None
    return result if (result.get("error") is None) == (state is TaskState.COMPLETED) else None


def _read(path: Path) -> Json | None:
    try:
        with open_regular(path) as file:
            content = file.read(_LARGEST + 1)
        value = json.loads(content) if len(content) <= _LARGEST else None
    except (AutoScorerError, OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_json(value: Json) -> bool:
    # Python reads NaN where JSON has none, and nobody else would.
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def _error(state: TaskState, message: str) -> Json:
    """The error that a state's message tells: the flows write its code first."""
    found = _CODE.match(message)
    if found and found[1] in ErrorCode.__members__:
        return AutoScorerError(found[1], found[2]).to_dict()
    if state is TaskState.CANCELLED:
        return AutoScorerError(ErrorCode.CANCELLED, message or "The task was cancelled.").to_dict()
    return AutoScorerError(ErrorCode.INTERNAL_ERROR, message or "The flow run failed; its log may say why.").to_dict()


def _whole(error: Any, state: TaskState) -> Json:
    """An error of a file, with everything that an error has."""
    if not isinstance(error, dict) or error.get("code") not in ErrorCode.__members__:
        return _error(state, "")
    details, stage = error.get("details"), error.get("stage")
    return AutoScorerError(
        error["code"],
        str(error.get("message") or CATALOGUE[ErrorCode(error["code"])].meaning),
        stage=stage if stage in set(Stage) else None,
        details=details if isinstance(details, dict) and _is_json(details) else None,
    ).to_dict()
