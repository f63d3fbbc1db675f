"""Routes that read JSON strictly and say in the OpenAPI how they may fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from .. import __version__
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.envelope import Envelope, ErrorEnvelope
from .errors import RefusedBody

__all__ = ["MAX_DEPTH", "ApiRouter", "answers", "served"]

# Levels of lists and objects in a body; what is meant to be there has five.
MAX_DEPTH = 32

_decoder = msgspec.json.Decoder()
# A number of more than 64 bits, or a NUL: perhaps.
_SUSPICIOUS = re.compile(rb"[0-9]{19}|\\u0000")

_MEANINGS = {
    401: "No valid token.",
    403: "The token may not do this, or the workspace lies outside of the workspace roots.",
    404: "There is no such thing.",
    405: "The address does not take this method.",
    409: "Something else holds the workspace, or the task is in the wrong state.",
    413: "The body is larger than allowed.",
    422: "The request is malformed; `details.fields` names what is wrong.",
    429: "Too many requests; `Retry-After` says how many seconds to wait.",
    500: "A fault of AutoScorer itself.",
    502: "A registry or judge did not deliver.",
    503: "The Prefect server, or what is to run a model, is away.",
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its ``responses``; those that every route has come by themselves."""
    return {status: {"model": ErrorEnvelope, "description": _MEANINGS[status]} for status in sorted(statuses)}


def served(status: int, model: Any, description: str, example: Any = None) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that was served, for its ``responses``.

    Args:
        status: HTTP status.
        model: What ``data`` holds.
        description: When it is given.
        example: Of ``data``.
    """
    answer: dict[str, Any] = {"model": Envelope[model], "description": description}
    if example is not None:
        meta = {"timestamp": "2026-11-22T21:00:00Z", "version": __version__, "request_id": "5f0c2b7e9d1a4c38"}
        answer["content"] = {"application/json": {"example": {"ok": True, "data": example, "meta": meta}}}
    return {status: answer}


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
        statuses: Error statuses of all of its routes, beyond 401, 403, 405, 422, 429 and 500, which any route may give.
    """

    def __init__(self, tag: str, *statuses: int) -> None:
        super().__init__(
            tags=[tag],
            route_class=_Route,
            responses=answers(401, 403, 405, 422, 429, 500, *statuses),
        )


def _decode(body: bytes) -> Any:
    try:
        value = _decoder.decode(body)
    except RecursionError:
        raise _wrong(f"is nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, msgspec.MsgspecError) as error:
        why = str(error) if isinstance(error, msgspec.MsgspecError) else "it is no UTF-8, or a number is too long"
        raise _wrong(f"is not valid JSON: {why}") from None
    # Only such a body can hold what is refused; looking at every value of every body would cost more than the rest.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH or _SUSPICIOUS.search(body):
        _check_values(value)
    return value


def _check_values(value: Any) -> None:
    """Refuse what is valid JSON and would not survive on the way to Prefect and its database."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise _wrong("holds a whole number of more than 64 bits; write it as text")
            elif isinstance(item, str) and "\0" in item:
                raise _wrong("holds a text with the character NUL")
        if not below:
            return
        level = below
    raise _wrong(f"is nested deeper than {MAX_DEPTH} levels")


def _wrong(why: str) -> RefusedBody:
    return RefusedBody(AutoScorerError(ErrorCode.INVALID_REQUEST, f"The body {why}."))
