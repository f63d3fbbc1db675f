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
import functools
import re
import socket
import ssl
import threading
from concurrent.futures import Future

import httpx

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from .addresses import is_allowed
from .hosts_file import addresses_in_hosts_file

__all__ = ["NotAllowed", "Outbound", "Unreachable", "check_callback_url", "is_allowed"]

# Bytes of an answer that are read, so that a receiver is not cut off in the middle of a usual one; the rest is not.
_ANSWER = 64 * 1024
# And seconds for that, once the status is known.
_DRAIN = 1.0


class NotAllowed(Exception):
    """The request must not be made; trying again changes nothing."""


class Unreachable(Exception):
    """The request got no answer; the text says why without saying where."""


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


async def _resolve(host: str) -> list[str]:
    """The addresses of a host.

    Raises:
        Unreachable: The name has none now.
    """
    literal = _literal(host)
    if literal is not None:
        return [literal]
    answer: Future[list[str]] = Future()
    answer.set_running_or_notify_cancel()  # whoever stops waiting does not stop the thread

    def ask() -> None:
        try:
            # The zone of a link-local address is in the text as well.
            answer.set_result([str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError):
            answer.set_result([])

    # A thread of its own, not the loop's pool: names whose server answers slowly must hold up nobody else, and a
    # daemon, so that they do not hold up the end of the process.
    threading.Thread(target=ask, name="autoscorer-resolve", daemon=True).start()
    found = await asyncio.wrap_future(answer)
    addresses = list(dict.fromkeys(found))
    if not addresses:
        raise Unreachable("its host name does not resolve")
    return addresses


class Outbound:
    """Sends POST requests to URLs of strangers.

    Args:
        allow_private: Whether it may reach loopback, private and link-local addresses.
        timeout: Seconds for one request, from the name's resolution to the answer's status.
    """

    def __init__(self, *, allow_private: bool, timeout: float) -> None:
        self._allow_private = allow_private
        self._timeout = timeout
        # Reading the certificates takes a twentieth of a second, and most installations send no callback.
        self._tls = functools.cache(httpx.create_ssl_context)

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Send one request.

        Args:
            url: Where to; checked here once more.
            headers: Beside Host, Content-Length and Connection.
            body: What is sent.

        Returns:
            The answer, closed: its status and its headers. Its body is not kept.

        Raises:
            NotAllowed: The request must not be made.
            Unreachable: There was no answer.
        """
        parsed = _parse(url)
        context = await asyncio.to_thread(self._tls)
        # Not a client: that follows what it is told (credentials in the URL, cookies), and logs the URL.
        async with httpx.AsyncHTTPTransport(verify=context, trust_env=False) as transport:
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._send(transport, parsed, headers, body)
            except TimeoutError:
                raise Unreachable(f"no answer within {self._timeout:g} s") from None
            except httpx.ProtocolError:
                raise Unreachable("the server there does not speak HTTP") from None
            except (httpx.TransportError, OSError) as error:
                raise Unreachable(_why(error)) from None
            await _drain(response)
        return response

    async def _send(
        self, transport: httpx.AsyncBaseTransport, url: httpx.URL, headers: dict[str, str], body: bytes
    ) -> httpx.Response:
        """Send it to the addresses that were checked, and to nothing else."""
        host = url.raw_host.decode("ascii")
        addresses = await _resolve(host)
        # Every one: a name with a public and a private address is not to be trusted.
        if not all(is_allowed(address, allow_private=self._allow_private) for address in addresses):
            raise NotAllowed(_METADATA_SERVICE if self._allow_private else _NOT_PUBLIC)

        async def send(address: str, connect: float | None) -> httpx.Response:
            request = httpx.Request(
                "POST",
                url.copy_with(host=address),
                headers={**headers, "host": url.netloc.decode("ascii"), "connection": "close"},
                content=body,
                # The name is what TLS verifies.
                extensions={"sni_hostname": host, "timeout": {"connect": connect}},
            )
            return await transport.handle_async_request(request)

        *others, last = addresses
        for address in others:
            # A share of the time, so that an address family that leads nowhere leaves some for the next.
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await send(address, self._timeout / 4)
        return await send(last, None)


async def _drain(response: httpx.Response) -> None:
    """Read a usual answer to its end, and leave one that is long or slow."""
    with contextlib.suppress(TimeoutError, httpx.TransportError, OSError):
        async with asyncio.timeout(_DRAIN), contextlib.aclosing(response):
            read = 0
            async for part in response.aiter_raw():
                read += len(part)
                if read > _ANSWER:
                    break


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
        if isinstance(seen, TimeoutError | httpx.TimeoutException):
            return "no connection in time"
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, httpx.ConnectError):
        return "no connection could be made"
    return "the connection broke before there was an answer"
