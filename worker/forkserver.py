"""The fork server: a process that has imported everything, and forks one for each flow run.

``python -m autoscorer.worker.forkserver FD`` is started by the worker (``worker/processes.py``). For each flow run the
worker sends its id over the socket ``FD``, with two sockets: the channel of the process that is to be forked, and a
control socket. Over the latter the fork server writes the process's id and in the end its exit status, and reads when
it is to be killed. The fork server has one thread and only forks and reaps, so a fork of it is clean and takes
milliseconds, where a new interpreter would import for seconds.

It outlives its worker for a moment: when the worker is gone, however it died, the processes are killed and the
containers of their flow runs removed. When the fork server itself is killed, the kernel ends the processes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from functools import partial
from typing import NoReturn

from ..core.config import Settings, load_settings
from ..core.processes import die_with_parent
from ..service.installation.process import spread_niceness

__all__ = ["main"]

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
    worker = socket.socket(fileno=fd)
    # The worker ends what it forks itself, and by the end of this socket: a Ctrl-C at its terminal is not meant for us.
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
    _ForkServer(worker, settings).serve()


class _ForkServer:
    def __init__(self, worker: socket.socket, settings: Settings) -> None:
        self._worker = worker
        self._settings = settings
        # By pid: the flow run that is worked on, and the control socket.
        self._processes: dict[int, tuple[str, socket.socket]] = {}
        self._is_over = False
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # One that holds nothing in the kernel, which a fork would share.
        self._selector = selectors.PollSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_exit)
        self._selector.register(worker, selectors.EVENT_READ, self._on_message)

    def serve(self) -> None:
        """Fork and reap until the worker is gone."""
        with contextlib.suppress(ConnectionError):
            self._worker.send(b"ready")
        while not self._is_over:
            for key, _ in self._selector.select():
                key.data()
        self._end()

    def _on_exit(self) -> None:
        os.read(self._woken, 1024)
        self._reap(os.WNOHANG)

    def _on_message(self) -> None:
        """Fork a process for the flow run that the worker names."""
        try:
            flow_run, sockets, _, _ = socket.recv_fds(self._worker, 256, 2, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            flow_run = b""
        if not flow_run:
            self._is_over = True
            return
        channel, control = sockets[0], socket.socket(fileno=sockets[1])
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or no memory
            _write(control, failed=f"no process could be forked: {error.strerror}")
            control.close()
            os.close(channel)
            return
        if pid == 0:
            self._work(parent, channel, control)
        os.close(channel)
        self._processes[pid] = (flow_run.decode(), control)
        self._selector.register(control, selectors.EVENT_READ, partial(self._kill, pid))
        _write(control, pid=pid)

    def _kill(self, pid: int) -> None:
        if pid not in self._processes:
            return  # it was reaped a moment ago
        _, control = self._processes[pid]
        try:
            wanted = control.recv(16)
        except ConnectionError:
            wanted = b""
        if wanted:
            # Ours and not waited for: the pid can be nobody else's.
            os.kill(pid, signal.SIGKILL)
        else:  # the worker is gone, which its own socket tells, or has lost interest
            self._selector.unregister(control)

    def _work(self, parent: int, channel: int, control: socket.socket) -> NoReturn:
        """Be the process for one flow run."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            die_with_parent(parent)
            for inherited in (*(key.fd for key in self._selector.get_map().values()), control.fileno(), self._wake):
                os.close(inherited)
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
        while self._processes:
            pid, status = os.waitpid(-1, options)
            if pid == 0:
                return
            if pid not in self._processes:
                continue
            _, control = self._processes.pop(pid)
            if control in self._selector.get_map():
                self._selector.unregister(control)
            _write(control, status=os.waitstatus_to_exitcode(status))
            control.close()

    def _end(self) -> None:
        """The worker is gone: nothing of its runs stays. Who puts them back is not for this process to say."""
        flow_runs = [flow_run for flow_run, _ in self._processes.values()]
        for pid in self._processes:
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


def _write(control: socket.socket, **message: object) -> None:
    with contextlib.suppress(ConnectionError):
        control.send(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
