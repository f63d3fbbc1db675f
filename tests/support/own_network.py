"""A network of its own for a story: loopback, and a way out that leads nowhere and tells what was sent there.

Linux gives each thread its own network namespace, if it asks; threads and processes that it starts are in it as well.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

__all__ = ["Outside", "in_own_network"]

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCADDRT, _IFF_UP, _RTF_UP = 0x8913, 0x8914, 0x8916, 0x890B, 1, 1


class Outside:
    """Everything but this host, as far as packets to it are seen.

    Args:
        tun: The device that they leave by.
    """

    def __init__(self, tun: int) -> None:
        self._tun = tun

    def seen(self) -> list[str]:
        """The addresses that something was sent to since the last look."""
        found = []
        while select.select([self._tun], [], [], 0.2)[0]:
            packet = os.read(self._tun, 65536)
            address = ipaddress.ip_address(packet[24:40] if packet[0] >> 4 == 6 else packet[16:20])
            # The kernel itself looks for routers and neighbours.
            if not address.is_multicast:
                found.append(str(address))
        return found


def in_own_network(story: Callable[[Outside], T]) -> T:
    """Tell a story in a network of its own.

    Args:
        story: Called in a thread of its own; what it starts must have ended when it returns.

    Returns:
        What it returns; what it raises is raised.
    """
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("a network of its own takes root and /dev/net/tun")
    ends: list[T] = []
    failures: list[BaseException] = []

    def tell() -> None:
        try:
            tun = _enter()
            try:
                ends.append(story(Outside(tun)))
            finally:
                os.close(tun)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=tell)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return ends[0]


def _enter() -> int:
    """Have this thread enter a new network; the device that all leaves by which is not for this host."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _up(control, b"lo")
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH14x", b"out", _IFF_TUN | _IFF_NO_PI))
        fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s8x", b"out", _address("10.255.255.1")))
        _up(control, b"out")
        # A route to everywhere: struct rtentry.
        name = ctypes.create_string_buffer(b"out")
        anywhere = _address("0.0.0.0")
        route = struct.pack(
            "@L16s16s16sHhLPhPLLH", 0, *[anywhere] * 3, _RTF_UP, 0, 0, 0, 0, ctypes.addressof(name), 0, 0, 0
        )
        fcntl.ioctl(control, _SIOCADDRT, route)
    return tun


def _up(control: socket.socket, name: bytes) -> None:
    (flags,) = struct.unpack_from("16xh", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", name, 0)))
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | _IFF_UP))


def _address(text: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))
