"""Processes that tests start: what they are told, and which of them live."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["clean_environment", "parent_of", "processes_with"]


def clean_environment() -> dict[str, str]:
    """This process's variables without what configures AutoScorer and Prefect."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AUTOSCORER_"))}


def processes_with(**variables: object) -> dict[int, str]:
    """Every other living process with these variables, whoever its parent is: the oldest first, with its command."""
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found = {}
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            entry = Path(f"/proc/{pid}")
            if pid != os.getpid() and wanted <= {*(entry / "environ").read_bytes().split(b"\0")}:
                found[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def parent_of(pid: int) -> int:
    """The process that a process is a child of."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
