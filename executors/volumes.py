"""Volumes that an image declares: which become folders in memory, and which no container could be started with."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable

from ..core.errors import AutoScorerError, ErrorCode
from ..core.text import escape

__all__ = ["memory_volumes"]

_MOST = 32
_LONGEST = 512
# What the runtime itself mounts; a folder of an image in its place breaks the start in ways that look like the host's.
_SYSTEM = ("/proc", "/sys", "/dev")


def memory_volumes(volumes: Iterable[str], mounts: Collection[str]) -> list[str]:
    """Where small folders in memory stand for the image's volumes.

    Args:
        volumes: Paths as the image declares them.
        mounts: Where AutoScorer mounts something in the container. A volume in the same place gives way to it.

    Returns:
        Plain paths, in order.

    Raises:
        AutoScorerError: ``CONTAINER_FAILED`` for a volume that can't be: it is the image's fault, and no other try
            helps.
    """
    found = set()
    for volume in volumes:
        path = posixpath.normpath("/" + volume.lstrip("/"))
        if not volume.startswith("/"):
            raise _refused(volume, "its path must begin with '/'")
        if path == "/":
            raise _refused(volume, "it would hide the image itself")
        if not path.isprintable() or len(path.encode()) > _LONGEST:
            raise _refused(volume, f"its path must be of printable characters, and at most {_LONGEST} bytes long")
        if path != "/dev/shm" and any(_inside(path, top) or path == top for top in _SYSTEM):
            raise _refused(volume, "what lies there is the system's")
        if path in mounts:
            continue
        if any(_inside(path, mount) for mount in mounts):
            raise _refused(volume, "it lies inside of what AutoScorer mounts there")
        found.add(path)
    if len(found) > _MOST:
        raise _error(f"The image declares {len(found):,} volumes; at most {_MOST} are made. Remove VOLUME lines.")
    return sorted(found)


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def _refused(volume: str, why: str) -> AutoScorerError:
    shown = escape(volume if len(volume) <= 80 else volume[:80] + "…")
    return _error(
        f"The image declares the volume '{shown}', which the model's container can't have: {why}. Remove that VOLUME."
    )


def _error(message: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.CONTAINER_FAILED, message, details={"exit_code": 127, "log": []})
