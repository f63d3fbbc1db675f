"""The pages: of the records, and of the API itself. Both are static, and ask this API like any other client."""

from __future__ import annotations

from pathlib import Path

from fastapi import Request
from starlette.responses import FileResponse, Response

from ...core.errors import AutoScorerError, ErrorCode
from ..routing import ApiRouter

__all__ = ["router"]

router = ApiRouter("service")

_API = Path(__file__).resolve().parent.parent
_STATIC, _VENDOR = _API / "static", _API / "vendor"
# Named one by one: nothing else can be asked for, whatever lies there.
_CSS, _JS = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
_SCRIPTS = (
    *("address.js", "api.js", "detail.js", "dom.js", "failure.js", "failures.js", "files.js", "job.js", "language.js"),
    *("list.js", "log.js", "members.js", "records.js", "views.js", "words.js"),
)
_FILES = {
    "records.css": (_STATIC, _CSS),
    "icon.svg": (_STATIC, "image/svg+xml"),
    **dict.fromkeys((*_SCRIPTS, "docs.js"), (_STATIC, _JS)),
    "swagger-ui.css": (_VENDOR / "swagger-ui", _CSS),
    "swagger-ui-bundle.js": (_VENDOR / "swagger-ui", _JS),
}
# Its own script and style, the API it came from, and nothing else; it stands in no other page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'{}; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    # Pictures that it has fetched with its token are blob:, which only its own script can make.
    "Content-Security-Policy": _POLICY.format(" blob:"),
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
    """The page of the records, which asks for a token where one is needed."""
    return FileResponse(_STATIC / "records.html", media_type="text/html; charset=utf-8", headers=_HEADERS)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """A page of this API, with every route, to try them; *Authorize* takes the token."""
    # The icons of its style sheet stand in the sheet itself.
    headers = {**_HEADERS, "Content-Security-Policy": _POLICY.format(" data:")}
    return FileResponse(_STATIC / "docs.html", media_type="text/html; charset=utf-8", headers=headers)


@router.get("/static/{name}", include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    """What belongs to these pages."""
    if name not in _FILES:
        raise AutoScorerError(ErrorCode.NOT_FOUND, "There is nothing at this address; /openapi.json lists what is.")
    folder, media_type = _FILES[name]
    return FileResponse(folder / name, media_type=media_type, headers=_HEADERS)
