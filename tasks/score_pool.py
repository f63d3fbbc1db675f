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
from .score_process import Orders, ending

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
        self._orders = Orders(settings, timeout)
        self._request: Json = {
            "do": "score",
            "flow_run": flow_run_id,
            "scorer": scorer,
            "params": dict(params) if params is not None else None,
        }
        self._flow_run_id = flow_run_id
        self._size = size
        self._timeout = timeout
        self._members: list[_Member] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        self._members = [_Member.start(self._orders) for _ in range(self._size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.connection.close()  # all of them end at the same time
        for member in self._members:
            member.kill()
        self._members = []

    @property
    def free(self) -> int:
        """How many workspaces can be begun now."""
        return sum(member.workspace is None for member in self._members)

    def begin(self, workspace: str) -> None:
        """Score a workspace; ``wait`` will give its outcome. Only while one is free."""
        next(member for member in self._members if member.workspace is None).give(workspace, self._request)

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
            limit = _START + self._timeout + self._orders.settings.scorers.load_timeout
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
            answer = member.receive()
        except (EOFError, OSError):
            return self._died(member)
        # Whatever it says, it lives.
        member.ready, self._failed_starts = True, 0
        if answer is None:
            return []
        if "error" in answer:
            error = AutoScorerError.from_dict(answer["error"])
            if error.code in (ErrorCode.CONFLICT, ErrorCode.WORKSPACE_NOT_FOUND):  # there is nothing to write to
                seconds = round(time.monotonic() - member.since, 3)
                workspace = member.done()
                return [(workspace, failed_outcome(workspace, error, seconds=seconds))]
            return [self._given_up(member, error, keep=True)]
        workspace = member.done()
        return [(workspace, outcome_of(workspace, Result.model_validate(answer["result"])))]

    def _died(self, member: _Member) -> list[tuple[str, Outcome]]:
        # It says farewell before it is gone, when it ends by itself.
        code = member.kill()
        if member.workspace is None or not member.ready or not member.sent:
            # Not the workspace's doing: another process gets it.
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise AutoScorerError(
                    ErrorCode.INTERNAL_ERROR,
                    f"The processes that score do not live: {_FAILED_STARTS} in a row had not begun when the last "
                    f"{ending(code)}. Their standard error, in the log of the worker, says more.",
                    stage=Stage.SCORING,
                )
            fresh = self._replace(member)
            if member.workspace is not None:
                fresh.give(member.workspace, self._request)
            return []
        error = AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"The process that scored this workspace {ending(code)}. A scorer must return or raise; this one ended "
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

    def _given_up(self, member: _Member, error: AutoScorerError, *, keep: bool = False) -> tuple[str, Outcome]:
        """Write down why a workspace has no score, unless it came to have a Result; end its process unless to keep."""
        if not keep:
            member.kill()
        seconds = round(time.monotonic() - member.since, 3)
        workspace = member.done()
        try:
            result = ensure_result(workspace, self._flow_run_id, error, patience=_GRACE)
        except (AutoScorerError, OSError):
            # Another run has it by now, or it can't be written: the outcome says it all the same.
            return workspace, failed_outcome(workspace, error, seconds=seconds)
        outcome = outcome_of(workspace, result)
        return workspace, {**outcome, "seconds": outcome["seconds"] or seconds}

    def _replace(self, member: _Member) -> _Member:
        member.kill()
        fresh = _Member.start(self._orders)
        self._members[self._members.index(member)] = fresh
        return fresh


class _Member(Guard):
    """One guard, and the workspace that it has."""

    workspace: str | None = None
    since = 0.0
    ready = sent = False

    def give(self, workspace: str, request: Json) -> None:
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
