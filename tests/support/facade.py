"""The facade as it is served: the real application under the real web server, in a thread of the tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoscorer.api.server import FacadeServer, server_config
from autoscorer.core.config import Settings

from .calls import Answer, call

__all__ = ["ADMIN", "SUBMIT", "Answer", "Facade", "facade", "facade_settings"]

SUBMIT, ADMIN = "submit-token-of-the-tests", "admin-token-of-the-tests"


@dataclass
class Facade:
    """A facade that is being served."""

    host: str
    port: int
    server: FacadeServer
    state: Any
    settings: Settings
    token: str | None = None
    answers: list[Answer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request, with this token or its own."""
        shown = self.token if token is None else token
        answer = call(self.url + path, method, body, token=shown, headers=headers)
        self.answers.append(answer)
        return answer

    def connect(self) -> socket.socket:
        """A plain connection."""
        return socket.create_connection((self.host, self.port), timeout=30)

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are and read until the server closes."""
        with self.connect() as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except OSError:
                    break  # the server has had enough; what it said is still to be read
            received = b""
            while True:
                try:
                    data = connection.recv(65536)
                except ConnectionError:
                    return received
                if not data:
                    return received
                received += data


@contextmanager
def facade(settings: Settings, *, host: str = "127.0.0.1", prepare: Any = None) -> Iterator[Facade]:
    """Serve the facade for a block.

    Args:
        settings: The configuration.
        host: Address to listen on.
        prepare: Takes the FastAPI application before it is served.
    """
    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    config, state = server_config(settings, host, port)
    if prepare is not None:
        prepare(config.app)
    server = FacadeServer(config, state)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="facade")
    thread.start()
    try:
        deadline = time.monotonic() + 300
        while not server.started:
            assert thread.is_alive(), "the facade did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if state.failure is not None:
            raise state.failure
        yield Facade(host, port, server, state, settings)
    finally:
        server.stop()
        thread.join(300)
        listener.close()
        assert not thread.is_alive(), "the facade did not stop"


def facade_settings(root: Path, *, tokens: bool = True, **sections: Any) -> Settings:
    """The configuration of a facade: one workspace root, a token for each role, a Prefect server that is away unless
    ``prefect`` names one."""
    values: dict[str, Any] = {"workspace_roots": [root], **sections}
    if tokens:
        values.setdefault("api_tokens", f"submit:{SUBMIT},admin:{ADMIN}")
    # Not PREFECT_API_URL's: other tests of this process may have a server, whose tasks would come into the ledger.
    values.setdefault("prefect", {"api_url": "http://127.0.0.1:9/api"})
    home = values.pop("home", None)
    settings = Settings(**values)
    # The environment, which has a home for every test, is stronger than what is given here.
    return settings if home is None else settings.model_copy(update={"home": home})
