"""The records page: one static page that asks this API like any other client."""

from __future__ import annotations

from pathlib import Path

from fastapi import Request
from starlette.responses import FileResponse, Response

from ...core.errors import AutoScorerError, ErrorCode
from ..routing import ApiRouter

__all__ = ["router"]

router = ApiRouter("service")

_STATIC = Path(__file__).resolve().parent.parent / "static"
# Named one by one: nothing else can be asked for, whatever lies there.
_SCRIPTS = (
    *("address.js", "api.js", "detail.js", "dom.js", "failure.js", "failures.js", "files.js", "language.js", "list.js"),
    *("log.js", "members.js", "records.js", "views.js", "words.js"),
)
_FILES = {
    "records.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8"),
}
_HEADERS = {
    # Its own script and style, the API it came from, pictures that it has fetched there with its token (blob:, which
    # only its own script can make), and nothing else; it stands in no other page.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    # Small, and must fit the API that serves it: after an update nobody sees the old one.
    "Cache-Control": "no-cache",
}


@router.get("/", include_in_schema=False)
@router.get("/records", include_in_schema=False)
async def records() -> Response:
    """The page."""
    return FileResponse(_STATIC / "records.html", media_type="text/html; charset=utf-8", headers=_HEADERS)


@router.get("/static/{name}", include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    """What belongs to it."""
    media_type = _FILES.get(name)
    if media_type is None:
        raise AutoScorerError(ErrorCode.NOT_FOUND, "There is nothing at this address; /openapi.json lists what is.")
    return FileResponse(_STATIC / name, media_type=media_type, headers=_HEADERS)
