"""What one request may cost: who may ask, how often, how large a body, how long."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from .auth import Authenticator
from .context import RequestContext
from .envelope import failure
from .errors import RefusedBody, refusal

__all__ = ["RateLimiter", "RequestLimits"]

# Requests whose body is an archive: larger, slower, and read as it comes.
UPLOADS = re.compile(r"POST /workspaces|PUT /workspaces/.+", re.DOTALL)
# And those whose body may be a file, or JSON.
_FORMS = re.compile(r"POST /benchmarks/.+/submissions", re.DOTALL)
# Form fields and boundaries around an archive.
_FORM = 64 * 1024
# An upload may take this many times the usual timeout, as long as something keeps coming.
_UPLOAD_PATIENCE = 60
# Of a body that was refused, what is still read before the connection is closed: a client that is cut off while it
# writes never reads why.
_LINGER_BYTES, _LINGER_SECONDS = 1024 * 1024, 2.0
# Callers and addresses whose rate is remembered.
_BUCKETS = 10_000


class RateLimiter:
    """A token bucket for each key.

    Args:
        rate: Requests a second, in the long run.
        burst: Requests at once.
        clock: Seconds, monotonic.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one request; 0 when it may be served, else the seconds until one may."""
        now = self._clock()
        left, since = self._buckets.pop(key, (float(self._burst), now))
        left = min(left + (now - since) * self._rate, self._burst)
        served = left >= 1
        self._buckets[key] = (left - 1 if served else left, now)
        if len(self._buckets) > _BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if served else (1 - left) / self._rate


class RequestLimits:
    """Refuses what must not be served before any of its body is read, and ends what takes too much of anything.

    Args:
        app: What is inside.
        settings: The configuration.
        authenticator: Tells who asks.
    """

    def __init__(self, app: ASGIApp, settings: Settings, authenticator: Authenticator) -> None:
        self._app, self._api, self._authenticator = app, settings.api, authenticator
        self._rates = RateLimiter(settings.api.rate_limit, settings.api.rate_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context: RequestContext = scope["state"]["context"]
        is_upload = _is_upload(f"{scope['method']} {scope['path']}", context.headers)
        body = _Body(context, receive, send, self._most(is_upload), self._patience(is_upload), is_upload)
        try:
            self._admit(scope, context)
            body.check_length()
        except AutoScorerError as error:
            await refusal(HTTPConnection(scope), error)(scope, body.receive, body.send)
            return
        seconds = self._api.request_timeout * (_UPLOAD_PATIENCE if is_upload else 1)
        try:
            async with asyncio.timeout(seconds) as context.timeout:
                await self._app(scope, body.receive, body.send)
        except TimeoutError:
            if context.timeout is None or not context.timeout.expired():
                raise
            if context.status is None:
                answer = failure(HTTPConnection(scope), _too_slow(self._api.request_timeout))
                await answer(scope, body.receive, body.send)

    def _most(self, is_upload: bool) -> int:
        return self._api.max_upload + _FORM if is_upload else self._api.max_body

    def _patience(self, is_upload: bool) -> float:
        # A body that comes too slowly is told apart from an answer that does: it has half of the time.
        return self._api.request_timeout * (1 if is_upload else 0.5)

    def _admit(self, scope: Scope, context: RequestContext) -> None:
        context.ask_again = partial(self._authenticator.check, scope, context.headers)
        try:
            context.caller = context.ask_again()
        except AutoScorerError:
            # Guessing is as slow as asking.
            self._take(_address(scope))
            raise
        self._take(context.caller.name if context.caller else _address(scope))

    def _take(self, key: str) -> None:
        seconds = self._rates.take(key)
        if seconds:
            wait = math.ceil(seconds)
            raise AutoScorerError(
                ErrorCode.RATE_LIMITED,
                f"Too many requests: {self._api.rate_limit:g} a second are served. Try again in {wait} s.",
                details={"retry_after": wait},
            )


class _Body:
    """The body of one request as it comes in, and the answer as it goes out."""

    def __init__(
        self, context: RequestContext, receive: Receive, send: Send, most: int, patience: float, each: bool
    ) -> None:
        self._context, self._receive, self._send = context, receive, send
        self._most, self._patience, self._each = most, patience, each
        self._size = 0
        headers = context.headers
        self._length = _length(headers.get(b"content-length"))
        self._is_read = self._length in (None, 0) and b"transfer-encoding" not in headers
        self._is_refused = False
        self._deadline: float | None = None

    def check_length(self) -> None:
        """Refuse a body by what is said of it, before it comes.

        Raises:
            AutoScorerError: ``PAYLOAD_TOO_LARGE``.
        """
        if self._length is not None and self._length > self._most:
            self._is_refused = True
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part of the body."""
        if self._is_read:
            return await self._receive()
        if self._is_refused:
            return {"type": "http.disconnect"}
        loop = asyncio.get_running_loop()
        if self._deadline is None or self._each:
            self._deadline = loop.time() + self._patience
        try:
            async with asyncio.timeout_at(self._deadline) as timeout:
                message = await self._receive()
        except TimeoutError:
            if not timeout.expired():
                raise
            self._is_refused = True
            raise RefusedBody(_came_too_slowly(self._patience)) from None
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_read = True
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            self._is_refused, self._is_read = True, not message.get("more_body", False)
            raise RefusedBody(self._too_large())
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer; where the body was not read, read on for a moment before the connection is closed.

        A connection that is kept would have to wait for the rest of the body, for as long as the client likes.
        """
        if not self._is_read:
            if message["type"] == "http.response.start":
                headers = [item for item in message["headers"] if item[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    left -= len(message["body"])
        except TimeoutError:
            return

    def _too_large(self) -> AutoScorerError:
        return AutoScorerError(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"The body is larger than the {self._most} bytes that are taken here.",
            details={"limit": self._most},
        )


def _is_upload(request: str, headers: dict[bytes, bytes]) -> bool:
    is_form = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
    return UPLOADS.fullmatch(request) is not None or (is_form and _FORMS.fullmatch(request) is not None)


def _length(value: bytes | None) -> int | None:
    # The server's parser has refused what is not a number; this is for other servers.
    return int(value) if value is not None and value.isdigit() else None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"address {client[0]}" if client else "address unknown"


def _came_too_slowly(seconds: float) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST, f"The body did not come within {seconds:g} s. Send it without pauses."
    )


def _too_slow(seconds: float) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"The answer was not ready within {seconds:g} s. Ask again later; what was accepted is not lost.",
    )
