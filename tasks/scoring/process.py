"""The processes in which a scorer's code runs: a guard, and below it one process for each validation or scoring.

The guard runs no scorer's code. It finds the file that is needed, forks a process that loads it and does the work, and
looks after that one: its time, its memory, and everything it has started. A scorer that hangs, crashes, ends its
process or kills its parent takes nothing more with it than the work that it was given. ``Guard`` (``guard.py``) starts
guards and talks to them.

A guard is a fork of a process that has no other thread yet, or a program of its own: a fork would copy the locks of
Prefect's threads. Nothing here imports Prefect, so the program costs little to start.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ...core.bounds import shortened
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage, internal_error
from ...core.meta import Meta
from ...core.processes import adopt_orphans, describe_exit, die_with_parent, has_exited
from ...core.provenance import current_attempt, current_flow_run
from ...core.storage import fault_of
from ...core.workspace import Workspace
from ...scorers.registry import get_registry
from ...scorers.registry.needed import Needed, find_needed
from ...scorers.report import report  # noqa: F401 - needed by the first Result, and slow to import
from ..memory import MemoryWatch, descendants, limit_memory, oom_kills, out_of_memory, release_memory
from ..score import score
from ..scorer_call import one_line
from ..validate import resolve_scorer, validate

__all__ = ["READY", "JobConfig", "be_guard", "ending", "main"]

Json = dict[str, Any]

READY = b"ready"
_LOADED = b"loaded"
_PROGRESS = b"progress "
# Of 1000: when memory runs out, the kernel ends this process before the flow's, the worker's and the server's.
_OOM_SCORE = "800"
# Seconds between two looks at the memory and the clock.
_LOOK = 0.05
# Seconds that a process which closed its channel may take to be gone.
_GRACE = 1.0
# Bytes of an answer; a Result is smaller.
_MAX_ANSWER = 16 * 1024**2
_MAX_LOGGED = 20


@dataclass(frozen=True)
class JobConfig:
    """What holds for all that a guard is asked for.

    Args:
        settings: The configuration.
        timeout: Seconds that one validation or scoring may take.
        scorers_dirs: More folders of scorers (``--scorers DIR``).
    """

    settings: Settings
    timeout: float
    scorers_dirs: tuple[Path, ...] = ()


def main(descriptor: int) -> None:
    """Be a guard, as a program of its own.

    Args:
        descriptor: Of an inherited socket. First come pickled ``JobConfig``, then requests.
    """
    connection = Connection(descriptor)
    os.set_inheritable(descriptor, False)
    with contextlib.suppress(EOFError, ConnectionError):
        # Pickle: the other end is our own parent, and settings hold secrets that their JSON masks.
        config: JobConfig = pickle.loads(connection.recv_bytes())  # noqa: S301
        be_guard(connection, config)


def be_guard(connection: Connection, config: JobConfig) -> None:
    """Answer requests until the other end is closed. This process must have no other thread.

    A request is ``{"do": "score" or "validate", "flow_run", "attempt", "workspace", "meta", "options"}``, with the
    keywords of ``score_workspace`` or ``validate_workspace`` as options; who asks for a score holds the workspace. The
    answer is ``{"result"}``, ``{"checked"}`` or ``{"error"}``, and ``log``: lines to be logged. Before it comes
    ``{"pid"}``: of the process that does the work, and of its session. In between there may be ``{"progress"}``: how
    far the scorer is, in a few words.
    """
    adopt_orphans()
    # Ctrl-C at a terminal is for the one who asks.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard = _Guard(connection, config)
    with contextlib.suppress(EOFError, ConnectionError):
        guard.serve()


class _Guard:
    def __init__(self, connection: Connection, config: JobConfig) -> None:
        self._connection = connection
        self._config = config
        self._log: list[str] = []
        logging.getLogger("autoscorer").addHandler(_Collecting(self._log))

    def serve(self) -> None:
        # Ahead of the first request: whoever asks has other things to do meanwhile.
        process: _Process | None = _Process(self._connection, self._config)
        self._connection.send_bytes(READY)
        try:
            while True:
                request = json.loads(self._connection.recv_bytes())
                process = process or _Process(self._connection, self._config)
                self._send({"pid": process.pid})
                answer = self._answer(process, request)
                process = None
                self._send({**answer, "log": self._log[:_MAX_LOGGED]})
                self._log.clear()
        finally:
            if process is not None:
                process.kill()

    def _send(self, message: Json) -> None:
        self._connection.send_bytes(json.dumps(message, allow_nan=False).encode())

    def _answer(self, process: _Process, request: Json) -> Json:
        try:
            needed = self._needed(request)
            before = oom_kills()
            process.send({**request, "needed": needed and needed.to_dict()})
            return self._watch(process, before)
        except AutoScorerError as error:
            return {"error": error.to_dict()}
        except OSError as error:
            return {"error": internal_error(error).to_dict()}
        finally:
            process.kill()

    def _needed(self, request: Json) -> Needed | None:
        try:
            asked = Meta.from_dict(request["meta"]).asked  # a check goes on with what it says of the scorer
            if asked is None:
                return None
            scorer_id, _ = resolve_scorer(asked, request["options"].get("scorer"), None)
        except AutoScorerError:  # the work itself meets it, and tells of it in its own way
            return None
        return find_needed(self._config.settings, scorer_id, extra=self._config.scorers_dirs)

    def _watch(self, process: _Process, oom_before: int | None) -> Json:
        settings = self._config.settings
        memory = settings.security.limits.scoring_memory
        watch = MemoryWatch(memory)
        loading, limit = True, settings.scorers.load_timeout
        deadline = time.monotonic() + limit
        told_at = 0.0
        while True:
            heard = wait([process.connection, self._connection], _LOOK)
            if self._connection in heard:
                # Nobody asks while we work: it was closed.
                raise EOFError
            # Something that the scorer started may live on, and hold the other end open.
            is_dead = process.is_dead()
            if process.connection in heard or is_dead:
                message = process.receive() if process.connection.poll() else None
                if message is None:
                    return {"error": self._died(process, loading, oom_before).to_dict()}
                if message == _LOADED:
                    loading, limit = False, self._config.timeout
                    deadline = time.monotonic() + limit
                    watch = MemoryWatch(memory)
                elif not message.startswith(_PROGRESS):
                    return _parsed(message)
                elif (now := time.monotonic()) - told_at >= _LOOK:  # a scorer can send as many as it likes
                    told_at = now
                    told = one_line(message[len(_PROGRESS) :].decode("utf-8", "replace"))
                    self._send({"progress": told})
            if watch.is_over():
                raise out_of_memory(settings)
            if time.monotonic() > deadline:
                raise _too_long(loading, limit)

    def _died(self, process: _Process, loading: bool, oom_before: int | None) -> AutoScorerError:
        code = process.kill(after=_GRACE)
        oom_now = oom_kills()
        if code == -signal.SIGKILL and oom_before is not None and oom_now is not None and oom_now > oom_before:
            return out_of_memory(self._config.settings)
        what = "loaded the scorer" if loading else "scored this workspace"
        return AutoScorerError(
            ErrorCode.SCORER_LOAD_ERROR if loading else ErrorCode.SCORER_ERROR,
            f"The process that {what} {ending(code)}. A scorer must return or raise; this one ended its process.",
            details={"exit_code": code},
        )


class _Process:
    """The guard's side of the process that does the work."""

    def __init__(self, guard: Connection, config: JobConfig) -> None:
        self.connection, theirs = Pipe()
        parent = os.getpid()
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.connection.close()
                guard.close()
                _be_process(theirs, config, parent)
            finally:
                # Threads and exit handlers that the scorer has left must not keep the process.
                os._exit(1)
        theirs.close()

    def send(self, message: Json) -> None:
        with contextlib.suppress(ConnectionError):  # it is dead, which is met at the next look
            self.connection.send_bytes(json.dumps(message, allow_nan=False).encode())

    def receive(self) -> bytes | None:
        try:
            return self.connection.recv_bytes(_MAX_ANSWER)
        except (EOFError, OSError):
            return None

    def is_dead(self) -> bool:
        # It stays a zombie, which keeps the number of its session until that is killed.
        return self._code is not None or has_exited(self.pid)

    def kill(self, *, after: float = 0.0) -> int:
        """End the process, after so many seconds, and all that it has started; its exit code."""
        if self._code is None:
            deadline = time.monotonic() + after
            while not self.is_dead() and time.monotonic() < deadline:
                time.sleep(0.005)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            # What has left its session is a child of this process by now.
            while family := descendants(os.getpid()):
                for pid in family:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-1, 0)
            self.connection.close()
        return self._code


