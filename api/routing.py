"""Routes that read JSON strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.json_values import Why, unfit
from .errors import RefusedBody
from .responses import ANY_ROUTE, answers, bare, served

__all__ = ["MAX_DEPTH", "ApiRouter", "answers", "bare", "served"]

# Levels of lists and objects in a body; what is meant to be there has five.
MAX_DEPTH = 32

_decoder = msgspec.json.Decoder()
# A number of more than 64 bits, or a NUL: perhaps.
_SUSPICIOUS = re.compile(rb"[0-9]{19}|\\u0000")
_REFUSED = {
    Why.TOO_DEEP: f"is nested deeper than {MAX_DEPTH} levels",
    Why.TOO_LARGE: "holds a whole number of more than 64 bits; write it as text",
    Why.NUL: "holds a text with the character NUL",
}


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = _decode(await self.body())
        return self._json


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return handle


class ApiRouter(APIRouter):
    """A router whose routes read bodies strictly: no NaN, no bottomless nesting.

    Args:
        tag: What its routes are listed under.
        statuses: Error statuses of all of its routes, beyond those that any route may give.
    """

    def __init__(self, tag: str, *statuses: int) -> None:
        super().__init__(
            tags=[tag],
            route_class=_Route,
            responses=answers(*ANY_ROUTE, *statuses),
        )


def _decode(body: bytes) -> Any:
    try:
        value = _decoder.decode(body)
    except RecursionError:
        raise _wrong(_REFUSED[Why.TOO_DEEP]) from None
    except (ValueError, msgspec.MsgspecError) as error:
        why = str(error) if isinstance(error, msgspec.MsgspecError) else "it is not UTF-8, or a number is too long"
        raise _wrong(f"is not valid JSON: {why}") from None
    # Only such a body can hold what is refused; looking at every value of every body would cost more than the rest.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH or _SUSPICIOUS.search(body):
        _check_values(value)
    return value


def _check_values(value: Any) -> None:
    """Refuse what is valid JSON and would not survive on the way to Prefect and its database."""
    for problem in unfit(value, levels=MAX_DEPTH):
        if problem.why in _REFUSED:
            raise _wrong(_REFUSED[problem.why])


def _wrong(why: str) -> RefusedBody:
    return RefusedBody(AutoScorerError(ErrorCode.INVALID_REQUEST, f"The body {why}."))
