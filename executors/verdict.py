"""Did the model fail, and why? One pure function; its table of cases is its test.

An end that came from outside, with the engine's restart say, is told as ours: what the model did is not known then.

The order matters, because several things are often true at once: a process killed for memory can leave a
parent that waits for it until the deadline, and a fork bomb ends by the deadline as well. What
names the cause wins over what names the symptom. The log is the model's own text: it only ever
decides which failure is named, never whether there is one.
"""

from __future__ import annotations

import re
import signal

from ..core.errors import AutoScorerError, ErrorCode
from ..core.text import strip
from .base import Ending, Interruption, KillReason, RunLimits

__all__ = ["verdict"]

_DISK = re.compile(
    r"No space left on device|File too large|Disk quota exceeded|File size limit exceeded|\[Errno (28|27|122)\]"
)
_MEMORY = re.compile(r"^(\S+\.)?MemoryError\b|std::bad_alloc|Cannot allocate memory|[Oo]ut of memory", re.MULTILINE)
_FORKS = re.compile(
    r"(can't|[Cc]annot) (fork|start new thread)|[Ff]ork.*Resource temporarily unavailable|BlockingIOError: \[Errno 11\]"
)
LOG_LINES = 20

INTERRUPTED = {
    Interruption.ENGINE_AWAY: "The engine went away while the model ran, and the model's container ended with it; that "
    "is not the model's fault. Run it again.",
    Interruption.STOPPED: "Somebody had the engine stop the model's container (its own shutdown, docker stop or "
    "docker kill); that is not the model's fault. Run it again.",
    Interruption.EVICTED: "The cluster took the model's pod off its node; that is not the model's fault. Run it again.",
    Interruption.NODE_LOST: "The node that the model ran on is not heard of any more; that is not the model's fault. "
    "Run it again.",
    Interruption.DELETED: "Somebody deleted the model's Job or its pod while it ran; that is not the model's fault. "
    "Run it again.",
}


def verdict(ending: Ending, limits: RunLimits) -> AutoScorerError | None:
    """Judge how a run ended.

    Args:
        ending: What the backend and the supervisor saw.
        limits: What the run was allowed.

    Returns:
        None when the model succeeded, else the error that names the cause.
    """
    lines = strip(ending.log_tail).splitlines()[-LOG_LINES:]
    details = {"exit_code": ending.exit_code, "log": lines}

    def out_of(resource: str, message: str) -> AutoScorerError:
        return AutoScorerError(ErrorCode.RESOURCE_ERROR, message, details={"resource": resource, **details})

    killed_for = ending.killed_for
    if killed_for is KillReason.DEADLINE and ending.exit_code not in (None, 128 + signal.SIGKILL):
        killed_for = None  # The kill leaves no other code: it came too late, and met a model that had ended by itself.
    memory = f"The model needed more than its {_size(limits.memory)} of memory (swap is never added)."
    disk = (
        f"The model wrote more than it may: {_size(limits.disk)} in output, {_size(limits.tmp)} in /tmp, "
        f"{_size(limits.shm_size)} in /dev/shm."
    )
    processes = f"The model started more than its {limits.pids} processes and threads."

    if ending.interrupted is Interruption.NODE_LOST and ending.exit_code is None:
        # Also past the deadline: the model may have ended well before it, and nobody could say so.
        killed_for = killed_for if killed_for is KillReason.CANCELLED else None
    if killed_for is KillReason.CANCELLED:
        return AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled.", details=details)
    if killed_for is KillReason.DISK:
        return out_of("disk", disk)
    if killed_for is KillReason.FILES:
        return out_of("files", f"More than {limits.output_files:,} files were left in output, or too deep folders.")
    if killed_for is KillReason.PROCESSES:
        return out_of("processes", processes)
    if killed_for is KillReason.HIDING:
        return out_of(
            "disk",
            "A process of the model hid its open files (PR_SET_DUMPABLE, or a program that may be run and not read), "
            "so its use of the disk could not be held to its limit. Let processes be readable by their own user.",
        )
    # A worker killed for memory while the parent still ended well is no failure.
    if ending.oom_killed and (ending.exit_code != 0 or killed_for):
        return out_of("memory", memory)
    if killed_for is KillReason.DEADLINE:
        if ending.forks_denied or (ending.forks_unseen and _FORKS.search("\n".join(lines))):
            return out_of("processes", processes)
        return AutoScorerError(
            ErrorCode.TIMEOUT_ERROR,
            f"The model was still running after its {limits.timeout:g} s and was killed.",
            details={"timeout": limits.timeout, **details},
        )
    if ending.exit_code == 0:
        return None
    if ending.interrupted is not None:
        told = f" What it says: {ending.why}" if ending.why else ""
        return AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, INTERRUPTED[ending.interrupted] + told, details=details)
    tail = "\n".join(lines)
    if ending.exit_code == 128 + signal.SIGXFSZ or _DISK.search(tail):
        return out_of("disk", disk)
    if _MEMORY.search(tail):
        return out_of("memory", memory)
    if ending.forks_denied or _FORKS.search(tail):
        return out_of("processes", processes)
    return AutoScorerError(ErrorCode.CONTAINER_FAILED, _failed(ending.exit_code), details=details)


def _failed(code: int | None) -> str:
    if code is None:
        return "The model's container is gone, and nobody saw how it ended."
    if code == 126:
        return "The model's command is not executable (exit code 126)."
    if code == 127:
        return "The model's command does not exist in the image (exit code 127)."
    if code > 128:
        try:
            return f"The model was ended by {signal.Signals(code - 128).name} (exit code {code})."
        except ValueError:
            pass
    return f"The model exited with code {code}. The last lines of its log are in details."


def _size(number: int) -> str:
    for unit, width in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number >= width:
            return f"{number / width:.4g} {unit}"
    return f"{number} bytes"
