"""A TCP relay, on a port of loopback unless told otherwise: what comes in goes on to wherever ``reach`` leads."""

from __future__ import annotations

import contextlib
import socket
import threading

__all__ = ["Relay"]


class Relay:
    """Passes bytes on, both ways, until it is closed. Subclasses say where to.

    Args:
        host: An address of this machine to listen on.
        port: 0 for any free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server((host, port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def reach(self) -> socket.socket:
        """A connection to where the next one goes. Raises ``OSError``."""
        raise NotImplementedError

    def hold(self) -> None:
        """Called before bytes are passed on; returns when they may be."""

    def close(self) -> None:
        """End every connection and take no new one."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                self._open.append(near)
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = self.reach()
        except OSError:
            near.close()
            return
        self._open.append(far)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.hold()
                sink.sendall(data)
        # Both ways at once: a server that was killed must be felt by its client.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
