"""What runs between AutoScorer and bubblewrap, as a program of its own: ``python -I -S launch.py PLAN``.

It joins the run's control groups, sets limits and, for root, becomes the model's user; then it is bubblewrap. It
imports nothing of AutoScorer's, because it starts with every run.

PLAN is the number of a descriptor to read the plan from, as JSON:

- ``parent``: PID of who started this; it ends when that one dies.
- ``user``: ``[uid, gid]`` to become, or null.
- ``mounts``: ``[[source, name], ...]``, for root: what the model's user could not reach by its path is bound below
  ``/tmp`` of a mount namespace of its own, where bubblewrap finds it.
- ``groups``: Files to write our PID to.
- ``limits``: ``[[resource, number], ...]``.
- ``cpus``: How many CPUs to run on; null for all.
- ``command``: bubblewrap's path and what it is called with.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would take as long to import as all the rest
    from typing import Any

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_FOLDER = "/tmp"
# What nothing of the model ever ends with by itself: bubblewrap was never reached.
FAILED = 241

_libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict[str, Any]) -> None:
    """Become bubblewrap, or end with a line on stderr."""
    _end_with(plan["parent"])
    groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in plan["groups"]]
    if plan["mounts"]:
        _bind(plan["mounts"])
    if plan["cpus"] is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan["cpus"]])
    for kind, number in plan["limits"]:
        hard = resource.getrlimit(kind)[1]
        most = number if hard == resource.RLIM_INFINITY else min(number, hard)
        resource.setrlimit(kind, (most, most))
    if plan["user"] is not None:
        uid, gid = plan["user"]
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        _end_with(plan["parent"])  # the kernel forgets it with a change of users
    # Last: what this program needed itself counts for nobody's limit.
    for group in groups:
        os.write(group, b"0")
    command = plan["command"]
    os.execve(command[0], command[1:], {})  # noqa: S606 - becoming it is the point


def _end_with(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(FAILED)


def _bind(mounts: list[list[str]]) -> None:
    if _libc.unshare(_CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no mount namespace: {os.strerror(number)}")
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    # By descriptors: once /tmp is covered, what lies there is not to be reached by its path.
    sources = [(os.open(source, os.O_PATH | os.O_CLOEXEC), name, os.path.isdir(source)) for source, name in mounts]
    _mount("tmpfs", _FOLDER, _MS_NOSUID | _MS_NODEV, "tmpfs", "mode=755")
    for fd, name, is_folder in sources:
        place = os.path.join(_FOLDER, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if is_folder:
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT))
        _mount(f"/proc/self/fd/{fd}", place, _MS_BIND | _MS_REC)


def _mount(source: str, target: str, flags: int, kind: str = "none", options: str = "") -> None:
    arguments = [each.encode() for each in (source, target, kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"can't mount {source} at {target}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        with open(int(sys.argv[1]), encoding="utf-8") as _file:
            _plan = json.load(_file)
        main(_plan)
    except OSError as _error:
        sys.stderr.write(f"bwrap: {_error.strerror or _error} {_error.filename or ''}\n")
        sys.stderr.flush()
    os._exit(FAILED)
