"""Every answer in the one shape of ``schemas/envelope.py``, without a path of this host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ..core.errors import AutoScorerError
from ..core.provenance import utc_now
from ..core.version import __version__
from .context import context_of
from .outgoing import outgoing
from .representation import JSON, represented

__all__ = ["JSON", "encode", "envelope", "enveloped", "error_envelope", "failure"]

_encoder = msgspec.json.Encoder()


def envelope(
    request: HTTPConnection, data: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that was served.

    Args:
        request: The request.
        data: What is answered; as much of it leaves as whoever asks may see (``outgoing``).
        status: HTTP status.
        headers: Further headers.
    """
    return enveloped(request, outgoing(request).answer(data), status=status, headers=headers)


def enveloped(
    request: HTTPConnection, told: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """As ``envelope``, for JSON that ``outgoing`` has let out."""
    data, meta = encode(told), encode(_meta(context_of(request).request_id))
    body = b'{"ok":true,"data":%b,"meta":%b}' % (data, meta)
    if status == 200 and request.scope["method"] == "GET":
        return represented(request, data, body, headers)
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
    body = error_envelope(outgoing(request).error(error), context_of(request).request_id)
    return Response(body, status or error.spec.http_status, headers, media_type=JSON)


def error_envelope(told: Mapping[str, Any], request_id: str) -> bytes:
    """The envelope of an error, as JSON, of which may leave what stands in it."""
    return encode({"ok": False, "error": told, "meta": _meta(request_id)})


def encode(value: Any) -> bytes:
    """Strict JSON, whatever the strings hold."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        # A file's name need not be UTF-8; what is not a character becomes its JSON escape.
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def _meta(request_id: str) -> dict[str, str]:
    return {"timestamp": utc_now(), "version": __version__, "request_id": request_id}
