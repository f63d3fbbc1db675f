"""Requests to addresses that strangers name: where they may go, and how they are kept from going elsewhere.

A submitter's callback_url makes this server send a request. It must reach nothing that only this server can reach:
not its loopback, not its network's private hosts, not a cloud's metadata service. So the host is resolved here, every
address is checked, and the connection is made to the very address that was checked; a name that resolves to something
else a moment later changes nothing. Redirects are not followed and the environment's proxies not used, as either would
choose another address. The host of the URL stays in the Host header, and is what TLS verifies.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from .addresses import is_allowed
from .hosts_file import addresses_in_hosts_file

__all__ = ["Answer", "NotAllowed", "Outbound", "Unreachable", "check_callback_url", "is_allowed"]

# Bytes of an answer that are read, so that a receiver is not cut off in the middle of a usual one; the rest is not.
_ANSWER = 64 * 1024
# And seconds for that, once the status is known.
_DRAIN = 1.0


class NotAllowed(Exception):
    """The request must not be made; trying again changes nothing."""


class Unreachable(Exception):
    """The request got no answer; the text says why without saying where."""


@dataclass(frozen=True)
class Answer:
    """What the receiver answered."""

    status: int
    retry_after: float | None = None


def check_callback_url(settings: Settings, url: str) -> None:
    """Refuse a callback_url that could never be delivered. Asks no name server: what this machine itself knows of a
    name is checked here, what others say when the callback is sent.

    Args:
        settings: The configuration.
        url: What the caller gave.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    try:
        parsed = _parse(url)
        name = parsed.raw_host.decode("ascii").rstrip(".")
        allow = settings.callbacks.allow_private
        literal = _literal(name)
        if not allow and (name in _LOOPBACK_NAMES or name.endswith(".localhost")):
            raise NotAllowed(_NOT_PUBLIC)
        for address in [literal] if literal is not None else addresses_in_hosts_file(name):
            if not is_allowed(address, allow_private=allow):
                raise NotAllowed(_METADATA_SERVICE if allow else _NOT_PUBLIC)
    except NotAllowed as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"callback_url can't be used: {error}. Give an http or https address that this server may send to.",
            details={"field": "callback_url"},
        ) from None


# By which systems know themselves, beside the names that end with .localhost.
_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_LABEL = "[a-z0-9_-]{1,63}"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\.?$){_LABEL}\.?", re.ASCII | re.IGNORECASE)

_NOT_PUBLIC = "its address is loopback, private or otherwise not public, and callbacks.allow_private is off"
_METADATA_SERVICE = "its address is a cloud's metadata service"


def _parse(url: str) -> httpx.URL:
    # One parser for the check and for the request: two may disagree about where the host ends, or what is one.
    if any(ord(char) <= 0x20 or ord(char) == 0x7F or char == "\\" for char in url):
        raise NotAllowed("it holds a space, a control character or a backslash")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        _ = parsed.host  # what is not a name in IDNA's own form (xn--…) is found out only here
    except (httpx.InvalidURL, ValueError):
        raise NotAllowed("it is not a valid URL") from None
    if parsed.scheme not in ("http", "https"):
        raise NotAllowed("it must begin with http:// or https://")
    if not host:
        raise NotAllowed("it names no host")
    if not _is_name(host) and _literal(host) is None:
        raise NotAllowed("its host is neither a name nor an address")
    if parsed.userinfo:
        raise NotAllowed("it must hold no user name or password; the signature tells the receiver who sends")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise NotAllowed("the port must be between 1 and 65535")
    return parsed


def _is_name(host: str) -> bool:
    """Whether a name server could have an address for it; what ends in a number is meant as an address."""
    return len(host) <= 254 and _NAME.fullmatch(host) is not None


