"""A uid of its own for every model that runs, from a range, so that none shares its share of the kernel with another.

The kernel counts inotify instances, the memory of pipes, queued signals, locked memory and more for each uid: models
of one uid take them from each other. A uid is held by a lock on one byte of a file in the home, which the kernel
lets go of when the holder dies. Its container may outlive the holder and belong to another home, so the engine's
containers are asked too.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

from ..core.errors import AutoScorerError, ErrorCode
from ..core.locks import lock_byte, open_lock, unlock_byte
from ..core.storage import writing_home

__all__ = ["DEFAULT_RANGE", "UidLease", "can_give", "lease_uid", "parse_range"]

# Numbers that nobody gives out: above those of useradd and subuid (600 million), of systemd's containers (1.88 billion)
# and of directory services (2.0002 billion), below systemd's foreign ones (2.147 billion). Decision 0014 has them all.
DEFAULT_RANGE = range(2_100_000_000, 2_100_065_536)


class UidLease:
    """A uid that no other model runs as until ``release``, or until this process dies."""

    def __init__(self, uid: int, fd: int) -> None:
        self.uid = uid
        self._fd: int | None = fd

    def release(self) -> None:
        """Let go of it. Call it once nothing runs as this uid any more; any number of times."""
        if self._fd is not None:
            # Said outright: a process that was forked meanwhile has the same open file, and would keep the lock.
            with contextlib.suppress(OSError):
                unlock_byte(self._fd, self.uid)
            os.close(self._fd)
            self._fd = None


def parse_range(text: str) -> range:
    """``"200000-265535"`` as numbers, both ends included."""
    low, high = (int(part) for part in text.split("-"))
    return range(low, high + 1)


def can_give(uids: range) -> bool:
    """Whether this process may give files to these uids, and to gids of the same numbers.

    It must be root, and in a user namespace (a rootless container, say) they must be among those that it has.
    """
    return os.geteuid() == 0 and _maps(Path("/proc/self/uid_map"), uids) and _maps(Path("/proc/self/gid_map"), uids)


def lease_uid(home: Path, uids: range, in_use: Callable[[int], bool]) -> UidLease:
    """Take a uid that no model runs as.

    Args:
        home: AutoScorer's home; all its processes take from one file there.
        uids: The range.
        in_use: Whether a container with this uid is there, of whatever home and whether or not its owner lives.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when every uid is taken; ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage
            ``config`` when the home can't be written for another reason; what ``in_use`` raises.
    """
    path = home / "slots" / "uids"
    with writing_home(home), contextlib.ExitStack() as unless_leased:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = open_lock(path, mode=0o600)
        unless_leased.callback(os.close, fd)
        # From anywhere in the range: two homes that ask at the same moment hardly ever begin at the same number.
        start = random.randrange(len(uids))  # noqa: S311 - no secret
        for index in range(len(uids)):
            uid = uids[(start + index) % len(uids)]
            if not lock_byte(fd, uid):
                continue
            if not in_use(uid):
                unless_leased.pop_all()
                return UidLease(uid, fd)
            unlock_byte(fd, uid)
    raise AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"A model runs as each of the {len(uids):,} uids of executors.docker.uid_range. Widen the range, or run fewer "
        "models at a time (executors.docker.concurrency).",
    )


def _maps(table: Path, ids: range) -> bool:
    try:
        rows = [[int(part) for part in line.split()] for line in table.read_text().splitlines()]
    except (OSError, ValueError):
        return True  # a kernel without user namespaces
    return any(first <= ids[0] and ids[-1] < first + count for first, _, count in rows)
