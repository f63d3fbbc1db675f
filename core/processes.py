"""Processes: which one it is, how it ended, and ending it together with all that it has started."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .provenance import hostname

__all__ = [
    "ProcessIdentity",
    "adopt_orphans",
    "describe_exit",
    "die_with_parent",
    "has_exited",
    "is_in_container",
    "kill_processes",
    "kill_session",
]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
# Looked up here: in a fork of a process with threads, loading a library may wait for a lock that nobody holds any more.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

# Where a machine's own id lies, and the number that the kernel gives the PID namespace which is no container's.
_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_FIRST_PID_NAMESPACE = str(0xEFFFFFFC)


class ProcessIdentity:
    """A process, named so that a later one can tell whether it still lives.

    A PID alone is reused; with the boot, the PID namespace and the start time it is unique. The machine's own id tells
    a machine that was rebooted from another one of the same name. Written as text into container labels and run
    records.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split("|")
        # Five, without the machine's id: written by an earlier AutoScorer, whose runs may be under way yet.
        self._knows_machine = len(parts) != 5
        if not self._knows_machine:
            parts.insert(3, "")
        self._parts = parts if len(parts) == 6 else [""] * 6

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcessIdentity) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def current(cls) -> ProcessIdentity:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """A process of this host, as it is now; one that is gone already counts as dead."""
        return cls("|".join([hostname(), _boot(), _pid_namespace(), _machine(), str(pid), _started(pid) or "0"]))

    @property
    def is_in_sight(self) -> bool:
        """Whether ``is_dead`` can know: it ran on this machine, and if since the last boot, in this PID namespace."""
        return self._is_from_earlier_boot or (
            self._is_from_this_boot and self._parts[0] == hostname() and self._parts[2] == _pid_namespace()
        )

    def is_dead(self) -> bool:
        """True only when it is certain: an earlier boot of this machine, or no such process any more.

        An owner on another machine or in another PID namespace can't be seen from here and counts as alive.
        """
        if self._is_from_earlier_boot:
            return True
        pid, started = self._parts[4:]
        # Written by whoever made the label or record, so not every text is a number.
        if not self.is_in_sight or not re.fullmatch("[0-9]{1,10}", pid):
            return False
        return _started(int(pid)) != started

    def is_of_gone_container(self) -> bool:
        """Whether it ran on this machine in a container (a PID namespace) of which no process is left.

        Only root outside of any container sees every process; others get False. Looks through ``/proc``.
        """
        namespace = self._parts[2]
        if not self._is_from_this_boot or not namespace.isdigit():
            return False
        if os.geteuid() != 0 or _pid_namespace() != _FIRST_PID_NAMESPACE:
            return False  # some processes are hidden
        if namespace == _FIRST_PID_NAMESPACE:
            return False  # no container
        return all(_is_outside(int(pid), namespace) for pid in os.listdir("/proc") if pid.isdigit())

    @property
    def _is_from_this_boot(self) -> bool:
        boot, machine = self._parts[1], self._parts[3]
        return bool(boot) and boot == _boot() and (not machine or _machine() in ("", machine))

    @property
    def _is_from_earlier_boot(self) -> bool:
        host, boot, machine = self._parts[0], self._parts[1], self._parts[3]
        if host != hostname() or boot == _boot():
            return False
        # Another boot id alone is also what another machine of that name has.
        return (machine != "" and machine == _machine()) if self._knows_machine else True


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _machine() -> str:
    """What no other machine shares: a digest of its machine-id, which itself is nobody else's to know.

    Empty where there is none, and in a container: what lies there came with the image, on every machine that runs it.
    """
    if _pid_namespace() != _FIRST_PID_NAMESPACE:
        return ""
    for path in _MACHINE_IDS:
        try:
            text = path.read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        if re.fullmatch("[0-9a-f]{32}", text):
            return hashlib.sha256(b"autoscorer machine " + text.encode()).hexdigest()[:16]
    return ""


def is_in_container() -> bool:
    """Whether this process is in a PID namespace of its own, and what it sees is not the host's."""
    return _pid_namespace() not in ("", _FIRST_PID_NAMESPACE)


def _pid_namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _is_outside(pid: int, namespace: str) -> bool:
    """Whether a process is certainly not in a PID namespace."""
    try:
        try:
            return str(os.stat(f"/proc/{pid}/ns/pid").st_ino) != namespace
        except PermissionError:
            # A number in one namespace alone: it is in ours.
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
            return re.search(r"^NSpid:\s+[0-9]+$", status, re.MULTILINE) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has ended


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, or None when there is none (a zombie is none)."""
    try:
        fields = _stat(Path(f"/proc/{pid}"))
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent dies; end it now if the parent has died already.

    Args:
        parent: PID of the process that forked this one, which it must have looked up before.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of what children of this process leave behind, so that it can be found and killed."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def has_exited(pid: int) -> bool:
    """Whether a child of this process has ended. It stays a zombie, so its number, and its session's, are not reused.

    Raises:
        ChildProcessError: It is not a child of this process, or was waited for already.
    """
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def describe_exit(code: int) -> str:
    """An exit code, negative for a signal, in words: ``exit code 3``, ``SIGKILL``, ``signal 40``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def kill_session(session: int) -> None:
    """Kill every process of a session, also those that left the process group of its leader."""
    kill_processes(lambda entry: int(_stat(entry)[3]) == session and _stat(entry)[0] not in "ZX")


def kill_processes(matches: Callable[[Path], bool]) -> None:
    """Kill processes until none matches: one may fork while the others are being killed.

    Args:
        matches: Called with the folder of each process in ``/proc``. May raise ``OSError``: a process that ends
            meanwhile, or is not ours to look at, is not killed.
    """
    for _ in range(50):
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and matches(entry):
                    found.append(int(entry.name))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _stat(process: Path) -> list[str]:
    """State, parent, group, session and so on of a process: what follows its name, which may hold anything."""
    return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
