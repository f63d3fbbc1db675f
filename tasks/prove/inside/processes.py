"""Attacks on other processes: those outside, and the first one inside."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["first_process", "host_processes", "traced"]

_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17
_RIGHTS = ("Uid", "CapPrm", "CapEff", "NoNewPrivs", "Seccomp")


def host_processes(told: dict[str, Any]) -> list[str]:
    """Processes that run outside and are seen, by what stands on their command lines."""
    return [f"process {pid}" for pid in _outside(told)]


def traced(told: dict[str, Any]) -> list[str]:
    """Processes outside whose memory can be read or that can be traced."""
    return [f"process {pid}: {way}" for pid in _outside(told) for way in _reached(pid)]


def first_process(told: dict[str, Any]) -> dict[str, Any]:
    """How the first process of this namespace can be reached, and whether it may more than this one."""
    spaces = {}
    for name in ("user", "mnt", "pid", "net", "ipc", "uts"):
        with contextlib.suppress(OSError):
            spaces[name] = os.readlink(f"/proc/1/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
    return {
        "reached": _reached(1) if os.getpid() != 1 else [],
        "rights": [_rights("1"), _rights("self")],
        "other_spaces": sorted(name for name, same in spaces.items() if not same),
        "files": _files("1") if os.getpid() != 1 else [],
    }


def _outside(told: dict[str, Any]) -> list[int]:
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if told["mark"].encode() in file.read():
                found.append(int(path.split("/")[2]))
    return found


def _reached(pid: int) -> list[str]:
    ways = []
    with contextlib.suppress(OSError):
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
        ways.append("its memory opens")
    with contextlib.suppress(OSError):
        os.listdir(f"/proc/{pid}/root/")
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            ways.append("its root is another one, and opens")
    # Unlike attaching, this does not stop it.
    if _libc.ptrace(_PTRACE_SEIZE, pid, None, None) == 0:
        ways.append("ptrace")
        _libc.ptrace(_PTRACE_DETACH, pid, None, None)
    return ways


def _files(pid: str) -> list[str]:
    """Files and folders that a process holds open, where they can be seen; pipes and the like have no path."""
    found = []
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(path))
    return sorted(each for each in found if each.startswith("/") and each != "/dev/null")


def _rights(pid: str) -> dict[str, str]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        return {name: lines[name] for name in _RIGHTS if name in lines}
    return {}
