"""A process of a batch that scores one workspace after the other: ``ScorePool`` starts it and talks to it.

It is a program of its own, not a fork: the flow's process has Prefect's threads, whose locks a fork would copy, and
it must cost little to start, so nothing here imports Prefect. A scorer that kills the process, or makes the kernel
kill it, takes no more with it than the workspace it was given.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.provenance import current_flow_run
from ..core.storage import fault_of
from ..scorers import report  # noqa: F401 - needed by the first Result, and slow to import
from ..scorers.recorded import RecordedFiles, load_configured
from ..scorers.watch import ScorerWatcher
from .batch_outcome import Outcome, failed_outcome, outcome_of
from .score import score_workspace

__all__ = ["READY", "Orders", "main"]

READY = b"ready"
_PR_SET_PDEATHSIG = 1
# Of 1000: when memory runs out, the kernel ends this process before the flow's, the worker's and the server's.
_OOM_SCORE = "800"


@dataclass(frozen=True)
class Orders:
    """What holds for all workspaces that the process gets."""

    settings: Settings
    scorer: str | None
    params: dict[str, Any] | None
    flow_run_id: str


def main(descriptor: int, parent: int) -> None:
    """Score what comes by the connection until it is closed.

    Args:
        descriptor: Of an inherited socket. First come pickled ``Orders``, then paths; each is answered by its outcome.
        parent: The process that started this one; this one does not outlive it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        # Pickle: the other end is our own parent, and settings hold secrets that their JSON masks.
        orders: Orders = pickle.loads(connection.recv_bytes())  # noqa: S301
        current_flow_run.set(orders.flow_run_id)
        load_configured(orders.settings)
        watcher = ScorerWatcher(orders.settings.scorers.dirs, recorded=RecordedFiles(orders.settings.home))
        connection.send_bytes(READY)
        while True:
            path = os.fsdecode(connection.recv_bytes())
            # Looks at the files' stat only: a scorer that was saved since is used from here on.
            watcher.look()
            connection.send_bytes(json.dumps(_score(path, orders), allow_nan=False).encode())


def _score(path: str, orders: Orders) -> Outcome:
    try:
        return outcome_of(
            path,
            score_workspace(path, settings=orders.settings, scorer=orders.scorer, params=orders.params),
        )
    except AutoScorerError as error:
        return failed_outcome(path, error)
    except Exception as error:  # where not even a failure could be written, as on a full disk
        return failed_outcome(path, fault_of(error, workspace=Path(path)))
