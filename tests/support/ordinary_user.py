"""Run a program as an ordinary user, also where this Python lies in a folder of root's."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .relay import Relay

__all__ = ["ORDINARY", "EngineDoor", "as_ordinary_user"]

# Nobody of the host; `nobody` may own files of others' tests.
ORDINARY = 64123
ROOT = Path(__file__).resolve().parents[2]


class EngineDoor(Relay):
    """The Docker Engine's socket on a port of loopback, for a user who may not open the socket."""

    def reach(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.connect(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
        return one


def as_ordinary_user(
    command: list[str], environment: Mapping[str, str], *, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run it with nothing but that user's rights, and what Python and this checkout need to be read.

    Args:
        command: What is run, in the checkout.
        environment: All of its variables.
        timeout: Seconds.
    """
    needed = {ROOT, *(Path(each).resolve() for each in (sys.prefix, sys.base_prefix))}
    steps = ["mount --make-rprivate /"]
    for shut in sorted({each for path in needed if (each := _shut_above(path)) is not None}):
        # In a mount namespace alone: an open folder in the place of the one that others may not enter.
        inside = [path for path in needed if path.is_relative_to(shut)]
        steps += [f"exec {10 + number}< {shlex.quote(str(path))}" for number, path in enumerate(inside)]
        steps.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(shut))}")
        for number, path in enumerate(inside):
            steps.append(f"mkdir -p {shlex.quote(str(path))}")
            steps.append(f"mount --no-canonicalize --bind /proc/self/fd/{10 + number} {shlex.quote(str(path))}")
            steps.append(f"exec {10 + number}<&-")
    user = f"setpriv --reuid={ORDINARY} --regid={ORDINARY} --clear-groups --no-new-privs"
    steps.append(f"exec {user} {shlex.join(command)}")
    return subprocess.run(
        ["unshare", "--mount", "bash", "-ec", "\n".join(steps)],
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def _shut_above(path: Path) -> Path | None:
    """The first folder on the way to a path that others may not enter."""
    for folder in [*reversed(path.parents), path]:
        if stat.S_IMODE(folder.stat().st_mode) & 0o005 != 0o005:
            return folder
    return None
