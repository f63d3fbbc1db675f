"""Which process listens on a port of this host: a program that finds it taken can say by whom."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Listener", "find_listener", "user_name"]

_LISTENS = "0A"
# What of a command line tells our own processes from others.
_OURS = re.compile(r"\bautoscorer\b")


@dataclass(frozen=True)
class Listener:
    """A process that listens."""

    pid: int
    user: str
    # ISO 8601, UTC.
    since: str
    command: str
    # Its AUTOSCORER_HOME; None where that is not set or may not be seen.
    home: str | None

    @property
    def is_ours(self) -> bool:
        """Whether it is a process of AutoScorer, as far as its command line tells."""
        return _OURS.search(self.command) is not None

    def __str__(self) -> str:
        what = "AutoScorer" if self.is_ours else f"`{self.command[:80]}`"
        home = f", home {self.home}" if self.is_ours and self.home else ""
        return f"{what} (process {self.pid} of the user {self.user}, since {self.since}{home})"


def find_listener(port: int) -> Listener | None:
    """The process that listens on a TCP port; None where that can't be seen (another user's, another container's)."""
    with contextlib.suppress(OSError):
        inodes = {f"socket:[{inode}]" for inode in _inodes(port)}
        for name in os.listdir("/proc") if inodes else ():
            with contextlib.suppress(OSError):
                if name.isdigit() and any(os.readlink(fd) in inodes for fd in Path(f"/proc/{name}/fd").iterdir()):
                    return _listener(int(name))
    return None


def user_name(uid: int) -> str:
    """The name of a user; the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _inodes(port: int) -> list[str]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.append(fields[9])
    return found


def _listener(pid: int) -> Listener:
    folder = Path(f"/proc/{pid}")
    status = folder.stat()
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    home = None
    with contextlib.suppress(OSError):
        for entry in (folder / "environ").read_bytes().split(b"\0"):
            if entry.startswith(b"AUTOSCORER_HOME="):
                home = entry.partition(b"=")[2].decode("utf-8", "replace")
    return Listener(pid, user_name(status.st_uid), _started(folder), command, home)


def _started(folder: Path) -> str:
    ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
    booted = int(re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    moment = datetime.fromtimestamp(booted + ticks / os.sysconf("SC_CLK_TCK"), UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
