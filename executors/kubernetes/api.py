"""The few calls of the API server that a run needs, as plain JSON over HTTP.

Official clients take seconds to import and a hundred megabytes, and some change the bytes of a log. What is needed here
are six requests a run, one watch a process, and one WebSocket for each direction of the files.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ...core.errors import AutoScorerError, ErrorCode
from .errors import ApiError, api_errors, refused
from .kubeconfig import Access

if TYPE_CHECKING:
    import httpx

__all__ = ["KubernetesApi", "interrupt"]

Json = dict[str, Any]

# Seconds to connect, and for an answer to come; a watch and a log are quiet for longer.
CONNECT, ANSWER = 10.0, 30.0
# Seconds between two attempts while the server is away: short at first, then calmer.
FIRST, MOST = 0.2, 5.0
# Seconds for which the server may be away before what needs it is given up: in the middle of a run, and before it.
PATIENCE, PATIENCE_BEFORE = 120.0, 15.0


class KubernetesApi:
    """One API server. Threads may share it.

    Args:
        access: Where it is, and who we are there.
    """

    def __init__(self, access: Access) -> None:
        import httpx

        self.access = access
        # Found by the tests and the benchmark: how many requests were made.
        self.requests = 0
        self._extensions = {"sni_hostname": access.server_name} if access.server_name else {}
        with api_errors("set up the connection to the cluster"):
            self._client = httpx.Client(
                base_url=access.server,
                verify=access.tls,
                proxy=access.proxy,
                trust_env=False,
                timeout=httpx.Timeout(ANSWER, connect=CONNECT, pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
                headers={"Accept": "application/json", "User-Agent": "autoscorer"},
            )

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()

    def get(self, path: str, action: str, **options: Any) -> Json:
        """As ``request`` with GET."""
        return self.request("GET", path, action, **options)

    def request(
        self,
        method: str,
        path: str,
        action: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        patience: float = PATIENCE,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Json:
        """Ask, again and again while the server is away. Whatever is asked for may be asked for twice.

        Args:
            method: Of HTTP.
            path: Of the resource.
            action: What it is for, as an infinitive, for messages.
            query: The query.
            body: Sent as JSON.
            patience: Seconds for which the server may be away.
            cancelled: Asked between attempts; True ends them.

        Raises:
            ApiError: The server stayed away, or refused.
            AutoScorerError: ``CANCELLED``.
        """
        end = time.monotonic() + patience
        pause = FIRST
        while True:
            try:
                return self._once(method, path, action, query, body)
            except ApiError as error:
                wait = error.retry_after or pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                if not error.is_passing or time.monotonic() + wait > end:
                    raise
            if cancelled():
                raise AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled.")
            time.sleep(min(wait, MOST))
            pause = min(2 * pause, MOST)

    def _once(self, method: str, path: str, action: str, query: Mapping[str, str | int] | None, body: Any) -> Json:
        for again in (False, True):
            with api_errors(action):
                self.requests += 1
                answer = self._client.request(
                    method,
                    path,
                    params=dict(query or {}),
                    content=json.dumps(body) if body is not None else None,
                    headers=self.headers(again, body is not None),
                    extensions=self._extensions,
                )
                if answer.status_code != 401:
                    break  # else the token may have been replaced meanwhile
        if not answer.is_success:
            raise refused(action, answer.status_code, _json(answer.content), answer.headers.get("Retry-After"))
        found = _json(answer.content)
        if not isinstance(found, dict):
            raise refused(action, 502, "what answered is no API server of Kubernetes")
        return found

    def headers(self, again: bool = False, with_body: bool = False) -> dict[str, str]:
        """Headers of a request: who we are.

        Args:
            again: Whether to read the credentials again, because the last ones were refused.
            with_body: Whether JSON is sent.
        """
        found = {"Content-Type": "application/json"} if with_body else {}
        authorization = self.access.authorization(again)
        return {**found, "Authorization": authorization} if authorization else found

    @contextlib.contextmanager
    def stream(
        self, path: str, action: str, *, query: Mapping[str, str | int], quiet: float | None
    ) -> Iterator[httpx.Response]:
        """An answer that goes on: a watch, or a log that is followed. It is tried once.

        Args:
            path: Of the resource.
            action: What it is for, for messages.
            query: The query.
            quiet: Seconds for which nothing may come; None for ever.

        Raises:
            ApiError: As ``request``; also while it is read.
        """
        import httpx

        timeout = httpx.Timeout(ANSWER, connect=CONNECT, read=quiet, pool=None)
        with api_errors(action):
            self.requests += 1
            with self._client.stream(
                "GET",
                path,
                params=dict(query),
                headers=self.headers(),
                timeout=timeout,
                extensions=self._extensions,
            ) as answer:
                if not answer.is_success:
                    raise refused(action, answer.status_code, _json(answer.read()))
                yield answer

    def websocket(self, path: str, query: list[tuple[str, str]], protocol: str) -> Any:
        """A connection of the sub-protocol of ``exec``, as a context manager.

        Raises:
            ApiError: The server refused, or did not answer. What the connection raises later is the caller's to map.
        """
        from websockets.exceptions import InvalidStatus
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        action = "open an exec connection to the pod"
        address = "ws" + self.access.server.removeprefix("http") + path + "?" + urlencode(query)
        secure: dict[str, Any] = {"ssl": self.access.tls} if self.access.tls is not False else {}
        if self.access.server_name and secure:
            secure["server_hostname"] = self.access.server_name
        with api_errors(action):
            self.requests += 1
            try:
                return connect(
                    address,
                    subprotocols=[Subprotocol(protocol)],
                    additional_headers=self.headers(),
                    user_agent_header="autoscorer",
                    proxy=self.access.proxy,
                    open_timeout=ANSWER,
                    close_timeout=5,
                    # Not every proxy of a kubelet answers pings; who waits here has a deadline of its own.
                    ping_interval=None,
                    compression=None,
                    max_size=4 * 1024**2,
                    **secure,
                )
            except InvalidStatus as error:
                body = _json(bytes(error.response.body or b""))
                raise refused(action, error.response.status_code, body) from error


def interrupt(answer: httpx.Response | None) -> None:
    """End a streamed answer that another thread reads: closing it would not wake that thread."""
    stream = answer.extensions.get("network_stream") if answer is not None else None
    held = stream.get_extra_info("socket") if stream is not None else None
    if held is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(held, socket.SHUT_RDWR)  # not TLS's own, which the reader is in the middle of


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content[:400].decode("utf-8", "replace")
