"""What a command shows a person: it is run on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["in_terminal", "on_a_terminal"]


def on_a_terminal(
    command: Sequence[str], *, columns: int = 140, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[int, str]:
    """Run a command with a terminal as stdout and stderr, and nothing to read.

    Args:
        command: What is run.
        columns: How wide the terminal is.
        environment: All of its variables; this process's by default.
        cwd: Where it is run.

    Returns:
        Its exit code, and what was shown.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**(os.environ if environment is None else environment), "TERM": "xterm", "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    ) as process:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal says when the last program on it has ended
            while data := os.read(leader, 65536):
                shown += data
        os.close(leader)
        return process.wait(timeout=300), shown.decode()


def in_terminal(*arguments: str, columns: int = 140, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run ``autoscorer`` with these arguments there."""
    return on_a_terminal([sys.executable, "-m", "autoscorer", *arguments], columns=columns, environment=environment)
