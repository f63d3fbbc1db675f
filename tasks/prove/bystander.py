"""A process outside that the model must not reach: ``python -I -S bystander.py PARENT MARK``.

It listens on the host's loopback and on a socket without a file, and holds a secret in its environment. It prints its
port, and ends with who started it. MARK, which is on its command line, is what it is recognised by.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading

__all__ = ["abstract_name"]

_PR_SET_PDEATHSIG = 1


def abstract_name(mark: str) -> str:
    """The socket that it listens on, without the zero byte that begins it."""
    return f"autoscorer-{mark}"


def _listen(listener: socket.socket) -> None:
    while True:
        listener.accept()[0].close()


def _main(parent: int, mark: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    network = socket.create_server(("127.0.0.1", 0))
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    local.bind("\0" + abstract_name(mark))
    local.listen()
    threading.Thread(target=_listen, args=(local,), daemon=True).start()
    print(network.getsockname()[1], flush=True)  # noqa: T201 - to whoever started it
    _listen(network)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
