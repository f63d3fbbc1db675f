"""One JSON object a line on stderr; one line a request, with its ids and without its secrets."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.logs import log_to_stderr
from .auth import SIGNED
from .context import RequestContext, request_id_of
from .envelope import failure
from .errors import unexpected

if TYPE_CHECKING:
    from .metrics import Metrics

__all__ = ["RequestObserver", "completed", "configure_logging", "route_of"]

_requests = logging.getLogger("autoscorer.request")

# Nginx's word for a client that left before its answer.
_CLIENT_LEFT = 499
# On every answer, unless its route says otherwise (the page and the artifacts have policies of their own).
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


def configure_logging() -> None:
    """Send this process's log to stderr as JSON: ours, and what the web server has to say."""
    log_to_stderr(as_json=True, also=["uvicorn"])


class RequestObserver:
    """The outermost layer: a request's id, its line in the log, its count, and an envelope whatever happens.

    Args:
        app: What is inside.
        metrics: Counts the request.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        context = RequestContext(request_id_of(headers.get(b"x-request-id")), headers)
        scope.setdefault("state", {})["context"] = context

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                # uvicorn's own access log, where somebody has it on, takes the address from here.
                hide_signature(scope)
                message["headers"] = completed(message.get("headers", ()), context.request_id)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            await self._failed(error, scope, context, receive, observed)
        finally:
            self._note(scope, context)

    async def _failed(
        self, error: Exception, scope: Scope, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        known = unexpected(error, context.request_id, scope["app"].state.settings.home)
        if context.status is not None:
            return  # half an answer is out: the server closes the connection when the rest does not come
        await failure(HTTPConnection(scope), known)(scope, receive, send)

    def _note(self, scope: Scope, context: RequestContext) -> None:
        seconds = time.perf_counter() - context.started
        route, status = route_of(scope), context.status or _CLIENT_LEFT
        self._metrics.request(scope["method"], route, status, seconds)
        fields = {
            "request_id": context.request_id,
            "task_id": context.task_id,
            "caller": context.caller.name if context.caller else None,
            "method": scope["method"],
            # Never the address as it came: what stands in a query may be meant for us alone.
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
        }
        _requests.info("request", extra={"fields": fields})


def hide_signature(scope: Scope) -> None:
    """Take the signature out of the address of a signed link, which nobody may read in a log."""
    if scope["path"].startswith(SIGNED):
        below = scope["path"].removeprefix(SIGNED).partition("/")[2]
        scope["path"] = f"{SIGNED}…/{below}"
        scope["raw_path"] = scope["path"].encode()


def route_of(scope: Scope) -> str | None:
    """The template of the route that served a request (``/tasks/{task_id}``); None where there is none."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None


def completed(given: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    """A head of an answer, with the headers that every answer has."""
    headers = [*given]
    names = {name.lower() for name, _ in headers}
    headers += [header for header in _HEADERS if header[0] not in names]
    headers.append((b"x-request-id", request_id.encode("ascii")))
    return headers
