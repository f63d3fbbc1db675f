"""Machines that differ in their ids alone: commands in mount and UTS namespaces of their own, on one kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

__all__ = ["Machine", "needs_root"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces with another machine's ids")

_BE = """
mount --bind "$1/machine-id" /etc/machine-id
mount --bind "$1/boot-id" /proc/sys/kernel/random/boot_id
hostname "$2"
shift 2
exec "$@"
"""


class Machine:
    """A machine with a name, an id and a boot of its own.

    Args:
        folder: Where its ids are kept.
        name: Its hostname; several machines may have the same.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        folder.mkdir()
        (folder / "machine-id").write_text(uuid4().hex + "\n")
        self.boot()

    def boot(self) -> None:
        """Start it, or start it again: what was running on it does not know that it is dead."""
        (self._folder / "boot-id").write_text(f"{uuid4()}\n")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Python with these arguments, on this machine."""
        be = ["unshare", "--uts", "--mount", "sh", "-ec", _BE, "be", str(self._folder), self._name]
        return subprocess.Popen(
            [*be, sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *arguments: str) -> str:
        """What Python with these arguments says; it must succeed."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        return out
