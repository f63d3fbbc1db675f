"""Who may ask: bearer tokens with roles, and without any token nobody but the server's own user on this machine."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.home_token import TOKEN_FILE
from ..core.loopback import is_loopback_address, is_loopback_name
from ..core.tokens import TokenFile, needs_tokens
from ..service.links import SignedLinks
from ..service.policy import Act, Subject, described, may
from .access import Access
from .caller import Caller
from .context import context_of

__all__ = [
    "PUBLIC",
    "PUBLIC_BELOW",
    "Authenticator",
    "check_backend",
    "require",
]

logger = logging.getLogger(__name__)

# Served without a token: probes have none, and the page asks for it. Nothing of a task is in them. Below /public/ is
# what an organiser shows to anybody.
PUBLIC = frozenset({"/", "/records", "/docs", "/healthz", "/readyz", "/openapi.json", "/favicon.ico"})
PUBLIC_BELOW = ("/static/", "/ui/", "/public/")
# /signed/{signature}/tasks/{task_id}/…: the signature stands for a token.
SIGNED = "/signed/"

# A proxy of this machine passes on requests from elsewhere, and its own address is loopback.
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


def check_backend(settings: Settings, caller: Caller, backend: str | None) -> None:
    """Let nobody but an admin choose to run a model unsealed: its code could read every ground truth.

    Raises:
        AutoScorerError: ``FORBIDDEN``.
    """
    if backend == "process" and caller.role != "admin" and settings.executors.default != "process":
        raise AutoScorerError(
            ErrorCode.FORBIDDEN,
            "The backend process runs a model unsealed, with the rights of the service: it takes a token of the role "
            "admin. Leave backend out, or use docker or kubernetes.",
        )


class Authenticator:
    """Tells who asks, from a request's headers and address, and from whose its connection is.

    Args:
        settings: The configuration, with the tokens.
        access: Who is served.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where the home's file of tokens can't be used.
    """

    def __init__(self, settings: Settings, access: Access) -> None:
        self._access, self._links = access, SignedLinks(settings.home)
        self._is_open = needs_tokens(settings)
        self._known = [
            (_digest(each.token.encode()), Caller(_name(each.role, each.token), each.role, each.team, each.benchmarks))
            for each in settings.tokens
        ]
        self._file = TokenFile(settings.home)
        self._of_file = self._read()
        self._local = Caller("local", "admin")
        self._hint = ""
        if access.home_token is not None:
            self._known.append((_digest(access.home_token.encode()), self._local))
            self._hint = f" It is in the file {TOKEN_FILE} of the API's home, where the commands find it."

    def check(self, scope: Any, headers: dict[bytes, bytes]) -> Caller | None:
        """Who asks; None for somebody without a token who asks for what needs none.

        Args:
            scope: The ASGI scope; ``state`` has the ``peer_uid`` of the connection where that is asked for.
            headers: Its headers, by lower-case name.

        Raises:
            AutoScorerError: ``UNAUTHORIZED`` without a valid token, ``FORBIDDEN`` for a request of somebody else than
                the server's own user when there are no tokens.
        """
        if not self._is_open:
            self._only_this_machine(scope, headers)
        if self._access.uid is not None:
            self._only_this_user(scope)
        if scope["path"].startswith(SIGNED):
            return self._of_link(scope["path"])
        if self._access.uid is not None:
            return self._local
        given = headers.get(b"authorization")
        if given is None:
            if scope["path"] in PUBLIC or scope["path"].startswith(PUBLIC_BELOW):
                return None
            raise AutoScorerError(
                ErrorCode.UNAUTHORIZED,
                f"This needs a token: send the header `Authorization: Bearer TOKEN`.{self._hint}",
            )
        scheme, _, token = given.partition(b" ")
        caller = self._find(token.strip()) if scheme.lower() == b"bearer" else None
        if caller is None:
            raise AutoScorerError(
                ErrorCode.UNAUTHORIZED,
                "The token is not valid here. Expected `Authorization: Bearer TOKEN` with "
                f"{'the token of the home' if self._hint else 'a configured token'}.{self._hint}",
                details={"token_was_given": True},
            )
        return caller

    def _of_link(self, path: str) -> Caller:
        # As the routes read it: one segment each, decoded.
        signature, _, rest = path.removeprefix(SIGNED).partition("/")
        kind, _, below = rest.partition("/")
        return self._links.check(below.partition("/")[0] if kind == "tasks" else "", signature)

    def _find(self, token: bytes) -> Caller | None:
        # Digests of equal length, each compared in full and all of them: the time tells nothing of any token.
        digest = _digest(token)
        if self._file.changed():
            try:
                self._of_file = self._read()
            except AutoScorerError as error:
                self._of_file = []
                logger.error("no token of the home is valid: %s", error.message)
        found: Caller | None = None
        for known, caller in (*self._of_file, *self._known):
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _read(self) -> list[tuple[bytes, Caller]]:
        """The tokens of the home's file."""
        return [
            (each.digest, Caller(f"{each.role}-{each.id}", each.role, each.team, frozenset(each.benchmarks)))
            for each in self._file.records()
        ]

    def _only_this_machine(self, scope: Any, headers: dict[bytes, bytes]) -> None:
        client = scope.get("client")
        why = None
        if client is not None and not is_loopback_address(client[0]):
            why = "the request comes from another machine"
        elif any(name in headers for name in _FORWARDED):
            why = "the request was passed on by a proxy, and may come from another machine"
        elif not is_loopback_name(_host(headers.get(b"host", b""))):
            # A page of a stranger whose name was made to point here (DNS rebinding) sends its own name.
            why = "the Host header names another machine"
        elif b"origin" in headers and not _same_origin(headers):
            # Browsers let any page send plain forms here; they always say from where.
            why = "the request comes from a page of another site"
        if why is not None:
            raise _not_served(why)

    def _only_this_user(self, scope: Any) -> None:
        uid = scope.get("state", {}).get("peer_uid")
        if uid is None:
            raise _not_served("the kernel does not say whose connection this is, or it was closed at once")
        if uid != self._access.uid:
            # Told apart by nothing but the user: a proxy that adds no header, and somebody else on this machine. Root
            # may do anything here, but what root's proxy passes on may come from anywhere.
            raise _not_served("the request comes from another user of this machine, such as that of a proxy")


