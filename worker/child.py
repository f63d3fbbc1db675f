"""The process that was forked for one flow run.

It reads its order from its channel, works, and saves the outcome before it says so. ``score`` and ``validate`` are
plain functions here, and the worker reports their states to Prefect; the other flows are run by Prefect's own engine,
which talks to the server itself. Scorers are called by a guard's process, never in this one: see
``tasks/scoring/process.py``.

The worker sends ``cancel`` over the channel, and ``published`` once every host can read the outcome that was saved; the
channel's end is the worker's death.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ..core.backoff import seldom
from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import FlowRunFiles
from ..core.processes import ProcessIdentity
from ..core.provenance import current_attempt, current_flow_run
from ..core.storage import fault_of, is_short_of_room
from ..core.workspace import Workspace
from ..executors.base import SilentObserver
from ..flows.artifacts import rendered, result_artifacts
from ..flows.engine_patch import kept_states_stand
from ..flows.final_state import outcome_of_state
from ..schemas.result import Result
from ..tasks.parameters import parsed
from ..tasks.prefect.context import RunContext, use
from ..tasks.prefect.log import TELLING
from ..tasks.prefect.states import failed_state, failure_of, state_of_result, valid_state
from ..tasks.score import STEP_TIMEOUT
from ..tasks.scoring import GuardedScoring, Scoring
from ..tasks.scoring.guard import Guard
from ..tasks.scoring.process import JobConfig
from .judging import judge
from .messages import fault_message, log_message

__all__ = ["Channel", "serve"]

Json = dict[str, Any]

# Seconds to hand Prefect the last log records and task runs. The run has ended; the server may be away for hours.
_FLUSH = 10.0
# Exit code of a process whose run is to be done again (EX_TEMPFAIL).
_TRY_AGAIN = 75


class Channel:
    """Talks with the worker, from any thread: JSON messages, one a line."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._file = self._socket.makefile("rb")
        self._sending = threading.Lock()

    def receive(self) -> Json | None:
        """The worker's next message; None when the worker is gone."""
        with contextlib.suppress(ConnectionError):
            if (line := self._file.readline()).endswith(b"\n"):
                message: Json = json.loads(line)
                return message
        return None

    def send(self, message: Json) -> None:
        """Tell the worker something."""
        data = json.dumps(message).encode() + b"\n"
        with self._sending, contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def detach(self) -> int:
        """The descriptor, for who reads from it otherwise from now on; nothing that was sent must be waiting."""
        self._file.close()
        return self._socket.detach()

    def close(self) -> None:
        """Close this process's copy, without a word to the worker."""
        self._file.close()
        self._socket.close()

    def log(self, level: int, text: str) -> None:
        """Give the worker a record for the flow run's log in Prefect."""
        self.send(log_message(level, text))


def serve(fd: int, settings: Settings) -> int:
    """Work on one flow run.

    Returns:
        The process's exit code: 0 when an ending was saved or Prefect's engine is done with the run.
    """
    channel = Channel(fd)
    # Before there is another thread, and while the worker tells Prefect that the run is under way.
    guard = Guard.fork(JobConfig(settings, STEP_TIMEOUT), close=channel.close)
    channel.send({"hello": ProcessIdentity.current().text})
    order = channel.receive()
    if order is None:
        return 0  # somebody else has the run
    if order["kind"] == "judges":
        guard.kill()
        return judge(channel.detach(), settings)
    with GuardedScoring(settings, guard=guard) as scoring:
        return _serve(order, channel, settings, scoring)


def _serve(order: Json, channel: Channel, settings: Settings, scoring: GuardedScoring) -> int:
    cancelled, published = threading.Event(), queue.SimpleQueue[bool]()
    listening = (channel, cancelled, published)
    threading.Thread(target=_listen, args=listening, name="autoscorer-channel", daemon=True).start()
    files = FlowRunFiles(settings.home, order["flow_run"])
    current_attempt.set(order["attempt"])
    try:
        if order["kind"] == "engine":
            put_back = partial(_put_back, channel, settings)
            own = RunContext(
                settings=settings,
                cancelled=cancelled.is_set,
                scoring=scoring,
                put_back=put_back,
                publish=None if order["attempt"] is None else partial(_publish, channel, published),
            )
            return _run_engine(order, files, own)
        _work(order, files, settings, scoring, channel)
    except Exception as error:
        # A full disk, a home that can't be written: the worker puts the run back, and says why.
        channel.send(fault_message(error, settings.home))
        return 1
    return 0


def _put_back(channel: Channel, settings: Settings, error: AutoScorerError) -> NoReturn:
    """End without an ending: the worker puts the run back.

    Whether it waits, or has used one of its attempts up, is said by the disk as it is now: what failed for want of room
    and has left much of it needs too much.
    """
    folders = [settings.home, *settings.workspace_roots]
    needed = error.details.get("needed_bytes", 0)
    waits = error.details.get("why") == "quota" or any(is_short_of_room(folder, needed) for folder in folders)
    channel.send({"fault": error.message, "waits_for_room": waits})
    _flush()
    os._exit(_TRY_AGAIN)


def _publish(channel: Channel, published: queue.SimpleQueue[bool]) -> None:
    """Wait until the worker has put the outcome where every host reads it; end here if it comes too late."""
    channel.send({"saved": True})
    if not published.get():
        os._exit(0)  # another attempt has the run, and Prefect hears of that one


