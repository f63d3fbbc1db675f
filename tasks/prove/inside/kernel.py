"""Attacks on the kernel: which of its calls answer, and what this process may do."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import resource
import stat
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "calls",
    "capabilities",
    "core_dumps",
    "descriptors",
    "open_files",
    "other_doors",
    "seccomp_mode",
    "setuid_programs",
    "terminal",
    "user",
]

_libc = ctypes.CDLL(None, use_errno=True)
_MACHINES = {"x86_64": 0, "aarch64": 1}
_GET_NO_NEW_PRIVS, _GET_SECCOMP = 39, 21
# Name: ((number on x86_64, number on aarch64), arguments). A kernel that is reached refuses these arguments for another
# reason than rights, and they do nothing where it does not refuse them.
CALLS: dict[str, tuple[tuple[int, int], tuple[int, ...]]] = {
    "io_uring_setup": ((425, 425), (8, 0)),
    "io_uring_enter": ((426, 426), (-1, 0, 0, 0)),
    "io_uring_register": ((427, 427), (-1, 0, 0, 0)),
    "userfaultfd": ((323, 282), (1,)),
    "keyctl": ((250, 219), (0, -3, 0)),
    "add_key": ((248, 217), (0, 0, 0, 0, -3)),
    "request_key": ((249, 218), (0, 0, 0, -3)),
    "bpf": ((321, 280), (-1, 0, 0)),
    "perf_event_open": ((298, 241), (0, 0, -1, -1, 0)),
    "unshare": ((272, 97), (0x10000000,)),
    "clone": ((56, 220), (0x10000011, 0, 0, 0, 0)),
    "clone3": ((435, 435), (0, 0)),
    "setns": ((308, 268), (-1, 0)),
    "mount": ((165, 40), (0, 0, 0, 0, 0)),
    "pivot_root": ((155, 41), (0, 0)),
    "fsopen": ((430, 430), (0, 0)),
    "open_tree": ((428, 428), (-100, 0, 0)),
    "move_mount": ((429, 429), (-1, 0, -1, 0, 0)),
    "open_by_handle_at": ((304, 265), (-1, 0, 0)),
    "kexec_load": ((246, 104), (0, 0, 0, 0xFFFF)),
    "init_module": ((175, 105), (0, 0, 0)),
    "finit_module": ((313, 273), (-1, 0, 0)),
    "delete_module": ((176, 106), (0, 0)),
    "swapon": ((167, 224), (0, 0)),
    "acct": ((163, 89), (1,)),
    "socket AF_ALG": ((41, 198), (38, 5, 0)),
    "socket AF_VSOCK": ((41, 198), (40, 1, 0)),
}


def calls(told: dict[str, Any], *names: str) -> dict[str, int]:
    """Call to the error that it gave; 0 where it was granted. Nothing where its number is not known."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return {}
    return {name: _in_child(CALLS[name][0][machine], CALLS[name][1]) for name in names}


def _in_child(number: int, arguments: tuple[int, ...]) -> int:
    """In a process of its own: some of them change it, or make another."""

    def call() -> int:
        ctypes.set_errno(0)
        answer = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        return ctypes.get_errno() if answer == -1 else 0

    return _forked(call)


def other_doors(told: dict[str, Any]) -> dict[str, int]:
    """The same calls by the x32 ABI (bit 30 of the number) and, with ``int 0x80``, by that of i386."""
    if platform.machine() != "x86_64":
        return {}
    found = {f"x32 {number}": _in_child(0x40000000 | number, (8, 0)) for number in (425, 426, 427, 323, 250, 321)}
    # push rbx; mov eax, edi; mov ebx, esi; xor the other arguments; int 0x80; pop rbx; ret
    code = bytes.fromhex("53 89f8 89f3 31c9 31d2 31f6 31ff cd80 5b c3")
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return found
    page.write(code)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_long, ctypes.c_long)
    enter = kind(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def by_i386(number: int, argument: int) -> int:
        return max(-int(enter(number, argument)), 0)

    for number, argument in ((425, 8), (426, -1), (427, -1), (374, 1), (288, 0), (357, 0), (310, 0x10000000)):
        found[f"i386 {number}"] = _forked(lambda n=number, a=argument: by_i386(n, a))
    return found


def user(told: dict[str, Any]) -> dict[str, Any]:
    """Who this is."""
    return {"uids": [*os.getresuid()], "gids": [*os.getresgid(), *os.getgroups()]}


def capabilities(told: dict[str, Any]) -> dict[str, str]:
    """The kernel's lines of what this process may do."""
    with open("/proc/self/status", encoding="utf-8") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {name: lines[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if name in lines}


def seccomp_mode(told: dict[str, Any]) -> dict[str, int]:
    """Whether programs can give it new rights, and whether its calls are filtered."""
    return {"no_new_privs": _libc.prctl(_GET_NO_NEW_PRIVS, 0, 0, 0, 0), "seccomp": _libc.prctl(_GET_SECCOMP)}


def setuid_programs(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Programs that ask to run as their owner, and as whom they ran."""
    found = []
    folders = {*os.environ.get("PATH", "").split(":"), "/bin", "/usr/bin", "/usr/sbin", "/autoscorer-prove"}
    for folder in sorted({os.path.realpath(each) for each in folders if each}):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                # Root's own, because it is root's rights that are wanted.
                if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
                    found.append({"path": path, "uid": _ran_as(path)})
    return found[:20]


def _ran_as(path: str) -> int | None:
    with contextlib.suppress(OSError):
        program = subprocess.Popen(
            [path, "-I", "-S", "-c", "import time; time.sleep(9)"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # The kernel decides at its start; many of them end soon, for they were not called as they want to be.
            for _ in range(20):
                with contextlib.suppress(OSError), open(f"/proc/{program.pid}/status", encoding="utf-8") as file:
                    line = next(line for line in file if line.startswith("Uid:"))
                    if int(line.split()[2]) != os.geteuid():
                        return int(line.split()[2])
                time.sleep(0.002)
            return os.geteuid()
        finally:
            with contextlib.suppress(OSError):
                program.kill()
            program.wait()
            if program.stdin is not None:
                program.stdin.close()
    return None


def terminal(told: dict[str, Any]) -> list[str]:
    """Terminals that it could type on. None is typed on: it would be the operator's."""
    found = [f"descriptor {number}" for number in range(3) if _is_terminal(number)]
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        found.append("/dev/tty")
    return found


def _is_terminal(number: int) -> bool:
    with contextlib.suppress(OSError):
        return os.isatty(number)
    return False


def descriptors(told: dict[str, Any]) -> list[str]:
    """Files that were open when this program began."""
    return [str(each) for each in told["descriptors"]]


def core_dumps(told: dict[str, Any]) -> list[int]:
    """How large a core dump may be, which the host's kernel may hand to a program outside."""
    return [*resource.getrlimit(resource.RLIMIT_CORE)]


def open_files(told: dict[str, Any]) -> int:
    """How many files can be open at once; it stops soon above what is allowed."""
    held: list[int] = []
    try:
        while len(held) < told["nofile"] + 64:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for fd in held:
        os.close(fd)
    return len(held)


def _forked(call: Any) -> int:
    """What a function answered in a child; ENOSYS where the kernel ended it for the call."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(call()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    told = os.read(reader, 16)
    os.close(reader)
    os.waitpid(child, 0)
    return int(told) if told.isdigit() else 38
