"""Who computed what, with which code, on which bytes."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Owner", "current_flow_run", "hostname", "sha256_file", "utc_now"]

# The Prefect flow run that this code works for: its id goes into every Result, so that nobody takes an older Result for
# this run's. Set where a flow run begins; the layers below do not know Prefect.
current_flow_run: ContextVar[str | None] = ContextVar("autoscorer_flow_run", default=None)


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


class Owner:
    """A process, named so that a later one can tell whether it still lives.

    A PID alone is reused; with the boot, the PID namespace and the start time it is unique. Written as text into
    container labels and run records.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split("|")
        self._parts = parts if len(parts) == 5 else ["", "", "", "", ""]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """A process of this host, as it is now; one that is gone already counts as dead."""
        return cls("|".join([hostname(), _boot(), _pid_namespace(), str(pid), _started(pid) or "0"]))

    @property
    def is_in_sight(self) -> bool:
        """Whether ``is_dead`` can know: it ran on this host, and if since the last boot, in this PID namespace."""
        host, boot, namespace, _, _ = self._parts
        return host == hostname() and (boot != _boot() or namespace == _pid_namespace())

    def is_dead(self) -> bool:
        """True only when it is certain: same host, and another boot or no such process any more.

        An owner on another host or in another PID namespace can't be seen from here and counts as alive.
        """
        host, boot, namespace, pid, started = self._parts
        if host != hostname():
            return False
        if boot != _boot():
            return True
        # Written by whoever made the label or record, so not every text is a number.
        if namespace != _pid_namespace() or not re.fullmatch("[0-9]{1,10}", pid):
            return False
        return _started(int(pid)) != started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, or None when there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
