"""Finding out what ``decide`` must know of a flow run, from the files on this host and from what Prefect says."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.flowruns import Claim, FlowRunFiles
from ..core.workspace import Workspace
from .decide import Claimed, Patience, Situation, WorkerState

__all__ = ["claimed", "look_at", "patience", "settling"]

Json = dict[str, Any]


@contextlib.contextmanager
def settling(settings: Settings) -> Iterator[bool]:
    """Be the one process of this installation that settles lost runs; gives False when another one is."""
    settings.home.mkdir(parents=True, exist_ok=True)
    fd = os.open(settings.home / "recover.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def patience(settings: Settings) -> Patience:
    """How long what is waited for, as configured."""
    return Patience(stuck=settings.service.stuck_after, longest=settings.security.limits.timeout)


def look_at(
    files: FlowRunFiles,
    run: Json | None,
    *,
    worker: WorkerState = WorkerState.UNKNOWN,
    process_pool: bool = True,
) -> Situation:
    """What is known of a flow run at this moment.

    Args:
        files: Its files.
        run: The flow run as Prefect gave it just now; None when Prefect does not know it.
        worker: The plain Prefect worker that took it.
        process_pool: Whether its pool runs processes.
    """
    claim = files.read_claim()
    if run is None:
        return Situation(state=None, claim=claimed(claim))
    state = run["state"]
    now, since = datetime.now(UTC).timestamp(), datetime.fromisoformat(state["timestamp"]).timestamp()
    claimed_at, ended_at = _written(files, "claim.json"), _written(files, "ending.json")
    # A claim is laid after the state was made PENDING: an older one is an earlier attempt's, and whoever took the run
    # since is about to lay its own.
    stale = state["type"] == "PENDING" and claimed_at is not None and claimed_at < since
    # The same for an ending: the run was sent off again after it.
    begun = claimed_at if claimed_at is not None else _moment(run.get("start_time"))
    ending = now - ended_at if ended_at is not None and (begun is None or ended_at >= begun) else None
    return Situation(
        state=state["type"],
        seconds=now - since,
        claim=Claimed.NONE if stale else claimed(claim),
        ending=ending,
        busy=_busy(run),
        deployed=run["deployment_id"] is not None,
        worker=worker,
        process_pool=process_pool,
        infrastructure=run["infrastructure_pid"] is not None,
    )


def claimed(claim: Claim | None) -> Claimed:
    """What a claim says."""
    if claim is None:
        return Claimed.NONE
    return Claimed.DEAD if claim.is_dead else Claimed.ALIVE


def _busy(run: Json) -> bool:
    workspace = (run["parameters"] or {}).get("workspace")
    if not isinstance(workspace, str):
        return False  # a batch; its workspaces are held one by one
    try:
        return Workspace(workspace).is_held()
    except (AutoScorerError, OSError):
        return False  # not to be seen from here


def _written(files: FlowRunFiles, name: str) -> float | None:
    try:
        return (Path(files.folder) / name).stat().st_mtime
    except OSError:
        return None


def _moment(text: Any) -> float | None:
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
