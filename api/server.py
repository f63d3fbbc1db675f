"""The facade's web server: uvicorn, told what it must not do."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from types import FrameType

import uvicorn
from starlette.datastructures import State
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.loopback import is_loopback_name
from ..core.tokens import needs_tokens
from ..service.logs import tell_configuration
from .access import Access
from .app import create_app
from .asgi import EnvironmentApp
from .context import request_id_of
from .envelope import JSON, error_envelope
from .logging import completed, configure_logging
from .responses import MAX_ADDRESS, MAX_HEAD

__all__ = ["FacadeServer", "app", "serve", "server_config"]

logger = logging.getLogger(__name__)

# Seconds that a client has for the head of its request; uvicorn bounds neither this nor its size.
_HEAD_SECONDS = 15.0
# Seconds between two requests on a connection; more than the usual 60 of proxies is not needed.
_KEEP_ALIVE = 65
# Seconds for answers that are under way when the server is stopped.
_GRACE = 10

# For whoever brings a server of their own.
app = EnvironmentApp()


class FacadeServer(uvicorn.Server):
    """A server that lets answers which wait or stream come to their end before it ends.

    Args:
        config: How it serves.
        state: The application's.
        drain: Seconds that it goes on serving after the first signal, as ``api.drain`` says.
    """

    def __init__(self, config: uvicorn.Config, state: State, *, drain: float = 0) -> None:
        super().__init__(config)
        self._state, self._drain = state, drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, unless the application could not start."""
        await super().startup(sockets)
        if self._state.failure is not None:
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: stop, at the second one at once, and at the third do not wait for answers either."""
        # uvicorn would raise the signal again at the end, and a server that was asked to stop has not failed.
        self.force_exit = self.should_exit
        loop: asyncio.AbstractEventLoop | None = getattr(self._state, "loop", None)
        if not self._drain or loop is None or self._state.draining:
            self.stop()
            return
        self._state.draining = True
        logger.info("told to stop; serving for %g s more, until nobody sends anything here", self._drain)
        loop.call_soon_threadsafe(loop.call_later, self._drain, self.stop)

    def stop(self) -> None:
        """Stop serving, from any thread."""
        self.should_exit = True
        loop: asyncio.AbstractEventLoop | None = getattr(self._state, "loop", None)
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._state.stopping.set)


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on the head of a request, and an envelope for what is no HTTP at all."""

    _head_timer: asyncio.TimerHandle | None = None
    # Bytes since the head began, whole or not, and of its address and whole headers alone.
    _head_bytes = 0
    _head_size = 0
    _address_size = 0
    _in_head = True
    # What is too large, and how large it may be.
    _excess: tuple[str, int] | None = None
    # Whose the connection is, where that decides who is served.
    _peer_uid: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        access: Access = self.config.app.state.access  # type: ignore[union-attr]
        # Once for all requests of the connection, and at its beginning: a closed socket is nobody's.
        self._peer_uid = access.peer_uid(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has gone."""
        self._drop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request have come."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self._excess = ("its head", MAX_HEAD)
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["state"]["peer_uid"] = self._peer_uid
        self._in_head, self._head_size, self._head_bytes, self._address_size = True, 0, 0, 0
        if self._head_timer is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._address_size += len(url)
        if self._address_size > MAX_ADDRESS:
            self._refuse("its address", MAX_ADDRESS)
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            self._refuse("its head", MAX_HEAD)

    def _refuse(self, what: str, limit: int) -> None:
        self._excess = (what, limit)
        raise ValueError  # the parser passes it on as a request that can't be read

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        self._in_head, self._head_bytes = False, 0
        self._drop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be read, and close."""
        details = {}
        if self._excess is not None:
            what, limit = self._excess
            msg, details = f"{what} is larger than {limit:,} bytes.", {"limit": limit}
        error = AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"This is not a request that can be read: {msg}", details=details
        )
        request_id = request_id_of(None)
        body = error_envelope(error.to_dict(), request_id)
        head = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % item for item in completed(head, request_id))
        self.transport.write(STATUS_LINE[400] + lines + b"\r\n" + body)
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            # A request is being served, and the next one's head has begun; closing would cut off the answer.
            self._await_head()

    def _drop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def server_config(settings: Settings, host: str, port: int) -> tuple[uvicorn.Config, State]:
    """How the facade is served, and the application's state.

    Args:
        settings: The configuration.
        host: Address to listen on.
        port: Port; 0 for any.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for an address that others reach where no tokens are configured.
    """
    if not needs_tokens(settings) and not is_loopback_name(host):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"Without tokens the API is served on this machine only, and {host!r} can be reached by others. Set "
            "AUTOSCORER_API_TOKENS (role:token, the roles are submit, organiser and admin), or use --host 127.0.0.1.",
            stage=Stage.CONFIG,
        )
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=_Protocol,
        ws="none",
        lifespan="on",
        # Ours has the request's id, and not its query.
        access_log=False,
        log_config=None,
        server_header=False,
        # Whoever can reach this port could name any address.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    return config, app.state


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve the facade until SIGINT or SIGTERM.

    Args:
        settings: The configuration.
        host: Address to listen on.
        port: Port; 0 for any.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for an address that can't be used, or must not be without tokens.
    """
    config, state = server_config(settings, host, port)
    listener = _listen(host, port)
    configure_logging()
    tell_configuration(settings)
    _tell(state.access, listener)
    server = FacadeServer(config, state, drain=settings.api.drain)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, server.handle_exit)
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
    if state.failure is not None:
        raise state.failure
    if not server.started:
        raise AutoScorerError(ErrorCode.INTERNAL_ERROR, "The API could not start; its log above says why.")


def _tell(access: Access, listener: socket.socket) -> None:
    """Who is served; and once, when it has just been made, the link with the token."""
    logger.info("serving %s", access.sentence)
    host, port = listener.getsockname()[:2]
    link = access.sign_in(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    if link is not None:
        logger.info("this once, a link that signs the records page in: %s", link)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is begun, so that one that is taken costs nothing."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The API can't listen on {host}, port {port}: {error.strerror}. Choose another with --host and --port.",
            stage=Stage.CONFIG,
        ) from None
    return listener
