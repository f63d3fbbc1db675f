"""What is known of the request that is being served, from the moment it came in."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from ..core.errors import AutoScorerError, ErrorCode
from .caller import Caller

if TYPE_CHECKING:
    from ..service.tasks import TaskService

__all__ = ["RequestContext", "context_of", "request_id_of", "tasks_of"]

# Goes into logs, answers and a header: a plain short word, or we make our own.
_PLAIN_WORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(slots=True)
class RequestContext:
    """One request.

    Attributes:
        request_id: In the answer, in its headers and in the log.
        headers: By lower-case name; the last of several.
        started: Of ``time.perf_counter``.
        caller: Who asks; None where no token was given and none is needed.
        task_id: The task that it is about, for the log.
        status: Of the answer, once that has begun.
        timeout: Ends the request.
        ask_again: Says who asks, by the tokens of this moment, as it was asked when the request came in.
    """

    request_id: str
    headers: dict[bytes, bytes]
    started: float = field(default_factory=time.perf_counter)
    caller: Caller | None = None
    task_id: str | None = None
    status: int | None = None
    timeout: asyncio.Timeout | None = None
    ask_again: Callable[[], Caller | None] | None = None

    def is_still_valid(self) -> bool:
        """Whether the caller's token is good for the same still; for streams, which outlive tokens."""
        try:
            return self.ask_again is None or self.ask_again() == self.caller
        except AutoScorerError:
            return False

    def allow(self, seconds: float | None) -> None:
        """Let this request take ``seconds`` longer than the usual timeout; None lifts it, as for a stream."""
        if self.timeout is None or self.timeout.expired():
            return
        when = self.timeout.when()
        self.timeout.reschedule(None if seconds is None or when is None else when + seconds)


def request_id_of(given: bytes | None) -> str:
    """The caller's own request id when it is a plain short word, else a new one."""
    if given is not None and _PLAIN_WORD.fullmatch(given):
        return given.decode("ascii")
    return secrets.token_hex(8)


def context_of(request: HTTPConnection) -> RequestContext:
    """The context of a request."""
    context: RequestContext = request.scope["state"]["context"]
    return context


def tasks_of(request: HTTPConnection) -> TaskService:
    """The running task service."""
    tasks: TaskService | None = request.app.state.tasks
    if tasks is None:
        raise AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, "The service could not start, and is being stopped.")
    return tasks
