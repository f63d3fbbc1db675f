"""Every answer in the one shape of ``schemas/envelope.py``, without a path of this host."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ..core.errors import AutoScorerError
from ..core.provenance import utc_now
from ..core.version import __version__
from .context import context_of
from .disclosed import Shown, disclosed_error, disclosure_of, shown

__all__ = ["encode", "envelope", "error_envelope", "failure"]

JSON = "application/json"

_encoder = msgspec.json.Encoder()


def envelope(
    request: HTTPConnection, data: BaseModel | Shown, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that was served.

    Args:
        request: The request.
        data: What is answered; as much of it leaves as whoever asks may see (``disclosed``). The host's paths are
            taken out of its strings.
        status: HTTP status.
        headers: Further headers.
    """
    told = data if isinstance(data, Shown) else Shown(shown(data, disclosure_of(request)).model_dump(by_alias=True))
    body = encode({"ok": True, "data": redact_of(request)(told.value), "meta": _meta(context_of(request).request_id)})
    return Response(body, status, headers, media_type=JSON)


def failure(
    request: HTTPConnection,
    error: AutoScorerError,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request that was not served.

    Args:
        request: The request.
        error: Why.
        status: HTTP status; the catalogue's for the error's code when not given.
        headers: Further headers.
    """
    told = disclosed_error(request, error)
    body = encode({"ok": False, "error": redact_of(request)(told), "meta": _meta(context_of(request).request_id)})
    return Response(body, status or error.spec.http_status, headers, media_type=JSON)


def error_envelope(error: AutoScorerError, request_id: str, redact: Callable[[Any], Any]) -> bytes:
    """The error envelope as JSON."""
    return encode({"ok": False, "error": redact(error.to_dict()), "meta": _meta(request_id)})


def redact_of(request: HTTPConnection) -> Callable[[Any], Any]:
    """What takes the host's paths out of an answer."""
    redact: Callable[[Any], Any] = request.app.state.redact
    return redact


def encode(value: Any) -> bytes:
    """Strict JSON, whatever the strings hold."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        # A file's name need not be UTF-8; what is no character becomes its JSON escape.
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def _meta(request_id: str) -> dict[str, str]:
    return {"timestamp": utc_now(), "version": __version__, "request_id": request_id}
