"""Files as answers: an artifact as it is, in no envelope, with headers under which it runs and loads nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..service.workspaces.reading import ArtifactFile
from .context import context_of

__all__ = ["FILE", "file_answer", "result_answer", "result_text"]

_CHUNK = 256 * 1024
_DOWNLOAD_SECONDS = 3600.0
# An artifact is made from what a stranger's model wrote. Of a report, links to files that a browser saves must work.
SEALED = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-downloads",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
# What a browser shows by itself; the rest is saved.
_SHOWN = ("text/", "image/", "application/json")

# The answer of such a route, for its ``responses``.
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file itself, in no envelope, with its media type.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def file_answer(request: Request, artifact: ArtifactFile) -> Response:
    """An artifact that is open; it is closed when it has been sent."""
    context_of(request).allow(_DOWNLOAD_SECONDS)
    kind = "inline" if artifact.media_type.startswith(_SHOWN) else "attachment"
    headers = {
        **SEALED,
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(artifact.name, safe='')}",
        "Content-Length": str(artifact.size),
    }
    return StreamingResponse(_content(artifact), headers=headers, media_type=artifact.media_type)


def result_answer(text: bytes) -> Response:
    """A result.json, for the link of a report that leads to it."""
    return Response(text, headers=SEALED, media_type="application/json")


def result_text(data: dict[str, Any]) -> bytes:
    """A Result as result.json has it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    return text.encode("utf-8", "backslashreplace")


async def _content(artifact: ArtifactFile) -> AsyncIterator[Any]:
    # As many bytes as were announced, even if somebody writes to the file meanwhile.
    left = artifact.size
    with artifact.file as file:
        while left and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
