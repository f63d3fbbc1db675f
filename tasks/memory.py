"""The memory of validating and scoring: a limit that the process itself meets, and a look from outside for the rest.

``RLIMIT_DATA`` counts private memory, written or not, and makes an allocation fail with ``MemoryError``. It does not
count shared memory, and each process of a family has its own: those are counted from outside, several times a second.
The limit is for what comes on top of what the process has when the work begins: the interpreter, the libraries, the
scorer's code.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage

__all__ = [
    "MemoryWatch",
    "descendants",
    "limit_memory",
    "limited_memory",
    "oom_kills",
    "out_of_memory",
    "release_memory",
]

# What is left above the limit for telling of it, in bytes.
_RESERVE = 256 * 1024**2


def out_of_memory(settings: Settings) -> AutoScorerError:
    """The error of a submission whose scoring takes more than it may."""
    limit = settings.security.limits.scoring_memory
    return AutoScorerError(
        ErrorCode.RESOURCE_ERROR,
        f"Validating or scoring needed more than the {limit / 1024**2:,.0f} MiB of memory that it may take "
        "(security.limits.scoring_memory), or than the host has.",
        stage=Stage.SCORING,
        details={"resource": "memory", "limit": limit},
    )


def limit_memory(settings: Settings) -> None:
    """Limit this process from here on."""
    # Arrow's own allocator reserves a gigabyte that it never writes.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    soft = _data() + settings.security.limits.scoring_memory
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(OSError, ValueError):  # the process is limited already, and further down
        if hard == resource.RLIM_INFINITY or hard > soft:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, soft + _RESERVE))


def release_memory() -> None:
    """Have what is needed to tell that the limit was met."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


@contextlib.contextmanager
def limited_memory(settings: Settings) -> Iterator[None]:
    """Limit this process for as long as it is inside: for a command that validates or scores by itself."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    soft = _data() + settings.security.limits.scoring_memory
    with contextlib.suppress(OSError, ValueError):
        if before[0] == resource.RLIM_INFINITY or before[0] > soft:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, before)


class MemoryWatch:
    """Looks at the memory of all that descends from this process.

    Args:
        limit: Bytes on top of what they have now.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit + sum(map(_written, descendants(os.getpid())))

    def is_over(self) -> bool:
        """Whether they have more than that now."""
        family = descendants(os.getpid())
        if sum(map(_written, family)) <= self._limit:
            return False
        # What forks share was counted for each of them: once more, and precisely.
        return len(family) == 1 or sum(map(_proportional, family)) > self._limit


def descendants(pid: int) -> list[int]:
    """All processes that descend from a process."""
    found: list[int] = []
    waiting = _children(pid)
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += _children(one)
    return found


def oom_kills() -> int | None:
    """How many processes of this host the kernel has killed for want of memory, in groups of processes or at all."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _data() -> int:
    return _status(os.getpid(), "VmData")


def _written(pid: int) -> int:
    """Bytes of memory that are no pages of files: private and shared ones."""
    return _status(pid, "RssAnon", "RssShmem")


def _status(pid: int, *names: str) -> int:
    total = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in names:
                total += 1024 * int(value.split()[0])
    return total


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                return 1024 * int(value.split()[0])
    return 0
