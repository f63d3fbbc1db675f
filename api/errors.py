"""Every exception as the envelope of an error of the catalogue: nothing else leaves the facade."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match

from ..core.errors import AutoScorerError, ErrorCode
from ..core.storage import full_disk
from ..core.text import replace
from .context import context_of
from .envelope import failure
from .outgoing import outgoing
from .pages import HTML, error_page, is_for_a_person

__all__ = ["RefusedBody", "invalid_request", "refusal", "register", "unexpected"]

logger = logging.getLogger(__name__)

# More would only repeat themselves: a batch may have ten thousand wrong items.
_SHOWN = 20
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


class RefusedBody(HTTPException):
    """The body is refused while it is being read.

    An HTTPException, because FastAPI lets nothing else pass where it reads bodies.
    """

    def __init__(self, error: AutoScorerError) -> None:
        super().__init__(error.spec.http_status)
        self.error = error


def register(app: FastAPI) -> None:
    """Let ``app`` answer every exception with an envelope."""
    app.add_exception_handler(AutoScorerError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def invalid_request(problems: Iterable[Mapping[str, Any]]) -> AutoScorerError:
    """pydantic's findings as one error that names the fields, and never what stood in them."""
    fields = [
        {"field": _field(problem["loc"]), "message": str(problem["msg"]).removeprefix("Value error, ")}
        for problem in problems
    ]
    shown = fields[:_SHOWN]
    more = f"; and {len(fields) - len(shown)} more" if len(fields) > len(shown) else ""
    text = "; ".join(f"{item['field']}: {item['message']}" for item in shown)
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST, f"The request is not valid: {text}{more}.", details={"fields": shown}
    )


def unexpected(error: Exception, request_id: str, home: Path) -> AutoScorerError:
    """Our own fault, or a full disk of the home: all of it into the log, only where to look into the answer."""
    logger.error("unexpected exception", exc_info=error, extra={"fields": {"request_id": request_id}})
    # Routes write to the home alone; what goes into workspaces knows their disk.
    return full_disk(error, home=home) or AutoScorerError(
        ErrorCode.INTERNAL_ERROR,
        f"A fault of AutoScorer itself. The server's log tells more under the request id {request_id}.",
        details={"request_id": request_id},
    )


def _headers_of(error: AutoScorerError) -> dict[str, str]:
    """Headers that belong to an error."""
    if error.code is ErrorCode.UNAUTHORIZED:
        given = ', error="invalid_token"' if error.details.get("token_was_given") else ""
        return {"WWW-Authenticate": f'Bearer realm="autoscorer"{given}'}
    if error.code in (ErrorCode.RATE_LIMITED, ErrorCode.QUOTA_EXCEEDED) and "retry_after" in error.details:
        return {"Retry-After": str(error.details["retry_after"])}
    return {}


def _field(location: Iterable[Any]) -> str:
    # A name may be anything that a stranger wrote.
    parts = [replace(str(part))[:100] for part in location]
    return ".".join(parts) if parts else "body"


def _allowed(request: Request) -> list[str]:
    """Every method that the address of a request takes."""
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def refusal(request: HTTPConnection, error: AutoScorerError) -> Response:
    """The answer to a request that was not served: an envelope, or a page for who follows a link in a browser."""
    if is_for_a_person(request.scope["path"], context_of(request).headers):
        told = AutoScorerError.from_dict(outgoing(request).error(error))
        return Response(error_page(told), error.spec.http_status, _headers_of(error), media_type=HTML)
    return failure(request, error, headers=_headers_of(error))


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, AutoScorerError)
    if error.spec.http_status >= 500:
        logger.error("request failed: %s", error, extra={"fields": {"request_id": context_of(request).request_id}})
    return refusal(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    known = invalid_request(error.errors())
    if isinstance(error.body, bytes) and error.body:
        # FastAPI reads JSON only where it is said to be some.
        known.message += " Send JSON, with the header `Content-Type: application/json`."
    return failure(request, known)


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves."""
    assert isinstance(error, HTTPException)
    if isinstance(error, RefusedBody):
        return failure(request, error.error)
    if error.status_code == 404:
        known = AutoScorerError(ErrorCode.NOT_FOUND, "There is nothing at this address; /openapi.json lists what is.")
    elif error.status_code == 405:
        # The router knows the methods of the first route that it found; an address may belong to several.
        allowed = ", ".join(_allowed(request))
        known = AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"This address does not take {request.method}; expected {allowed}."
        )
        return failure(request, known, status=405, headers={"Allow": allowed})
    elif error.status_code < 500:
        known = AutoScorerError(ErrorCode.INVALID_REQUEST, f"The request can't be read: {error.detail}.")
        return failure(request, known, headers=error.headers)
    else:
        known = unexpected(error, context_of(request).request_id, request.app.state.settings.home)
    return failure(request, known, status=error.status_code, headers=error.headers)
