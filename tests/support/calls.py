"""One HTTP request, and what came back: how every test talks to a server that it does not hold a client of."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Answer", "call"]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def data(self) -> Any:
        envelope = self.json
        assert envelope["ok"] is True, envelope
        return envelope["data"]

    @property
    def error(self) -> Any:
        envelope = self.json
        assert envelope["ok"] is False, envelope
        assert set(envelope) == {"ok", "error", "meta"}
        assert set(envelope["error"]) == {"code", "message", "stage", "details"}
        return envelope["error"]


def call(
    url: str,
    method: str = "GET",
    body: Any = None,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 120.0,
) -> Answer:
    """Ask on a connection of its own; no redirect is followed, and no status is an error.

    Args:
        url: Where.
        method: How.
        body: Sent as JSON; bytes as they are.
        token: Shown as a bearer's.
        headers: Sent too, and stronger than what follows from the others.
        timeout: Seconds without a word of the server's.

    Raises:
        OSError: Nobody answers.
    """
    place = urlsplit(url)
    sent = {}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if data is not None:
        sent["Content-Type"] = "application/json"
    assert place.hostname is not None, url
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)
    try:
        connection.request(method, url.partition(place.netloc)[2] or "/", data, {**sent, **(headers or {})})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()
