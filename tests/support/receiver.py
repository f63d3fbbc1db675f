"""A receiver of callbacks. Tests import the fixture ``receiver``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

__all__ = ["Receiver", "receiver"]


class Receiver:
    """Takes callbacks, and answers them with its statuses in turn, the last one for ever."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(receiver.statuses[min(len(receiver.requests), len(receiver.statuses)) - 1])
                self.end_headers()

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def told(self) -> list[dict[str, Any]]:
        """The tasks that it was told of."""
        return [json.loads(body)["data"] for _, body in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()
