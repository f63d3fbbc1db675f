"""Where the engine sees what AutoScorer, in a container of that engine, sees under another path."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .engine import engine_errors

__all__ = ["engine_paths", "own_container"]

_HOSTNAME = re.compile(r"/containers/([0-9a-f]{64})/hostname$")


def own_container(mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The id of the Docker container that this process runs in; None where it runs in none.

    Engines mount a container's /etc/hostname from a folder that is named by its id.
    """
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        found = _HOSTNAME.search(fields[3]) if len(fields) > 4 and fields[4] == "/etc/hostname" else None
        if found is not None:
            return found[1]
    return None


def engine_paths(client: Any, container: str | None) -> Callable[[Path], Path]:
    """How the engine names a folder that this process has.

    Args:
        client: The engine's client.
        container: The container that this process runs in.

    Returns:
        A function from this process's absolute paths to the engine's. It changes nothing outside of a container, in one
        of another engine, and for what lies on none of the container's mounts.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    import docker.errors

    if container is None:
        return lambda path: path
    with engine_errors("look for the container of AutoScorer itself"):
        try:
            mounts = client.inspect_container(container).get("Mounts") or []
        except docker.errors.NotFound:
            mounts = []
    folders = sorted(
        ((Path(each["Destination"]), Path(each["Source"])) for each in mounts if each.get("Source")),
        key=lambda pair: len(pair[0].parts),
        reverse=True,
    )

    def translate(path: Path) -> Path:
        for inside, outside in folders:
            if path.is_relative_to(inside):
                return outside / path.relative_to(inside)
        return path

    return translate
