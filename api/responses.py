"""How the answers of routes stand in the OpenAPI document: models, descriptions, examples."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.errors import CATALOGUE, ErrorCode
from ..core.version import __version__
from ..schemas.envelope import Envelope, ErrorEnvelope

__all__ = ["ANY_ROUTE", "MAX_ADDRESS", "MAX_HEAD", "answers", "bare", "served"]

_META = {"timestamp": "2026-11-22T21:00:00Z", "version": __version__, "request_id": "5f0c2b7e9d1a4c38"}

# Bytes that the address of a request may have (path and query, as they are sent), and its head with all headers.
MAX_ADDRESS, MAX_HEAD = 32 * 1024, 64 * 1024

# What any request may be answered with, whatever the route: by who asks, how large and how often, and by what is away.
ANY_ROUTE = (400, 401, 403, 405, 413, 422, 429, 500, 503)


class _Failure(NamedTuple):
    meaning: str
    code: ErrorCode
    message: str
    details: dict[str, Any]


_FAILURES = {
    400: _Failure(
        f"Not HTTP that can be read: malformed, an address of more than {MAX_ADDRESS:,} bytes, or a head of more than "
        f"{MAX_HEAD:,}. The connection is closed.",
        ErrorCode.INVALID_REQUEST,
        f"This is not a request that can be read: its address is larger than {MAX_ADDRESS:,} bytes.",
        {"limit": MAX_ADDRESS},
    ),
    401: _Failure(
        "No valid token.",
        ErrorCode.UNAUTHORIZED,
        "This needs a token: send the header `Authorization: Bearer TOKEN`.",
        {},
    ),
    403: _Failure(
        "The token may not do this, or the workspace lies outside of the workspace roots.",
        ErrorCode.FORBIDDEN,
        "This needs a token of the role admin; yours has the role submit.",
        {},
    ),
    404: _Failure("There is no such thing.", ErrorCode.NOT_FOUND, "There is no task 0190f2d4a1b3.", {}),
    405: _Failure(
        "The address does not take this method.",
        ErrorCode.INVALID_REQUEST,
        "This address does not take PUT; expected GET.",
        {},
    ),
    409: _Failure(
        "Something else holds the workspace, or the task is in the wrong state for this.",
        ErrorCode.CONFLICT,
        "The task has ended already: completed.",
        {},
    ),
    413: _Failure(
        "The body is larger than allowed.",
        ErrorCode.PAYLOAD_TOO_LARGE,
        "The body is larger than the 1048576 bytes that are taken here.",
        {"limit": 1048576},
    ),
    422: _Failure(
        "The request is malformed (`details.fields` names what is wrong), or what it is about is.",
        ErrorCode.INVALID_REQUEST,
        "The request is not valid: body.workspace: Field required.",
        {"fields": [{"field": "body.workspace", "message": "Field required"}]},
    ),
    429: _Failure(
        "Too many requests.",
        ErrorCode.RATE_LIMITED,
        "Too many requests: 200 a second are served. Try again in 1 s.",
        {"retry_after": 1},
    ),
    500: _Failure(
        "A fault of AutoScorer itself.",
        ErrorCode.INTERNAL_ERROR,
        "A fault of AutoScorer itself. The server's log tells more under the request id 5f0c2b7e9d1a4c38.",
        {"request_id": "5f0c2b7e9d1a4c38"},
    ),
    502: _Failure(
        "A registry or judge did not deliver.",
        ErrorCode.IMAGE_PULL_FAILED,
        "The registry could not deliver registry.example.org/team-a:1.",
        {},
    ),
    503: _Failure(
        "A service that is needed is unavailable, or did not answer in time.",
        ErrorCode.BACKEND_UNAVAILABLE,
        "The Prefect server does not answer: ConnectError.",
        {"why": "ConnectError"},
    ),
}

_HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}},
    405: {"Allow": {"description": "The methods it takes.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}

_TASK_HEADERS = {
    "Location": {"description": "The address of the task.", "schema": {"type": "string"}},
    "X-Task-Created": {
        "description": "false: it was there already, active or by the Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its ``responses``; those of ``ANY_ROUTE`` come by themselves."""
    return {status: _failure(status) for status in sorted(statuses)}


def served(
    status: int, model: Any, description: str, example: Any = None, *, of_task: bool = False
) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that was served, for its ``responses``.

    Args:
        status: HTTP status.
        model: What ``data`` holds.
        description: When it is given.
        example: Of ``data``.
        of_task: Whether it tells of a task that the request made or found, with the headers that say which.
    """
    answer: dict[str, Any] = {"model": Envelope[model], "description": description}
    if example is not None:
        answer["content"] = {"application/json": {"example": {"ok": True, "data": example, "meta": _META}}}
    if of_task:
        answer["headers"] = _TASK_HEADERS
    return {status: answer}


def bare(status: int, model: Any, description: str, example: Any) -> dict[int | str, dict[str, Any]]:
    """As ``served``, of a route that answers without an envelope."""
    content = {"application/json": {"example": example}}
    return {status: {"model": model, "description": description, "content": content}}


def _failure(status: int) -> dict[str, Any]:
    known = _FAILURES[status]
    error = {
        "code": known.code.value,
        "message": known.message,
        "stage": CATALOGUE[known.code].stage.value,
        "details": known.details,
    }
    answer: dict[str, Any] = {
        "model": ErrorEnvelope,
        "description": known.meaning,
        "content": {"application/json": {"example": {"ok": False, "error": error, "meta": _META}}},
    }
    if status in _HEADERS:
        answer["headers"] = _HEADERS[status]
    return answer
