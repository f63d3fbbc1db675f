"""Child processes of ``autoscorer up``: started so that they die with it, watched, restarted, ended in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...core.backoff import delays
from ...core.processes import ProcessIdentity, describe_exit, die_with_parent

__all__ = ["SupervisedProcess", "end_leftover", "rotate", "spread_niceness"]

log = logging.getLogger("autoscorer.up")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# After so many seconds of life an ending counts as the first one again.
_HEALTHY_AFTER = 60.0
_LOG_BYTES = 50 * 1024 * 1024


@dataclass(eq=False)
class SupervisedProcess:
    """One process that is kept alive.

    Args:
        name: For people and for the log file's name.
        command: Program and arguments; nothing secret, ``ps`` shows them.
        environment: Its whole environment.
        cwd: Its working folder.
        log_file: Where its output goes.
        nice: Added to our own niceness.
        grace: Seconds from SIGTERM to SIGKILL when it is stopped.
        started: Called with nothing after each start.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(kw_only=True, repr=False)
    cwd: Path = field(kw_only=True)
    log_file: Path = field(kw_only=True)
    nice: int = field(default=0, kw_only=True)
    grace: float = field(default=15.0, kw_only=True)
    started: Callable[[], None] = field(default=lambda: None, kw_only=True)
    owner: ProcessIdentity | None = field(default=None, init=False)
    # How often it ended by itself.
    endings: int = field(default=0, init=False)
    last_code: int | None = field(default=None, init=False)
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _since: float = field(default=0.0, init=False)
    _log_start: int = field(default=0, init=False)

    @property
    def pid(self) -> int | None:
        """Of the living process; None between two lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start it once."""
        rotate(self.log_file)
        parent = os.getpid()
        with self.log_file.open("ab") as output:
            self._log_start = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environment,
                cwd=self.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own: Ctrl-C on the terminal is for `up`, which then stops all in order.
                start_new_session=True,
                preexec_fn=lambda: _bind(parent, self.nice),
            )
        self._since = time.monotonic()
        self.owner = ProcessIdentity.of(self._process.pid)
        self.started()

    async def wait(self) -> int:
        """Until it ends; its exit code, negative for a signal."""
        assert self._process is not None
        self.last_code = await self._process.wait()
        return self.last_code

    async def keep_alive(self) -> None:
        """Start it, and again whenever it ends; for ever. Cancel this before ``stop``."""
        pauses = delays(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            await self.start()
            code = await self.wait()
            self._end_group()
            self.endings += 1
            if time.monotonic() - self._since >= _HEALTHY_AFTER:
                pauses = delays(_FIRST_PAUSE, _LONGEST_PAUSE)
            pause = next(pauses)
            log.warning("%s ended with %s; starting it again in %.1f s", self.name, describe_exit(code), pause)
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """End it and what it has started: SIGTERM, and SIGKILL after the grace."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self.grace)
            except TimeoutError:
                log.warning("%s did not end within %.0f s of SIGTERM and is killed", self.name, self.grace)
        self._end_group()
        await process.wait()

    def _end_group(self) -> None:
        """Kill what is left of it; its group may outlive it."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def output(self) -> str:
        """What this life of it has written."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(self._log_start)
                return file.read(_LOG_BYTES).decode(errors="replace")
        except OSError:
            return ""


def _bind(parent: int, nice: int) -> None:
    """In the child, before its program: die when the parent dies."""
    die_with_parent(parent)
    if nice:
        os.nice(nice)
        spread_niceness()


def spread_niceness() -> None:
    """Let this process's niceness hold against other sessions, too.

    Linux may share the processor among sessions (autogroups) first, and then niceness counts within a session only.
    """
    with contextlib.suppress(OSError):
        own = os.getpriority(os.PRIO_PROCESS, 0)
        Path("/proc/self/autogroup").write_text(str(own))


def rotate(path: Path) -> None:
    """Keep a log below a bound: what is older goes to ``.1``. Its writers append, so they just go on."""
    try:
        if path.stat().st_size < _LOG_BYTES:
            return
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s could not be rotated: %s", path.name, error.strerror)


def end_leftover(pid: int, owner: ProcessIdentity, *, within: float = 10.0) -> bool:
    """End a process that an earlier ``up`` has left, if it is still that process.

    Returns:
        Whether there was one.
    """
    if owner.is_dead():
        return False
    for number, patience in ((signal.SIGTERM, within / 2), (signal.SIGKILL, within / 2)):
        with contextlib.suppress(ProcessLookupError):
            # Its group too: it was made its leader.
            os.killpg(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if owner.is_dead():
                return True
            time.sleep(0.05)
    return True
