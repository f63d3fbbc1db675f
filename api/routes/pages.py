"""The pages: of the records and all that belongs to them, and of the API itself. Both are static, and ask this API
like any other client."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastapi import Request
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ..routing import ApiRouter

__all__ = ["router"]

router = ApiRouter("service")

_API = Path(__file__).resolve().parent.parent
_STATIC, _VENDOR = _API / "static", _API / "vendor"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class _File:
    """A file of the pages, as it is and packed: read once, since it is a part of this program."""

    content: bytes
    packed: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path, media_type: str) -> Self:
        content = path.read_bytes()
        return cls(content, gzip.compress(content, mtime=0), media_type, f'"{hashlib.sha256(content).hexdigest()}"')


def _files() -> dict[str, _File]:
    """All that can be asked for, by its name below ``/static``: nothing else is, whatever lies there."""
    below = [(path.relative_to(_STATIC).as_posix(), path) for path in sorted(_STATIC.rglob("*"))]
    vendored = [(path.name, path) for path in (*_VENDOR.glob("preact/*.js"), *_VENDOR.glob("swagger-ui/*"))]
    return {name: _File.read(path, _TYPES[path.suffix]) for name, path in (*below, *vendored) if path.suffix in _TYPES}


_FILES = _files()
_PAGE = _File.read(_STATIC / "index.html", "text/html; charset=utf-8")
_DOCS = _File.read(_STATIC / "docs.html", "text/html; charset=utf-8")
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


def _answer(request: Request, file: _File, headers: dict[str, str] = _HEADERS) -> Response:
    more = {**headers, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if file.etag in (request.headers.get("if-none-match") or ""):
        return Response(status_code=304, headers=more)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, media_type=file.media_type, headers={**more, "Content-Encoding": "gzip"})
    return Response(file.content, media_type=file.media_type, headers=more)


@router.get("/", include_in_schema=False)
@router.get("/records", include_in_schema=False)
@router.get("/ui/{view:path}", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page, which asks for a token where one is needed; which view it shows, its scripts read in the address."""
    return _answer(request, _PAGE)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """A page of this API, with every route, to try them; *Authorize* takes the token."""
    # The icons of its style sheet stand in the sheet itself.
    return _answer(request, _DOCS, {**_HEADERS, "Content-Security-Policy": _POLICY.format(" data:")})


@router.get("/static/{name:path}", include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    """What belongs to these pages."""
    file = _FILES.get(name)
    if file is None:
        raise AutoScorerError(ErrorCode.NOT_FOUND, "There is nothing at this address; /openapi.json lists what is.")
    return _answer(request, file)