def _literal(host: str) -> str | None:
    """The address when the host is one, in whatever form the system would take it (127.1, 0x7f000001); else None."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])


async def _resolve(host: str, port: int) -> list[str]:
    """The addresses of a host.

    Raises:
        Unreachable: The name has none now.
    """
    literal = _literal(host)
    if literal is not None:
        return [literal]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | None) -> None:
        if not answer.done():
            if found:
                answer.set_result(found)
            else:
                answer.set_exception(Unreachable("its host name does not resolve"))

    def ask() -> None:
        found: list[str] | None = None
        with contextlib.suppress(OSError, UnicodeError):
            # The zone of a link-local address is in the text as well.
            found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, found)

    # A thread of its own, not the loop's pool: names whose server answers slowly must hold up nobody else, and a
    # daemon, so that they do not hold up the end of the process.
    threading.Thread(target=ask, name="autoscorer-resolve", daemon=True).start()
    return list(dict.fromkeys(await answer))


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, and to nothing else."""

    def __init__(self, allow_private: bool, timeout: float) -> None:
        self._network = httpcore.AnyIOBackend()
        self._allow_private = allow_private
        self._timeout = timeout

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        # Every one: a name with a public and a private address is not to be trusted.
        for address in addresses:
            if not is_allowed(address, allow_private=self._allow_private):
                raise NotAllowed(_METADATA_SERVICE if self._allow_private else _NOT_PUBLIC)
        *others, last = addresses
        for address in others:
            # A share of the time, so that an address family that leads nowhere leaves some for the next.
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._connect(address, port, self._timeout / 4, socket_options)
        return await self._connect(last, port, None, socket_options)

    async def _connect(
        self, address: str, port: int, timeout: float | None, options: Iterable[Any] | None
    ) -> httpcore.AsyncNetworkStream:
        return await self._network.connect_tcp(address, port, timeout=timeout, socket_options=options)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class Outbound:
    """Sends POST requests to URLs of strangers. Use it in one event loop, and ``close`` it.

    Args:
        allow_private: Whether it may reach loopback, private and link-local addresses.
        timeout: Seconds for one request, from the name's resolution to the answer's status.
    """

    def __init__(self, *, allow_private: bool, timeout: float) -> None:
        self._allow_private = allow_private
        self._timeout = timeout
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close what is open."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send one request.

        Args:
            url: Where to; checked here once more.
            headers: Beside Host, Content-Length and Connection.
            body: What is sent.

        Returns:
            The answer's status. Its body is not kept.

        Raises:
            NotAllowed: The request must not be made.
            Unreachable: There was no answer.
        """
        parsed = _parse(url)
        request = httpx.Request("POST", parsed, headers={**headers, "connection": "close"}, content=body)
        pool = await self._opened()
        try:
            async with asyncio.timeout(self._timeout):
                response = await pool.handle_async_request(
                    httpcore.Request(
                        method=b"POST",
                        url=httpcore.URL(
                            scheme=parsed.raw_scheme,
                            host=parsed.raw_host,
                            port=parsed.port,
                            target=parsed.raw_path,
                        ),
                        headers=request.headers.raw,
                        content=body,
                    )
                )
        except TimeoutError:
            raise Unreachable(f"no answer within {self._timeout:g} s") from None
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as error:
            raise Unreachable(_why(error)) from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise Unreachable("the server there does not speak HTTP") from None
        await _drain(response)
        return Answer(response.status, _retry_after(response.headers))

    async def _opened(self) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                # Reading the certificates takes a twentieth of a second, and most installations send no callback.
                context = await asyncio.to_thread(httpx.create_ssl_context)
                self._pool = httpcore.AsyncConnectionPool(
                    ssl_context=context,
                    max_connections=None,
                    max_keepalive_connections=0,
                    network_backend=_Pinned(self._allow_private, self._timeout),
                )
            return self._pool


async def _drain(response: httpcore.Response) -> None:
    """Read a usual answer to its end, and leave one that is long or slow."""
    try:
        with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, OSError):
            async with asyncio.timeout(_DRAIN):
                read = 0
                async for part in response.aiter_stream():
                    read += len(part)
                    if read > _ANSWER:
                        break
    finally:
        with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError, OSError):
            await response.aclose()


def _why(error: BaseException) -> str:
    """Why there was no connection, in words that name no address."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate was not accepted ({seen.verify_message})"
        if isinstance(seen, ssl.SSLError):
            return "TLS could not be agreed on"
        if isinstance(seen, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(seen, TimeoutError | httpcore.TimeoutException):
            return "no connection in time"
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, httpcore.ConnectError):
        return "no connection could be made"
    return "the connection broke before there was an answer"


def _retry_after(headers: list[tuple[bytes, bytes]]) -> float | None:
    value = httpx.Headers(headers).get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) <= 9 else None