# --- the process that does the work ----------------------------------------------------------------------


def _be_process(connection: Connection, config: JobConfig, parent: int) -> None:
    # A session of its own: what a scorer sends to its process group reaches nobody else.
    os.setsid()
    die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with contextlib.suppress(EOFError, ConnectionError):
        request = json.loads(connection.recv_bytes())

        def loaded() -> None:
            # Not before: a library that can't have the buffers which it asks for when it is imported ends the process.
            limit_memory(config.settings)
            connection.send_bytes(_LOADED)

        def progress(told: str) -> None:
            with contextlib.suppress(OSError):  # the guard is gone, which is met where the answer is sent
                connection.send_bytes(_PROGRESS + told.encode("utf-8", "replace"))

        answer = _work(request, config.settings, loaded, progress)
        connection.send_bytes(json.dumps(answer, allow_nan=False).encode())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _work(request: Json, settings: Settings, loaded: Callable[[], None], progress: Callable[[str], None]) -> Json:
    current_flow_run.set(request["flow_run"])
    current_attempt.set(request["attempt"])
    needed, options = request["needed"], request["options"]
    registry = get_registry()
    registry.entry_points = settings.scorers.entry_points
    try:
        try:
            if needed is not None:
                Needed.from_dict(needed).load(registry)
        except AutoScorerError as error:
            if error.code is not ErrorCode.SCORER_NOT_FOUND:  # which the work meets again
                raise
        loaded()
        space, meta = Workspace(request["workspace"]), Meta.from_dict(request["meta"])
        if request["do"] == "score":
            return {"result": score(space, meta, settings, progress=progress, **options).to_dict()}
        return {"checked": validate(space, meta, settings, **options)}
    except AutoScorerError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        release_memory()
        return {"error": out_of_memory(settings).to_dict()}
    except Exception as error:  # where not even a failure could be written, as on a full disk
        return {"error": fault_of(error, workspace=Path(request["workspace"])).to_dict()}


# --- small things ----------------------------------------------------------------------------------------


class _Collecting(logging.Handler):
    """Keeps what our own code logs for the one who asks."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(shortened(record.getMessage()))


def _parsed(message: bytes) -> Json:
    try:
        answer = json.loads(message)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not answer.keys() & {"result", "checked", "error"}:
        raise AutoScorerError(ErrorCode.SCORER_ERROR, "The process that scored this workspace answered with nonsense.")
    return answer


def _too_long(loading: bool, limit: float) -> AutoScorerError:
    if loading:
        return AutoScorerError(
            ErrorCode.SCORER_LOAD_ERROR,
            f"Loading the scorer did not end within {limit:.0f} s (scorers.load_timeout) and was stopped.",
            stage=Stage.SCORING,
        )
    return AutoScorerError(ErrorCode.SCORER_ERROR, f"Scoring did not end within {limit:.0f} s and was stopped.")


def ending(code: int) -> str:
    """How a process ended, in words that follow what it was."""
    return f"{'ended with' if code >= 0 else 'was killed by'} {describe_exit(code)}"
