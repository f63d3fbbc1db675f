"""Processes: which one it is, for others to know it by later."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from .provenance import hostname

__all__ = ["ProcessIdentity"]

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
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
