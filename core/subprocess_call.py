"""Calling a stranger's code in a process of its own: it may hang or crash there.

The parent asks (JSON on stdin), the child answers one line of JSON on a pipe of its own; stdout and stderr are the
stranger's, and go nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .processes import describe_exit, die_with_parent

__all__ = ["SubprocessFailed", "answer_call", "call_in_subprocess"]

Json = dict[str, Any]

_MAX_ANSWER = 64 * 1024**2
# Seconds between two looks at whether to stop.
_LOOK = 0.5


class SubprocessFailed(Exception):
    """There was no answer; ``str()`` says why, as the end of a sentence that begins with what was run."""

    def __init__(self, why: str, *, took_too_long: bool = False) -> None:
        super().__init__(why)
        self.took_too_long = took_too_long


def call_in_subprocess(
    module: str,
    question: Json,
    *,
    seconds: float,
    env: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> Json:
    """Run a module that calls ``answer_call``. Blocks; nothing of the child is left afterwards.

    Args:
        module: Its name.
        question: What it is asked.
        seconds: How long it may take.
        env: Environment variables beside this process's own.
        stop: Set by another thread, the child is killed.

    Returns:
        Its answer.

    Raises:
        SubprocessFailed: It crashed, ended without an answer, or took too long.
    """
    ours, theirs = os.pipe()
    try:
        try:
            child = subprocess.Popen(
                # Without the current folder in its path (-P): a json.py that lies there must not be imported.
                [sys.executable, "-P", "-m", module, str(theirs), str(int(seconds) + 5)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                pass_fds=(theirs,),
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(question).encode())
            line = _line(ours, time.monotonic() + seconds, stop or threading.Event())
            if line is not None and not line.endswith(b"\n"):
                # The pipe is closed: it is about to end, and how it ends is worth a moment.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=1)
        finally:
            # Whatever it has started goes with it; its number is not free before wait().
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            status = child.wait()
    finally:
        os.close(ours)
    if stop is not None and stop.is_set():
        raise SubprocessFailed("was killed, because this process ends")
    if line is None:
        raise SubprocessFailed(f"did not end within {seconds:g} s and was killed", took_too_long=True)
    if not line.endswith(b"\n"):
        raise SubprocessFailed(f"ended its process ({describe_exit(status)})")
    answer: Json = json.loads(line)
    return answer


def answer_call(work: Callable[[Json], Json]) -> None:
    """The child's side: take the question, do the work, answer.

    Args:
        work: From the question to the answer; expected to raise nothing.
    """
    pipe, seconds = int(sys.argv[1]), int(sys.argv[2])
    _stand_between()
    # If the parent is gone nobody else will end code that hangs. The default action ends C code, too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.alarm(seconds)
    os.set_inheritable(pipe, False)
    question: Json = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    data = json.dumps(work(question)).encode() + b"\n"
    with os.fdopen(pipe, "wb") as file:
        file.write(data)
    # Threads that were left must not keep the process.
    os._exit(0)


def _stand_between() -> None:
    """Go on in a fork. This process waits for it: code that kills its parent must not kill the one who asks."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)
        return
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _line(pipe: int, deadline: float, stop: threading.Event) -> bytes | None:
    """What comes up to a newline or the end; None when the time is over before, or it is to stop."""
    data = bytearray()
    # Not select(): it takes no descriptor above 1023, and a server has more.
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or stop.is_set():
            return None
        if not poll.poll(min(left, _LOOK) * 1000):
            continue
        chunk = os.read(pipe, 1 << 16)
        data += chunk
        if not chunk or len(data) > _MAX_ANSWER:
            break
    return bytes(data)
