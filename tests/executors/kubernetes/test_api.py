"""Asking the API server: what it says is mapped once, and what passes is asked again."""

from __future__ import annotations

import inspect
import json
import socket
import ssl
import threading
import time
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import websockets.exceptions
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.kubernetes.api import KubernetesApi
from autoscorer.executors.kubernetes.errors import ApiError, api_errors
from autoscorer.executors.kubernetes.kubeconfig import Access

# --- no exception of a library's gets past the map -----------------------------------------------------------------


def _classes(*modules: types.ModuleType) -> list[type[Exception]]:
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception) and not issubclass(value, Warning)
        if value.__module__.split(".")[0] in ("httpx", "websockets")
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


LIBRARIES = _classes(httpx, websockets.exceptions)
BELOW: list[type[Exception]] = [
    ConnectionRefusedError,
    ConnectionResetError,
    BrokenPipeError,
    FileNotFoundError,
    TimeoutError,
    socket.gaierror,
    ssl.SSLError,
    ssl.SSLCertVerificationError,
    EOFError,
]


def test_the_walk_finds_the_libraries_exceptions() -> None:
    names = {cls.__name__ for cls in LIBRARIES}
    assert {"ConnectError", "ReadTimeout", "RemoteProtocolError", "ConnectionClosedError", "InvalidStatus"} <= names


def _instance(cls: type[Exception]) -> Exception:
    """An instance, with as many plain arguments as the class asks for."""
    response = types.SimpleNamespace(status_code=500, headers={}, code=1000, reason="broken")
    if cls is httpx.HTTPStatusError:
        return cls("broken", request=None, response=None)  # type: ignore[call-arg]
    forms = [[value] * count for count in range(5) for value in ("broken", None, 3, response)]
    for arguments in forms:
        try:
            error = cls(*arguments)
            str(error)
        except Exception:  # the next form may do
            continue
        return error
    raise AssertionError(f"no way is known to make a {cls}")


@pytest.mark.parametrize("cls", [*LIBRARIES, *BELOW], ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_no_exception_of_a_library_gets_past_the_map(cls: type[Exception]) -> None:
    with pytest.raises(ApiError) as caught, api_errors("do a thing"):
        raise _instance(cls)
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE and caught.value.is_passing
    assert caught.value.message.startswith("Could not do a thing: ") and "\n" not in caught.value.message


def test_our_own_errors_and_programming_errors_pass_unchanged() -> None:
    ours = AutoScorerError(ErrorCode.IMAGE_NOT_FOUND, "gone")
    with pytest.raises(AutoScorerError) as caught, api_errors("do a thing"):
        raise ours
    assert caught.value is ours
    with pytest.raises(ZeroDivisionError), api_errors("do a thing"):
        raise ZeroDivisionError


# --- what is asked again -------------------------------------------------------------------------------------------


class Server:
    """Answers with one status after the other; the last one stays."""

    def __init__(self, *answers: tuple[int, Any, dict[str, str]]) -> None:
        self.seen: list[tuple[str, str | None]] = []
        outer, left = self, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer.seen.append((self.path, self.headers.get("Authorization")))
                status, body, headers = left.pop(0) if len(left) > 1 else left[0]
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.tokens = iter(f"Bearer {number}" for number in range(100))
        self._token = next(self.tokens)
        self.api = KubernetesApi(Access(f"http://127.0.0.1:{self._server.server_address[1]}", False, self._authorize))

    def _authorize(self, again: bool) -> str:
        if again:
            self._token = next(self.tokens)
        return self._token

    def close(self) -> None:
        self.api.close()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*answers: Any) -> Server:
        full = [each if isinstance(each, tuple) else (each, {"message": f"said {each}"}, {}) for each in answers]
        made.append(Server(*[(*each, {})[:3] if len(each) == 2 else each for each in full]))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(serve: Callable[..., Server], status: int) -> None:
    server = serve(status, status, (200, {"found": 1}))
    assert server.api.get("/x", "ask") == {"found": 1}
    assert len(server.seen) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422])
def test_what_stays_is_asked_once_and_told_in_the_servers_words(serve: Callable[..., Server], status: int) -> None:
    server = serve((status, {"message": "the reason", "reason": "Word"}))
    with pytest.raises(ApiError) as caught:
        server.api.get("/x", "look")
    assert (caught.value.status, caught.value.reason, len(server.seen)) == (status, "Word", 1)
    assert f"refused to look (HTTP {status}): the reason" in caught.value.message


def test_it_waits_as_long_as_the_server_asks_and_no_longer_than_it_may(serve: Callable[..., Server]) -> None:
    server = serve((429, {}, {"Retry-After": "1"}), (200, {}))
    began = time.monotonic()
    server.api.get("/x", "ask")
    assert time.monotonic() - began >= 1
    server = serve((429, {}, {"Retry-After": "60"}))
    with pytest.raises(ApiError):
        server.api.get("/x", "ask", patience=2)
    assert len(server.seen) == 1


def test_credentials_that_were_refused_are_read_again_once(serve: Callable[..., Server]) -> None:
    server = serve(401, (200, {}))
    server.api.get("/x", "ask")
    assert [token for _, token in server.seen] == ["Bearer 0", "Bearer 1"]
    server = serve(401)
    with pytest.raises(ApiError) as caught:
        server.api.get("/x", "ask")
    assert len(server.seen) == 2 and "credentials" in caught.value.message


def test_a_server_that_is_not_there_is_waited_for(serve: Callable[..., Server]) -> None:
    probe = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    probe.close()
    api = KubernetesApi(Access(address, False, lambda again: None))
    began = time.monotonic()
    with pytest.raises(ApiError) as caught:
        api.get("/x", "ask", patience=1)
    assert 0.2 < time.monotonic() - began < 10 and caught.value.status is None
    with pytest.raises(AutoScorerError) as ended:
        api.get("/x", "ask", patience=60, cancelled=lambda: True)
    assert ended.value.code == "CANCELLED"
    api.close()


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b"[1]", b"", b"\xff"])
def test_who_answers_in_other_words_is_no_api_server(serve: Callable[..., Server], body: bytes) -> None:
    server = serve((200, body))
    with pytest.raises(ApiError) as caught:
        server.api.get("/x", "ask", patience=0)
    assert "no API server" in caught.value.message


def test_an_error_is_one_line_whatever_the_server_says(serve: Callable[..., Server]) -> None:
    server = serve((403, {"message": "a\nb " * 5000}))
    with pytest.raises(ApiError) as caught:
        server.api.get("/x", "ask")
    assert "\n" not in caught.value.message and len(caught.value.message) < 700