def require(act: Act | None = None) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who must be one that may do this to the installation.

    The token was checked before the body was read; what is left is what it may do.

    Args:
        act: For what. None lets in whoever has a token: then the route holds each thing that is asked for against the
            policy.
    """

    async def check(request: Request) -> Caller:
        caller = context_of(request).caller
        if caller is None:
            raise AutoScorerError(ErrorCode.UNAUTHORIZED, "This needs a token.")
        if act is None or may(caller, act, Subject()):
            return caller
        if act is Act.CHANGE:
            why = f"This needs a token of the role admin; yours has the role {caller.role}."
        else:
            why = (
                f"{described(caller)} may not do this: it is for submissions to benchmarks, and GET /benchmarks lists "
                "those that there are."
            )
        raise AutoScorerError(ErrorCode.FORBIDDEN, why)

    return check


def _host(header: bytes) -> str:
    """The host of a Host header, without port and brackets; empty for one that can't be read."""
    try:
        return urlsplit("//" + header.decode("ascii")).hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: dict[bytes, bytes]) -> bool:
    origin = headers[b"origin"].lower()
    return origin.partition(b"://")[2] == headers.get(b"host", b"").lower()


def _not_served(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.FORBIDDEN,
        f"Without tokens only the server's own user on this machine is served, and {why}. Set AUTOSCORER_API_TOKENS "
        "(role:token), or make tokens with `autoscorer tokens new` and start the API again, to serve others.",
    )


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _name(role: str, token: str) -> str:
    # Slow on purpose: the name stands in logs, and a token that can be guessed must not be found from it.
    digest = hashlib.pbkdf2_hmac("sha256", token.encode(), b"autoscorer caller", 100_000)
    return f"{role}-{digest[:4].hex()}"
