"""Ports for servers that can only be told which one to take."""

from __future__ import annotations

import contextlib
import secrets
import socket

__all__ = ["free_port"]

# Below what the kernel hands out by itself: while a server starts, which takes seconds, nobody else is given the port.
_PORTS = range(15_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """A port of that address that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1000):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind((host, port))
            return port
    raise AssertionError("no port is free")
