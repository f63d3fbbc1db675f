"""The facade for a web server that somebody else starts: ``uvicorn autoscorer.api.server:app``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from ..core.config import load_settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.tokens import needs_tokens
from ..service.logs import tell_configuration
from .context import request_id_of
from .envelope import JSON, error_envelope
from .logging import completed, configure_logging

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["EnvironmentApp"]


class EnvironmentApp:
    """An ASGI application that is made when the server starts it, from the configuration of the environment.

    Importing it reads no configuration and makes no file. What keeps it from starting is told to the server in one
    line, and never raised: the server would log a traceback.

    It needs tokens: the user of a connection is known to ``autoscorer serve`` alone, which looks when it comes in.
    """

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the application."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _refuse(send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: AutoScorerError | None = None
        try:
            app = _made()
        except AutoScorerError as error:
            await receive()
            await send(_failed(error))
            return

        async def received() -> Message:
            # An application that could not start lets go of what it has before the server hears of it.
            return await receive() if failure is None else {"type": "lifespan.shutdown"}

        async def sent(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.complete":
                failure = app.state.failure
            if failure is None:
                await send(message)

        self._app = app
        try:
            await app(scope, received, sent)
        finally:
            self._app = None
        if failure is not None:
            await send(_failed(failure))


def _made() -> FastAPI:
    from .app import create_app

    settings = load_settings()
    if not needs_tokens(settings):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "No tokens are configured. Set AUTOSCORER_API_TOKENS (role:token, the roles are submit, organiser and "
            "admin), or make one with `autoscorer tokens new`; or use `autoscorer serve`, which needs none to serve "
            "your own user on this machine.",
            stage=Stage.CONFIG,
        )
    app = create_app(settings)
    configure_logging()
    tell_configuration(settings)
    # Ours has the request's id, and not its query.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    return app


async def _refuse(send: Send) -> None:
    error = AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        "The API was not started: its web server has to support ASGI's lifespan (uvicorn: --lifespan on, or auto).",
    )
    request_id = request_id_of(None)
    body = error_envelope(error.to_dict(), request_id)
    head = completed([(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body))], request_id)
    await send({"type": "http.response.start", "status": error.spec.http_status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _failed(error: AutoScorerError) -> Message:
    return {"type": "lifespan.startup.failed", "message": f"AutoScorer can't start. {error}"}
