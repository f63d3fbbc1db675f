"""Writing down how a run ended whose own process could not: an accepted job ends in a stated outcome."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from ...core.config import Settings
from ...core.errors import CATALOGUE, AutoScorerError, ErrorCode, Fault
from ...core.meta import read_meta
from ...core.provenance import current_flow_run
from ...core.workspace import Workspace
from ...schemas.result import Result
from .failures import save_failure

__all__ = ["definitive_result", "ensure_result"]

_PAUSE = 0.1


def ensure_result(
    workspace: Path | str, flow_run_id: str, error: AutoScorerError, *, settings: Settings, patience: float = 0.0
) -> Result:
    """See that result.json says how a flow run ended.

    A Result of this flow run that has a score, or that blames the submission, stays: the process wrote it before it
    died. So does one that says the same as ``error``. Every other one is replaced, and kept in the history.

    Args:
        workspace: The folder.
        flow_run_id: The flow run.
        error: How it ended.
        settings: The configuration.
        patience: Seconds to wait for the workspace, whose holder may be about to die.

    Returns:
        The Result that lies there now.

    Raises:
        AutoScorerError: ``WORKSPACE_NOT_FOUND``, or ``CONFLICT``: another run has the workspace by now, and its Result
            is the one that counts.
    """
    space = Workspace(workspace)
    token = current_flow_run.set(flow_run_id)
    try:
        with _held(space, patience):
            if (found := definitive_result(space, flow_run_id)) is not None:
                return found
            found = space.read_result()
            mine = found is not None and found.versioning.flow_run_id == flow_run_id
            if mine and found is not None and found.error is not None and found.error.code == error.code:
                return found
            return save_failure(space, error, settings=settings, job=read_meta(space).known)
    finally:
        current_flow_run.reset(token)


def definitive_result(space: Workspace, flow_run_id: str) -> Result | None:
    """The Result of this flow run that lies there, if another attempt would come to the same; else None.

    Args:
        space: The workspace.
        flow_run_id: The flow run.
    """
    result = space.read_result()
    if result is None or result.versioning.flow_run_id != flow_run_id:
        return None
    if result.error is None:
        return result
    try:
        code = ErrorCode(result.error.code)
    except ValueError:  # of another version
        return None
    # An attempt may have been cancelled by the end of its worker, and the run itself not.
    return result if code is not ErrorCode.CANCELLED and CATALOGUE[code].fault is Fault.SUBMISSION else None


@contextlib.contextmanager
def _held(space: Workspace, patience: float) -> Iterator[None]:
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(space.lock())
                break
            except AutoScorerError as error:
                if error.code is not ErrorCode.CONFLICT or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE)
        yield
