"""Calls to one endpoint over HTTP: within limits, tried again where that may help, every failure given a reason.

The key stands in one header of requests to the configured URL and nowhere else. So no redirect is followed, no proxy of
the environment is used (``trust_env`` would also send what ``~/.netrc`` holds), and no exception of the library, which
carries the request's headers, is kept as the cause of ours.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ...core.backoff import delays
from ...core.bounds import shortened
from ...core.config_judge import Profile
from ...core.text import escape
from .failures import JudgeFailure, Reason, failure
from .limits import Limits

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Endpoint", "reason_for"]

logger = logging.getLogger(__name__)

# Bytes of an answer: of a chat, and of many vectors.
_MOST_BYTES: dict[str, int] = {"judge": 4 * 1024**2, "embeddings": 64 * 1024**2}
# Seconds before the second attempt, and before a later one at most; each waits a random part of that.
_FIRST, _LONGEST = 0.5, 20.0
# Seconds that a server's Retry-After may hold up a call, and every call to its profile.
_MOST_WAIT, _MOST_PAUSE = 3600.0, 60.0
_SAID = 300
_STATUSES: dict[int, tuple[Reason, bool]] = {
    401: ("unauthorized", False),
    403: ("unauthorized", False),
    404: ("not_found", False),
    408: ("timeout", True),
    409: ("server_error", True),
    429: ("rate_limited", True),
}


class Endpoint:
    """One profile's endpoint.

    Args:
        kind: What it is for; profiles of both kinds may have the same name.
        name: Of the profile.
        profile: Where it is and what is asked of it at most.
        limits: Calls at a time.
    """

    def __init__(self, kind: Literal["judge", "embeddings"], name: str, profile: Profile, limits: Limits) -> None:
        self._kind, self._name, self._profile, self._limits = kind, name, profile, limits
        self._session: aiohttp.ClientSession | None = None
        self._paused_until = 0.0

    def __repr__(self) -> str:
        return f"Endpoint({self._kind!r}, {self._name!r})"

    async def post(
        self, path: str, body: bytes, *, model: str, before: Callable[[], Awaitable[None]]
    ) -> dict[str, Any]:
        """What the endpoint answers to a JSON body.

        Args:
            path: Below the base URL, such as ``/chat/completions``.
            body: The request.
            model: Named in errors.
            before: Called before each attempt, once there is room for it; what it raises ends the call.

        Raises:
            AutoScorerError: ``JUDGE_ERROR`` with a reason; what ``before`` raises; as ``Limits.place``.
        """
        waits = delays(_FIRST, _LONGEST)
        attempt = 1
        while isinstance(answer := await self._in_turn(path, body, model, before), JudgeFailure):
            if not answer.retryable or attempt >= self._profile.max_attempts:
                if answer.said:
                    # For the operator alone: a server may quote the prompt.
                    logger.warning("%s It said: %s", answer.message, answer.said)
                raise answer
            attempt += 1
            wait = random.uniform(0, next(waits))  # noqa: S311 - no secret
            if answer.retry_after is not None:
                wait = max(min(answer.retry_after, _MOST_WAIT), wait)
            if answer.reason == "rate_limited":
                self._paused_until = max(self._paused_until, _now() + min(wait, _MOST_PAUSE))
            await asyncio.sleep(wait)
        return answer

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def _in_turn(
        self, path: str, body: bytes, model: str, before: Callable[[], Awaitable[None]]
    ) -> dict[str, Any] | JudgeFailure:
        while True:
            while (pause := self._paused_until - _now()) > 0:
                # Not all of them at the moment when it ends.
                await asyncio.sleep(pause + random.uniform(0, 0.05))  # noqa: S311 - no secret
            profile = self._profile
            async with self._limits.place(f"{self._kind}.{self._name}", profile.concurrency, profile.global_limit):
                if self._paused_until > _now():
                    continue
                await before()
                return await self._attempt(path, body, model)

    async def _attempt(self, path: str, body: bytes, model: str) -> dict[str, Any] | JudgeFailure:
        try:
            status, headers, raw = await self._exchange(path, body)
        except Exception as error:
            mapped = reason_for(error)
            if mapped is None:
                raise
        else:
            return self._read(status, headers, raw, model)
        # Outside of the block: an exception that is kept as context would carry the key along.
        reason, retryable = mapped
        return failure(reason, profile=self._name, model=model, retryable=retryable)

    async def _exchange(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes | None]:
        """Status, headers and body; None in place of a body that is too long."""
        if self._session is None:
            self._session = self._opened()
        most = _MOST_BYTES[self._kind]
        raw = bytearray()
        url = self._profile.base_url + path
        async with self._session.post(url, data=body, headers=self._headers(), allow_redirects=False) as response:
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > most:
                    return response.status, response.headers, None
            return response.status, response.headers, bytes(raw)

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        return aiohttp.ClientSession(
            # How many there are is decided by the places.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._profile.timeout),
            trust_env=False,
        )

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._profile.api_key is not None:
            headers["Authorization"] = f"Bearer {self._profile.api_key.get_secret_value()}"
        return headers

    def _read(
        self, status: int, headers: Mapping[str, str], raw: bytes | None, model: str
    ) -> dict[str, Any] | JudgeFailure:
        try:
            value = msgspec.json.decode(raw) if raw is not None else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
        inner = value.get("error") if isinstance(value, dict) else None
        if 200 <= status < 300 and isinstance(value, dict) and not inner:
            return value
        code, said = (inner.get("code"), inner.get("message")) if isinstance(inner, dict) else (None, inner)
        if status == 200 and type(code) is int and 400 <= code < 600:
            # Routers of several providers say here what the provider answered.
            status = code
        reason, retryable = _of_status(status)
        if code in ("content_filter", "content_policy_violation"):
            reason, retryable = "content_filtered", False
        elif code == "insufficient_quota":  # a 429 that no wait ends
            retryable = False
        found = failure(
            reason,
            profile=self._name,
            model=model,
            status=status,
            retryable=retryable,
            # A server that refuses a key may repeat it, also in part.
            said="" if reason == "unauthorized" else self._told(said),
        )
        if retryable:
            found.retry_after = _retry_after(headers)
        return found

    def _told(self, said: Any) -> str:
        if not isinstance(said, str):
            return ""
        if self._profile.api_key is not None:
            said = said.replace(self._profile.api_key.get_secret_value(), "…")
        return shortened(escape(said.replace(self._profile.base_url, "…")), _SAID)


def reason_for(error: Exception) -> tuple[Reason, bool] | None:
    """Why a call failed that raised an exception of the library, and whether it may go well at another time.

    Returns:
        None for what neither the network nor the server has raised.
    """
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError

    match error:
        case TimeoutError():
            return "timeout", True
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "unreachable", False
        case aiohttp.InvalidURL():
            return "unreachable", False
        case aiohttp.ClientResponseError() | HttpProcessingError():  # what came is no HTTP
            return "bad_answer", True
        case aiohttp.ClientError() | OSError() | EOFError():
            return "unreachable", True
    return None


def _of_status(status: int) -> tuple[Reason, bool]:
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return "server_error", True
    if status >= 300:
        return "refused", False
    return "bad_answer", True


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After``, which holds seconds or a date; None where there is none that can be read."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None


def _now() -> float:
    return asyncio.get_running_loop().time()
