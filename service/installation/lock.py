"""The lock file of ``autoscorer up``: one installation to a home, and who its processes are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ...core.errors import AutoScorerError, ErrorCode
from ...core.locks import open_lock, try_lock
from ...core.processes import ProcessIdentity

__all__ = ["leftovers", "locked", "note"]

Json = dict[str, Any]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Hold a lock file; the kernel releases it when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays when we end: who removed it could pull it away from under the next one.
    with os.fdopen(open_lock(path), "r+", encoding="utf-8") as file:
        if not try_lock(file.fileno()):
            there = _read(file)
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"`autoscorer up` is running already on {path.parent}"
                + (f" ({_who(there)})" if "pid" in there else "")
                + ". Use it or stop it, or set another AUTOSCORER_HOME (and PREFECT_HOME, where that is set).",
                details={key: there[key] for key in ("pid", "user", "since", "api", "prefect") if key in there},
            )
        yield file


def _who(there: Json) -> str:
    since = f" since {there['since']}, as the user {there['user']}" if "since" in there and "user" in there else ""
    return f"process {there['pid']}{since}, API {there.get('api')}"


def _read(file: IO[str]) -> Json:
    try:
        file.seek(0)
        # A kill may have come between writing and cutting off what stood there.
        content = json.JSONDecoder().raw_decode(file.read())[0]
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def leftovers(lock: IO[str]) -> dict[str, tuple[int, ProcessIdentity]]:
    """The children that a killed ``up`` has noted."""
    found = {}
    children = _read(lock).get("children")
    for name, child in children.items() if isinstance(children, dict) else ():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found[str(name)] = (int(child["pid"]), ProcessIdentity(str(child["owner"])))
    return found


def note(lock: IO[str], content: Json) -> None:
    """Write down who is running, for the next start and for whoever starts a second one."""
    lock.seek(0)
    lock.write(json.dumps(content))
    lock.truncate()
    lock.flush()
