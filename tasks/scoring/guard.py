"""The other end of a guard (``process.py``): starting one, asking it, ending it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from ...core.processes import die_with_parent, has_exited, kill_session
from .process import READY, JobConfig, be_guard, ending

__all__ = ["COMMAND", "Guard", "GuardDied"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]

# Safe path: the current folder may be a submission's, and must not come before the installed packages.
_PROGRAM = "import sys; from autoscorer.tasks.scoring.process import main; main(*map(int, sys.argv[1:]))"
COMMAND = (sys.executable, "-P", "-c", _PROGRAM)
# Seconds that a guard has to end what it looks after.
_SHUTDOWN_TIMEOUT = 2.0


class GuardDied(Exception):
    """There is no answer, because the guard was killed; says how, in words that follow what it was.

    Attributes:
        is_ours: It could not be started, or was killed before it had a request: no scorer's doing.
    """

    def __init__(self, how: str, *, is_ours: bool) -> None:
        super().__init__(how)
        self.is_ours = is_ours


class Guard:
    """A guard process. Made by ``start`` or ``fork``."""

    def __init__(self, pid: int, connection: Connection, process: subprocess.Popen[bytes] | None = None) -> None:
        self.connection = connection
        self._pid = pid
        self._process = process
        self._code: int | None = None
        self._session: int | None = None
        self._is_ready = False

    @classmethod
    def start(cls, config: JobConfig) -> Self:
        """Start one as a program of its own."""
        ours, theirs = Pipe()
        process = subprocess.Popen(
            [*COMMAND, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            # What a scorer prints must not get into what a command answers.
            stdout=2,
            pass_fds=[theirs.fileno()],
            # Ctrl-C is for this process to answer.
            start_new_session=True,
        )
        theirs.close()
        with contextlib.suppress(OSError):  # one that is dead already is met when it is asked
            ours.send_bytes(pickle.dumps(config))
        return cls(process.pid, ours, process)

    @classmethod
    def fork(cls, config: JobConfig, *, close: Callable[[], None] = lambda: None) -> Self:
        """Fork one. This process must have no other thread yet; the guard dies with it.

        Args:
            config: What holds for all that it is asked for.
            close: Called in the guard: closes what is this process's alone.
        """
        ours, theirs = Pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent(parent)
                ours.close()
                close()
                be_guard(theirs, config)
            finally:
                os._exit(0)
        theirs.close()
        return cls(pid, ours)

    def send(self, request: Json) -> None:
        """Send a request.

        Raises:
            OSError: It is gone.
        """
        self.connection.send_bytes(json.dumps(request, allow_nan=False).encode())

    def receive(self, progress: Callable[[str], None] = lambda told: None) -> Json | None:
        """Wait for a message: an answer, or None for what is no answer yet.

        Args:
            progress: Told how far it is.

        Raises:
            EOFError: It is gone.
            OSError: The same.
        """
        data = self.connection.recv_bytes()
        if data == READY:
            self._is_ready = True
            return None
        message: Json = json.loads(data)
        if "pid" in message:
            self._session = message["pid"]
            return None
        if "progress" in message:
            progress(message["progress"])
            return None
        self._session = None
        for line in message.pop("log"):
            logger.warning("%s", line)
        return message

    def ask(self, request: Json, progress: Callable[[str], None] = lambda told: None) -> Json:
        """Send a request, and wait for the answer.

        Args:
            request: As ``be_guard`` says.
            progress: Told how far it is.

        Raises:
            GuardDied: Somebody has killed it.
        """
        try:
            self.send(request)
            while (answer := self.receive(progress)) is None:
                pass
            return answer
        except (EOFError, OSError):
            raise GuardDied(ending(self.kill(after=_SHUTDOWN_TIMEOUT)), is_ours=not self._is_ready) from None

    def interrupt(self) -> None:
        """Have it end what it does, from any thread: whoever is asking meets ``GuardDied``."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)  # closing it would not wake who reads from it

    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self._code is not None or has_exited(self._pid)

    def kill(self, *, after: float = _SHUTDOWN_TIMEOUT) -> int:
        """End the guard and all below it; its exit code.

        Args:
            after: Seconds that it has to end what it looks after, before it is ended by force.
        """
        if self._code is None:
            self.connection.close()  # its sign to end
            deadline = time.monotonic() + after
            while not self.is_dead() and time.monotonic() < deadline:
                time.sleep(0.005)
            if not self.is_dead():
                os.kill(self._pid, signal.SIGKILL)
            if self._process is not None:
                self._code = self._process.wait()
            else:
                self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            if self._session is not None:
                kill_session(self._session)
        return self._code
