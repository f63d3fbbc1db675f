"""Attacks on limits: each takes about twice what it may, and no more, for where nothing limits it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from .files import root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LIMITS"]

_MIB = 1 << 20
# So many, and then threads: without control groups what processes share is counted for each of them.
_PROCESSES = 16
_forever = threading.Event()


def memory(told: dict[str, Any]) -> None:
    held = [bytearray(os.urandom(4096)) * 256 for _ in range(2 * told["memory"] // _MIB)]
    held.clear()


def processes(told: dict[str, Any]) -> None:
    """Processes, and threads, which take less memory. A few thousand refusals are what a fork bomb is known by."""
    children: list[int] = []
    started, refused, why = 0, 0, ""
    threading.stack_size(64 * 1024)
    try:
        while started < 2 * told["pids"] and refused < 5000:
            try:
                if len(children) < _PROCESSES:
                    _sleep_in_child(children)
                else:
                    threading.Thread(target=_forever.wait, daemon=True).start()
                started += 1
            except (BlockingIOError, RuntimeError) as error:
                refused += 1
                why = f"{type(error).__name__}: {error}"
        if refused:
            print(why, flush=True)
            time.sleep(told["timeout"] / 2)
            raise SystemExit(1)
    finally:
        for child in children:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)


def _sleep_in_child(children: list[int]) -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    children.append(child)


def disk(told: dict[str, Any]) -> None:
    for number in range(2 * told["disk"] // _MIB):
        with open(os.path.join(root(), "output", f"part-{number}"), "wb") as file:
            file.write(bytes(_MIB))
    time.sleep(2)


def deleted_files(told: dict[str, Any]) -> None:
    """No folder shows a file that was deleted while it is open, and it fills the disk all the same."""
    held = []
    for _ in range(2 * told["disk"] // (4 * _MIB)):
        path = os.path.join(root(), "output", "deleted")
        held.append(open(path, "wb"))  # noqa: SIM115 - held open on purpose
        os.unlink(path)
        held[-1].write(bytes(4 * _MIB))
        held[-1].flush()
    time.sleep(told["timeout"] / 2)


def memory_files(told: dict[str, Any]) -> None:
    """The folders in memory together, which count as the model's memory or are full."""
    held = []
    for folder in ("/dev/shm", "/tmp"):
        with open(os.path.join(folder, f"prove-{os.getpid()}"), "wb") as file:
            os.unlink(file.name)
            for _ in range(2 * told["memory"] // _MIB):
                file.write(bytes(_MIB))
            held.append(os.dup(file.fileno()))


def many_files(told: dict[str, Any]) -> None:
    for number in range(2 * told["output_files"]):
        os.close(os.open(os.path.join(root(), "output", str(number)), os.O_WRONLY | os.O_CREAT))
    time.sleep(2)


def long_time(told: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end = time.monotonic() + 3 * told["timeout"]
    while time.monotonic() < end:
        time.sleep(0.5)


def links(told: dict[str, Any]) -> None:
    """Where the output leads somebody who follows links."""
    output = os.path.join(root(), "output")
    os.symlink("/etc/shadow", os.path.join(output, "pred.csv"))
    os.symlink(os.path.join(told["workspace"], "input", "gt.csv"), os.path.join(output, "second.csv"))


LIMITS = {
    one.__name__: one for one in (memory, memory_files, processes, disk, deleted_files, many_files, long_time, links)
}
