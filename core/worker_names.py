"""Which process has a worker's name, as locked files under ``<home>/workers``.

A container that is restarted keeps its name and its host's boot, but numbers its processes anew: whether the worker
before was one of another container that lives, or is gone, can't be seen by its number. But a name is one process's at
a time, and the kernel lets go of it when the process dies, so who has it now says that the one before is dead.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from .locks import acquire, is_at
from .processes import ProcessIdentity
from .storage import sync_folder

__all__ = ["has_died", "held_name"]


@contextlib.contextmanager
def held_name(home: Path, wanted: str, owner: ProcessIdentity) -> Iterator[str]:
    """Have a worker's name for the time of the block.

    Args:
        home: The installation's folder.
        wanted: The name.
        owner: Who is to have it: this process. On disk before the block begins.

    Yields:
        The name; with something added where another process that lives has it.
    """
    name, fd = wanted, None
    while fd is None:
        path = _file(home, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = _locked(path)
        if fd is None:
            name = f"{wanted} {uuid4().hex[:8]}"
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"name": name, "owner": owner.text}).encode(), 0)
        os.fsync(fd)
        sync_folder(path.parent)
        yield name
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def has_died(home: Path, owner: ProcessIdentity, name: str | None) -> bool:
    """Whether a worker is certainly dead.

    Args:
        home: The installation's folder.
        owner: Its process.
        name: The name it had, by which it is known that another one has followed it; None when that is not known.
    """
    if owner.is_dead():
        return True
    if name is None or owner.is_in_sight:
        return False
    try:
        note = json.loads(_file(home, name).read_bytes())
    except (OSError, ValueError):
        return False  # nobody has come after it, or is just about to say so
    return isinstance(note, dict) and isinstance(note.get("owner"), str) and note["owner"] != owner.text


def _locked(path: Path) -> int | None:
    """The file, locked; None when a process that lives has it."""
    while (fd := acquire(path)) is not None:
        # Whoever had it may have removed it between our opening and our locking.
        if is_at(fd, path):
            return fd
        os.close(fd)
    return None


def _file(home: Path, name: str) -> Path:
    # A name may hold any character, and be long.
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:80].lstrip(".")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return home / "workers" / f"{plain}-{digest}.json"
