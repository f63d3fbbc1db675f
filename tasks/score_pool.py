"""A few processes that score for a batch; one that dies costs the workspace it had, and is replaced."""

from __future__ import annotations

import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..schemas.result import Result
from .batch_outcome import Outcome, failed_outcome, outcome_of
from .ensure_result import ensure_result
from .guard import Guard
from .score_process import JobConfig, ending

__all__ = ["ScorePool"]

Json = dict[str, Any]

# Processes in a row that end before they can work, until it is clear that none ever will.
_FAILED_STARTS = 3
# Seconds beyond what the guard allows; one that has not answered by then does not live.
_START = 120.0
# Seconds that a scoring has left when the batch is cancelled; most are done by then, and their Results stand.
_GRACE = 1.0


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
        self._config = JobConfig(settings, timeout)
        self._request: Json = {
            "do": "score",
            "flow_run": flow_run_id,
            "options": {"scorer": scorer, "params": dict(params) if params is not None else None},
        }
        self._flow_run_id = flow_run_id
        self._size = size
        self._timeout = timeout
        self._processes: list[_Process] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        self._processes = [_Process.start(self._config) for _ in range(self._size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.connection.close()  # all of them end at the same time
        for process in self._processes:
            process.kill()
        self._processes = []

    @property
    def idle(self) -> int:
        """How many workspaces can be begun now."""
        return sum(process.workspace is None for process in self._processes)

    def submit(self, workspace: str) -> None:
        """Score a workspace; ``wait`` will give its outcome. Only while one is idle."""
        next(process for process in self._processes if process.workspace is None).assign(workspace, self._request)

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended, once something has or the time is over.

        Raises:
            AutoScorerError: ``INTERNAL_ERROR`` when the processes can't be started.
        """
        ended: list[tuple[str, Outcome]] = []
        heard = wait([process.connection for process in self._processes], seconds)
        for process in list(self._processes):
            if process.connection in heard:
                ended += self._heard(process)
            elif process.is_dead() and not process.connection.poll():
                # Something that the scorer started lives on, and holds the other end open.
                ended += self._died(process)
        now = time.monotonic()
        for process in self._processes:
            limit = _START + self._timeout + self._config.settings.scorers.load_timeout
            if process.workspace is not None and now - process.since > limit:
                ended.append(self._timed_out(process))
        return ended

    def end(self) -> list[tuple[str, Outcome]]:
        """The batch was cancelled: end what is under way, within about a second, and say how it ended."""
        ended = []
        deadline = time.monotonic() + _GRACE
        while self.idle < len(self._processes) and (left := deadline - time.monotonic()) > 0:
            ended += self.wait(left)
        for process in self._processes:
            if process.workspace is not None:
                error = AutoScorerError(ErrorCode.CANCELLED, "The batch was cancelled while this was scored.")
                ended.append(self._given_up(process, error))
        return ended

    def _heard(self, process: _Process) -> list[tuple[str, Outcome]]:
        try:
            answer = process.receive()
        except (EOFError, OSError):
            return self._died(process)
        # Whatever it says, it lives.
        process.ready, self._failed_starts = True, 0
        if answer is None:
            return []
        if "error" in answer:
            error = AutoScorerError.from_dict(answer["error"])
            if error.code in (ErrorCode.CONFLICT, ErrorCode.WORKSPACE_NOT_FOUND):  # there is nothing to write to
                seconds = round(time.monotonic() - process.since, 3)
                workspace = process.done()
                return [(workspace, failed_outcome(workspace, error, seconds=seconds))]
            return [self._given_up(process, error, keep=True)]
        workspace = process.done()
        return [(workspace, outcome_of(workspace, Result.model_validate(answer["result"])))]

    def _died(self, process: _Process) -> list[tuple[str, Outcome]]:
        # It says farewell before it is gone, when it ends by itself.
        code = process.kill()
        if process.workspace is None or not process.ready or not process.sent:
            # Not the workspace's doing: another process gets it.
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise AutoScorerError(
                    ErrorCode.INTERNAL_ERROR,
                    f"The processes that score do not live: {_FAILED_STARTS} in a row had not begun when the last "
                    f"{ending(code)}. Their standard error, in the log of the worker, says more.",
                    stage=Stage.SCORING,
                )
            fresh = self._replace(process)
            if process.workspace is not None:
                fresh.assign(process.workspace, self._request)
            return []
        error = AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"The process that scored this workspace {ending(code)}. A scorer must return or raise; this one ended "
            "its process, or used more memory than there is.",
            details={"exit_code": code},
        )
        ended = self._given_up(process, error)
        self._replace(process)
        return [ended]

    def _timed_out(self, process: _Process) -> tuple[str, Outcome]:
        error = AutoScorerError(
            ErrorCode.SCORER_ERROR, f"Scoring did not end within {self._timeout:.0f} s and was stopped."
        )
        ended = self._given_up(process, error)
        self._replace(process)
        return ended

    def _given_up(self, process: _Process, error: AutoScorerError, *, keep: bool = False) -> tuple[str, Outcome]:
        """Write down why a workspace has no score, unless it came to have a Result; end its process unless to keep."""
        if not keep:
            process.kill()
        seconds = round(time.monotonic() - process.since, 3)
        workspace = process.done()
        try:
            result = ensure_result(workspace, self._flow_run_id, error, settings=self._config.settings, patience=_GRACE)
        except (AutoScorerError, OSError):
            # Another run has it by now, or it can't be written: the outcome says it all the same.
            return workspace, failed_outcome(workspace, error, seconds=seconds)
        outcome = outcome_of(workspace, result)
        return workspace, {**outcome, "seconds": outcome["seconds"] or seconds}

    def _replace(self, process: _Process) -> _Process:
        process.kill()
        fresh = _Process.start(self._config)
        self._processes[self._processes.index(process)] = fresh
        return fresh


class _Process(Guard):
    """One guard, and the workspace that it has."""

    workspace: str | None = None
    since = 0.0
    ready = sent = False

    def assign(self, workspace: str, request: Json) -> None:
        """Send a workspace. Where nobody is left to take it, the next wait meets that, too."""
        self.workspace, self.since = workspace, time.monotonic()
        try:
            self.send({**request, "workspace": workspace})
            self.sent = True
        except OSError:
            self.sent = False

    def done(self) -> str:
        """It has nothing to do any more; what it had."""
        workspace, self.workspace = self.workspace, None
        assert workspace is not None
        return workspace
