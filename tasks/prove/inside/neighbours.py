"""Two models that run at once and look for each other."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["meet"]

_libc = ctypes.CDLL(None, use_errno=True)
_IPC_CREAT = 0o1000
_PAUSE = 0.25


def meet(told: dict[str, Any]) -> None:
    """Leave marks of oneself, and say again and again which of the other one's are there; until somebody ends it."""
    own, other = told["own"], told["other"]
    listener = _listen(own)
    made = []
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", "/var/lock"):
        with contextlib.suppress(OSError):
            path = os.path.join(folder, f"autoscorer-prove-{own}")
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
            made.append(path)
    memory = _libc.shmget(ctypes.c_int(told["keys"][own]), ctypes.c_size_t(4096), _IPC_CREAT | 0o666)
    try:
        end = time.monotonic() + told["timeout"]
        while time.monotonic() < end:
            print(json.dumps({"at": time.time(), "seen": _seen(told, other)}), flush=True)
            time.sleep(_PAUSE)
    finally:
        for path in made:
            os.unlink(path)
        if memory >= 0:
            _libc.shmctl(memory, 0, None)
        listener.close()


def _listen(name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(OSError):
        listener.bind(f"\0autoscorer-prove-{name}")
        listener.listen()
    return listener


def _seen(told: dict[str, Any], other: str) -> list[str]:
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if other.encode() in file.read():
                found.append("its process")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.connect(f"\0autoscorer-prove-{other}")
        found.append("its socket")
    folders = ("/tmp", "/dev/shm", "/var/tmp", "/run", "/var/lock")
    found += [f"its file in {each}" for each in folders if os.path.exists(f"{each}/autoscorer-prove-{other}")]
    if _libc.shmget(ctypes.c_int(told["keys"][other]), ctypes.c_size_t(0), 0) >= 0:
        found.append("its shared memory")
    return sorted(set(found))
