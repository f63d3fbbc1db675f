"""The fork server: a process that has imported everything, and forks a child for each flow run.

``python -m autoscorer.worker.forkserver FD`` is started by the worker, which speaks to it over the socket ``FD``
(``worker/processes.py``). It has one thread and does nothing but fork and bury, so a fork of it is clean and takes
milliseconds, where a new interpreter would import for seconds.

It outlives its worker for a moment: when the worker is gone, however it died, the children are killed and the
containers of their flow runs removed. When the fork server itself is killed, the kernel ends the children.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback

from ..core.config import Settings, load_settings
from ..service.installation.process import spread_niceness

__all__ = ["MESSAGE", "main"]

# Most that one message between worker and fork server may hold, in bytes.
MESSAGE = 4096
PR_SET_PDEATHSIG = 1
# What a run will need: imported here once, and shared by every child.
PRELOADED = (
    "anyio._backends._asyncio",
    "encodings.utf_8_sig",
    "numpy.typing",
    "msgspec",
    "prefect.flow_engine",
    "prefect.logging.handlers",
    "prefect.events.worker",
    "autoscorer.flows.pipeline",
    "autoscorer.flows.batch",
    "autoscorer.executors.docker.executor",
    "autoscorer.executors.process",
    "autoscorer.scorers.registry.builtin",
    "autoscorer.scorers.classification",
    "autoscorer.scorers.regression",
    "autoscorer.scorers.detection.scorer",
    "autoscorer.scorers.tables.csv_reader",
    "autoscorer.scorers.tables.record_reader",
    "autoscorer.scorers.plots.curves_and_bars",
    "autoscorer.scorers.report.report",
    "autoscorer.worker.child",
)


def main(fd: int) -> None:
    """Serve the worker at the other end of a socket until it is gone.

    Args:
        fd: A ``SOCK_SEQPACKET`` socket.
    """
    control = socket.socket(fileno=fd)
    # The worker ends its children itself, and by the end of this socket: a Ctrl-C at its terminal is not meant for us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Its session is its own, and would get a share of the processor as large as the API's.
    spread_niceness()
    for name in PRELOADED:
        importlib.import_module(name)
    # The same for every run, as it is for the worker: both read it when they start.
    settings = load_settings()
    # What was imported stays as it is: a collection in a child would touch, and so copy, every page of it.
    gc.collect()
    gc.freeze()
    _ForkServer(control, settings).serve()


class _ForkServer:
    def __init__(self, control: socket.socket, settings: Settings) -> None:
        self._control = control
        self._settings = settings
        # Child by pid: the worker's number for it, and its flow run.
        self._children: dict[int, tuple[int, str]] = {}
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        self._send(ready=True)
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 1024)
                self._reap(os.WNOHANG)
            if self._control.fileno() in readable and not self._on_message():
                break
        self._end()

    def _on_message(self) -> bool:
        """Do what the worker asks for; False when there is no worker any more."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return False
        if not data:
            return False
        message = json.loads(data)
        number = message["number"]
        if message["do"] == "fork":
            self._fork(number, message["flow_run"], fds[0])
        else:
            for pid, (known, _) in self._children.items():
                if known == number:
                    # Ours and not waited for: the pid can be nobody else's.
                    os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, number: int, flow_run: str, channel: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or no memory
            os.close(channel)
            self._send(failed=number, why=error.strerror)
            return
        if pid == 0:
            self._be_child(parent, channel)
        os.close(channel)
        self._children[pid] = (number, flow_run)
        self._send(forked=number, pid=pid)

    def _be_child(self, parent: int, channel: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            _die_with_parent(parent)
            self._control.close()
            os.close(self._woken)
            os.close(self._wake)
            from .child import serve

            code = serve(channel, self._settings)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            # Not the usual exit: what is registered there would wait for servers that may be away.
            os._exit(code)

    def _reap(self, options: int) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, options)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._children:
                number, _ = self._children.pop(pid)
                self._send(exited=number, status=os.waitstatus_to_exitcode(status))

    def _send(self, **message: object) -> None:
        with contextlib.suppress(ConnectionError):
            self._control.send(json.dumps(message).encode())

    def _end(self) -> None:
        """The worker is gone: nothing of its runs stays. Who puts them back is not for this process to say."""
        flow_runs = [flow_run for _, flow_run in self._children.values()]
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        self._reap(0)
        if not flow_runs:
            return
        from ..core.errors import AutoScorerError
        from ..executors.reaper import reap_if_needed, remove_by_label

        # What can't be done here is done by the next worker or the API: the claims of these runs are dead.
        with contextlib.suppress(AutoScorerError):
            for flow_run in flow_runs:
                remove_by_label(self._settings, "flow_run", flow_run)
            reap_if_needed(self._settings)


def _die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