def _listen(channel: Channel, cancelled: threading.Event, published: queue.SimpleQueue[bool]) -> None:
    while (message := channel.receive()) is not None:
        if "published" in message:
            published.put(message["published"])
        else:
            cancelled.set()
    # The worker is gone. The fork server ends this process, and then removes its containers; one that had ended by
    # itself would be reaped as any other, and its container would stay.


# --- score and validate ----------------------------------------------------------------------------------


class _Parameters(BaseModel):
    """Of ``score_only``, and those of ``validate_only`` alone; they come from anybody who may talk to Prefect."""

    model_config = ConfigDict(extra="forbid")

    workspace: str = Field(min_length=1)
    scorer: str | None = None
    params: Json | None = None


class _ValidateParameters(_Parameters):
    backend: Literal["auto", "bubblewrap", "docker", "kubernetes", "process"] | None = None
    purpose: Literal["score", "pipeline"] | None = None


def _work(order: Json, files: FlowRunFiles, settings: Settings, scoring: Scoring, channel: Channel) -> None:
    watcher = _Watcher(files, channel)
    token = current_flow_run.set(files.flow_run_id)
    result: Result | None = None
    with _logged(channel):
        try:
            if order["kind"] == "score":
                result = scoring.score(**parsed(_Parameters, order["parameters"]).model_dump(), observer=watcher)
                state = state_of_result(result)
            else:
                asked, started = parsed(_ValidateParameters, order["parameters"]).model_dump(), time.monotonic()
                watcher.stage("validate")
                state = valid_state(scoring.validate(**asked), time.monotonic() - started)
        except AutoScorerError as error:
            state = failed_state(error)
        except Exception as error:
            state = failed_state(fault_of(error, home=settings.home))
        finally:
            current_flow_run.reset(token)
    if not state.is_completed() and (failure := failure_of(state)).code is ErrorCode.STORAGE_FULL:
        _put_back(channel, settings, failure)
    # The message says what is to be known; it stands in the log as well, where people look for it.
    channel.log(logging.INFO if state.is_completed() else logging.ERROR, state.message or "")
    files.save_outcome(outcome_of_state(state))
    channel.send({"ended": True})
    if result is not None:
        _send_artifacts(Workspace(order["parameters"]["workspace"]), result, settings, channel)


class _Watcher(SilentObserver):
    """Notes the stages, for those who look at the files and those who read the log."""

    def __init__(self, files: FlowRunFiles, channel: Channel) -> None:
        self._files = files
        self._channel = channel
        self._tell = seldom(partial(channel.log, logging.INFO), TELLING)

    def stage(self, name: str, detail: str = "") -> None:
        self._files.set_stage(name, detail)
        self._channel.log(logging.INFO, f"stage {name}: {detail}" if detail else f"stage {name}")

    def progress(self, told: str) -> None:
        self._tell(told)


class _Forwarding(logging.Handler):
    """Sends what our own code logs to the flow run's log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.log(record.levelno, record.getMessage())


@contextlib.contextmanager
def _logged(channel: Channel) -> Iterator[None]:
    logger, handler = logging.getLogger("autoscorer"), _Forwarding(channel)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _send_artifacts(space: Workspace, result: Result, settings: Settings, channel: Channel) -> None:
    """Give the worker what the flow would have published itself; after the end, which must not wait for it."""
    bodies = rendered(result_artifacts(space, result, settings))
    if bodies:
        channel.send({"artifacts": bodies})


# --- Prefect's engine ------------------------------------------------------------------------------------


def _run_engine(order: Json, files: FlowRunFiles, own: RunContext) -> int:
    """Run a flow as ``python -m prefect.engine`` does, in this process."""
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import load_flow_run, run_flow
    from prefect.logging.loggers import flow_run_logger
    from prefect.settings import temporary_settings

    flow_run_id = UUID(files.flow_run_id)
    os.environ["PREFECT__FLOW_RUN_ID"] = str(flow_run_id)
    module, _, name = order["entrypoint"].rpartition(".")
    code = 0
    with _own_folder(files):
        try:
            # The worker sees its children die: it needs no sign of life by way of the server.
            with (
                handle_engine_signals(flow_run_id),
                temporary_settings({"flows.heartbeat_frequency": None}),
                kept_states_stand(),
                use(own),
            ):
                flow = getattr(importlib.import_module(module), name)
                flow_run = load_flow_run(flow_run_id)
                # A failed submission is a state that is returned, not an exception: nothing of it is ours to log.
                log: Any = flow_run_logger(flow_run)  # an adapter, where a Logger is declared
                run_flow(flow, flow_run=flow_run, return_type="state", error_logger=log)
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
        _flush()
    return code


@contextlib.contextmanager
def _own_folder(files: FlowRunFiles) -> Iterator[None]:
    """A working folder that no other run shares; what it holds at the end is nobody's."""
    folder: Path = files.folder / "cwd"
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


def _flush() -> None:
    """Hand over what Prefect's services still hold: log records, and the events that its task runs are made of."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    deadline = time.monotonic() + _FLUSH
    services: tuple[Callable[..., Any], ...] = (APILogWorker.drain_all, EventsWorker.drain_all)
    for drain in services:
        with contextlib.suppress(Exception):
            drain(timeout=max(deadline - time.monotonic(), 0.1))
