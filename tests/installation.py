"""A live installation: `autoscorer up` with real servers, workers and API. Tests import the fixture ``installation``.

It is started once for the session, in folders of its own, on free ports, with a token for each role. It ends with it,
and nothing of it may be left: that is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Installation", "installation"]


class Installation:
    """Where it is, and questions to it."""

    url: str  # of the API, such as http://127.0.0.1:8000
    prefect_url: str  # of Prefect's API, …/api
    home: Path
    root: Path  # its only workspace root

    @property
    def roots(self) -> tuple[Path, ...]:
        return (self.root,)

    def token(self, role: str) -> str:
        """The token of ``submit`` or ``admin``."""
        raise NotImplementedError

    def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        role: str | None = "submit",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """One request to the API: status and envelope. ``role`` None sends no token."""
        raise NotImplementedError

    def workspace(self, name: str, *, pred: str | None = "good", **meta: Any) -> Path:
        """A small workspace under the root that can be scored at once; keywords go into meta.json."""
        raise NotImplementedError

    def pids(self) -> dict[str, list[int]]:
        """The processes: up, server, api, workers."""
        raise NotImplementedError


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation for the whole session."""
    raise NotImplementedError
    yield
