"""When and where a Result was made, on which bytes, and for which flow run."""

from __future__ import annotations

import hashlib
import socket
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["current_attempt", "current_flow_run", "hostname", "sha256_file", "utc_now"]

# The Prefect flow run that this code works for: its id goes into every Result, so that nobody takes an older Result for
# this run's. Set where a flow run begins; the layers below do not know Prefect.
current_flow_run: ContextVar[str | None] = ContextVar("autoscorer_flow_run", default=None)
# Which attempt at it this is, where several hosts may come to work on it; None elsewhere.
current_attempt: ContextVar[int | None] = ContextVar("autoscorer_attempt", default=None)


def sha256_file(path: Path) -> bytes:
    """sha256 digest of a file's bytes (32 bytes)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def utc_now() -> str:
    """Now, as ISO 8601 in UTC with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def hostname() -> str:
    """This host's name."""
    return socket.gethostname()
