"""A container's output as it comes, over the Engine's attach connection.

docker-py's own iterator leaves the connection to the garbage collector and gives no way to end it early; a service
that runs for months would collect sockets.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

__all__ = ["AttachedOutput"]

_HEADER = struct.Struct(">BxxxL")  # stream (1 stdout, 2 stderr), length of the frame


class AttachedOutput:
    """Attached to a container that is created and not yet started, so that no byte is missed.

    Args:
        client: A client without a timeout, of its own: a quiet model would look like a dead connection.
        container: Its id.
    """

    def __init__(self, client: Any, container: str) -> None:
        self._client = client
        self._raw = client.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
        self._file = self._raw._response.raw._fp.fp

    def __iter__(self) -> Iterator[bytes]:
        """Yield stdout and stderr in the order they come, until the container or the connection ends."""
        while True:
            header = self._file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            _, length = _HEADER.unpack(header)
            while length:
                # read1 hands on what is there; a whole frame may be long in coming.
                data = self._file.read1(min(length, 65536))
                if not data:
                    return
                length -= len(data)
                yield data

    def close(self) -> None:
        """End the connection; an iteration under way ends with it."""
        response, sock = self._raw._response, self._raw._sock
        for part in (response, self._file, sock, self._client):
            with contextlib.suppress(OSError, ValueError):
                if part is sock:
                    sock.shutdown(2)
                part.close()
