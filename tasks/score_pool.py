"""A few processes that score for a batch; one that dies costs the workspace it had, and is replaced."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from .batch_outcome import Outcome, failed_outcome, outcome_of
from .conclude import conclude
from .score_process import READY, Orders

__all__ = ["ScorePool"]

# Processes in a row that end before they can work, until it is clear that none ever will.
_FAILED_STARTS = 3
# Seconds for its imports and for loading the scorers.
_START = 120.0
# Seconds that a scoring has left when the batch is cancelled; most are done by then, and their Results stand.
_GRACE = 1.0
# Safe path: the current folder may be a submission's, and must not come before the installed packages.
_PROGRAM = "import sys; from autoscorer.tasks.score_process import main; main(*map(int, sys.argv[1:]))"
_COMMAND = (sys.executable, "-P", "-c", _PROGRAM)


class ScorePool:
    """Scores workspaces, ``size`` at a time; use it with ``with``, in one thread that outlives it.

    Args:
        settings: The configuration.
        size: Processes.
        flow_run_id: For each Result's provenance.
        timeout: Seconds that one scoring may take.
        scorer: Scorer id instead of each meta.json's.
        params: Scorer params that add to and override each meta.json's.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        size: int,
        flow_run_id: str,
        timeout: float,
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self._orders = Orders(settings, scorer, dict(params) if params is not None else None, flow_run_id)
        self._size = size
        self._timeout = timeout
        self._members: list[_Member] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        self._members = [_Member(self._orders) for _ in range(self._size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.close()
        for member in self._members:
            member.kill(after=_GRACE if error is None else 0.0)
        self._members = []

    @property
    def free(self) -> int:
        """How many workspaces can be begun now."""
        return sum(member.workspace is None for member in self._members)

    def begin(self, workspace: str) -> None:
        """Score a workspace; ``wait`` will give its outcome. Only while one is free."""
        next(member for member in self._members if member.workspace is None).give(workspace)

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended, once something has or the time is over.

        Raises:
            AutoScorerError: ``INTERNAL_ERROR`` when the processes can't be started.
        """
        ended: list[tuple[str, Outcome]] = []
        heard = wait([member.connection for member in self._members], seconds)
        for member in list(self._members):
            if member.connection in heard:
                ended += self._heard(member)
            elif member.is_dead() and not member.connection.poll():
                # Something that the scorer started lives on, and holds the other end open.
                ended += self._died(member)
        now = time.monotonic()
        for member in self._members:
            limit = self._timeout if member.ready else max(self._timeout, _START)
            if member.workspace is not None and now - member.since > limit:
                ended.append(self._timed_out(member))
        return ended

    def end(self) -> list[tuple[str, Outcome]]:
        """The batch was cancelled: end what is under way, within about a second, and say how it ended."""
        ended = []
        deadline = time.monotonic() + _GRACE
        while self.free < len(self._members) and (left := deadline - time.monotonic()) > 0:
            ended += self.wait(left)
        for member in self._members:
            if member.workspace is not None:
                error = AutoScorerError(ErrorCode.CANCELLED, "The batch was cancelled while this was scored.")
                ended.append(self._given_up(member, error))
        return ended

    def _heard(self, member: _Member) -> list[tuple[str, Outcome]]:
        try:
            message = member.connection.recv_bytes()
        except (EOFError, OSError):
            return self._died(member)
        if message == READY:
            member.ready, member.since, self._failed_starts = True, time.monotonic(), 0
            return []
        return [(member.done(), json.loads(message))]

    def _died(self, member: _Member) -> list[tuple[str, Outcome]]:
        # It says farewell before it is gone, when it ends by itself.
        code = member.kill(after=_GRACE)
        if member.workspace is None or not member.ready or not member.sent:
            # Not the workspace's doing: another process gets it.
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise AutoScorerError(
                    ErrorCode.INTERNAL_ERROR,
                    f"The processes that score do not live: {_FAILED_STARTS} in a row had not begun when the last "
                    f"{_ending(code)}. Their standard error, in the log of the worker, says more.",
                    stage=Stage.SCORING,
                )
            fresh = self._replace(member)
            if member.workspace is not None:
                fresh.give(member.workspace)
            return []
        error = AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"The process that scored this workspace {_ending(code)}. A scorer must return or raise; this one ended "
            "its process, or used more memory than there is.",
            details={"exit_code": code},
        )
        ended = self._given_up(member, error)
        self._replace(member)
        return [ended]

    def _timed_out(self, member: _Member) -> tuple[str, Outcome]:
        error = AutoScorerError(
            ErrorCode.SCORER_ERROR, f"Scoring did not end within {self._timeout:.0f} s and was stopped."
        )
        ended = self._given_up(member, error)
        self._replace(member)
        return ended

    def _given_up(self, member: _Member, error: AutoScorerError) -> tuple[str, Outcome]:
        """End the process, and write down why its workspace has no score, unless it came to write a Result."""
        member.kill()
        seconds = round(time.monotonic() - member.since, 3)
        workspace = member.done()
        try:
            result = conclude(workspace, self._orders.flow_run_id, error, patience=_GRACE)
        except (AutoScorerError, OSError):
            # Another run has it by now, or it can't be written: the outcome says it all the same.
            return workspace, failed_outcome(workspace, error, seconds=seconds)
        outcome = outcome_of(workspace, result)
        return workspace, {**outcome, "seconds": outcome["seconds"] or seconds}

    def _replace(self, member: _Member) -> _Member:
        member.close()
        member.kill()
        fresh = _Member(self._orders)
        self._members[self._members.index(member)] = fresh
        return fresh


class _Member:
    """One process."""

    def __init__(self, orders: Orders) -> None:
        self.workspace: str | None = None
        self.since = 0.0
        self.ready = self.sent = False
        self.connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [*_COMMAND, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # Ctrl-C is for the flow to answer; and a scorer's own processes can be ended with it.
            start_new_session=True,
        )
        theirs.close()
        with contextlib.suppress(OSError):  # one that is dead already is met at the next wait
            self.connection.send_bytes(pickle.dumps(orders))

    def give(self, workspace: str) -> None:
        """Send a workspace. Where nobody is left to take it, the next wait meets that, too."""
        self.workspace, self.since = workspace, time.monotonic()
        try:
            self.connection.send_bytes(os.fsencode(workspace))
            self.sent = True
        except OSError:
            self.sent = False

    def done(self) -> str:
        """It has nothing to do any more; what it had."""
        workspace, self.workspace = self.workspace, None
        assert workspace is not None
        return workspace

    def close(self) -> None:
        """Let it go: it ends when it has nothing more to do."""
        self.connection.close()

    def is_dead(self) -> bool:
        """Whether the process has ended."""
        # WNOWAIT keeps the zombie, and with it the number of its session until that is killed.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, *, after: float = 0.0) -> int:
        """End the process and all of its session, after so many seconds; its exit code."""
        if self._process.returncode is not None:
            return self._process.returncode
        deadline = time.monotonic() + after
        while not self.is_dead() and time.monotonic() < deadline:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Also when it is dead: what it started may hold the workspace.
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
