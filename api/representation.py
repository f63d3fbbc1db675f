"""What an answer in an envelope is on the wire: not sent again to whoever has it, and small.

The entity tag is of what is told and to whom, not of the envelope's time and request id. So it is a weak one: two
answers with one tag differ in these.

Starlette's middleware is not used for gzip: it would compress streams of records too, which then come late, and answers
with secrets. Here it is answers to GET alone, and none of them holds a secret beside text that others choose, which the
length of a compressed answer could betray (BREACH): signed links are given by POST, tokens by no route.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .context import context_of

__all__ = ["JSON", "represented"]

JSON = "application/json"

# Bytes that travel in one packet anyway, and bytes that are compressed before others get their turn.
_SMALL, _PIECE = 1400, 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_TAGS = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def represented(request: HTTPConnection, told: bytes, body: bytes, headers: Mapping[str, str] | None) -> Response:
    """The answer to a GET that was served; 304 without a body where whoever asks has it.

    Args:
        request: The request.
        told: What is answered, without what differs from one answer to the next.
        body: The whole.
        headers: Further headers.
    """
    context = context_of(request)
    caller = "" if context.caller is None else context.caller.name
    digest = hashlib.blake2b(told, key=hashlib.sha256(caller.encode()).digest(), digest_size=16).hexdigest()
    tag = f'"{digest}"'
    varies = ", ".join([*filter(None, [(headers or {}).get("Vary")]), "Accept-Encoding"])
    sent = {**(headers or {}), "ETag": f"W/{tag}", "Vary": varies}
    asked = context.headers.get(b"if-none-match", b"").strip()
    if asked == b"*" or tag.encode() in _TAGS.findall(asked):
        return Response(status_code=304, headers=sent)
    return _Compressible(body, headers=sent, media_type=JSON)


class _Compressible(Response):
    """An answer that is compressed as it is sent, for whoever takes it so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) > _SMALL and _takes_gzip(context_of(HTTPConnection(scope)).headers):
            self.body = await _compressed(memoryview(self.body))
            self.headers["Content-Encoding"] = "gzip"
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


async def _compressed(body: memoryview) -> bytes:
    # Here and not in a thread: the threads may all wait for a folder on a network.
    packer, packed = zlib.compressobj(wbits=_GZIP), list[bytes]()
    for start in range(0, len(body), _PIECE):
        if start:
            await asyncio.sleep(0)
        packed.append(packer.compress(body[start : start + _PIECE]))
    return b"".join([*packed, packer.flush()])


def _takes_gzip(headers: Mapping[bytes, bytes]) -> bool:
    weights = {}
    for each in headers.get(b"accept-encoding", b"").lower().split(b","):
        name, *params = (part.strip() for part in each.split(b";"))
        weights[name] = not any(re.fullmatch(rb"q\s*=\s*0(\.0*)?", param) for param in params)
    return weights.get(b"gzip", weights.get(b"*", False))
