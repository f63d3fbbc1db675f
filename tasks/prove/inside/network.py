"""Attacks on the network: what can be seen of it, and reached over it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["abstract_sockets", "connections", "engine_sockets", "interfaces", "names_resolved"]

_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1
_WAIT = 1.5
# For documentation, so that nobody is there; and where clouds tell a machine its credentials.
_ADDRESSES = (("192.0.2.1", 80), ("169.254.169.254", 80))
_SOCKETS = (
    *("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock"),
    *("/run/crio/crio.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/dev/log"),
)


def interfaces(told: dict[str, Any]) -> list[str]:
    """Interfaces that are up. A kernel puts some that are not into every namespace."""
    names: set[str] = set()
    with contextlib.suppress(OSError):
        names |= {name for _, name in socket.if_nameindex()}
    with contextlib.suppress(OSError), open("/proc/net/dev", encoding="ascii") as file:
        names |= {line.partition(":")[0].strip() for line in file if ":" in line}
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in sorted(names):
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, struct.pack("16sh14x", name.encode(), 0))
                flags = struct.unpack("16sh14x", answer)[1]
            except OSError:
                flags = _IFF_UP
            found += [name] if flags & _IFF_UP else []
    return found


def connections(told: dict[str, Any]) -> dict[str, str]:
    """Address to what came of connecting to it: ``connected``, ``sent``, ``timeout`` or the kernel's error."""
    targets = [("127.0.0.1", told["port"]), *((address, told["port"]) for address in told["addresses"]), *_ADDRESSES]
    found = {}
    for host, port in targets:
        try:
            socket.create_connection((host, port), timeout=_WAIT).close()
            found[f"{host}:{port}"] = "connected"
        except OSError as error:
            found[f"{host}:{port}"] = _named(error)
    for kind in (socket.AF_INET, socket.AF_INET6):
        address = ("192.0.2.1", 9) if kind == socket.AF_INET else ("2001:db8::1", 9)
        try:
            with socket.socket(kind, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", address)
            found[f"udp {address[0]}"] = "sent"
        except OSError as error:
            found[f"udp {address[0]}"] = _named(error)
    return found


def names_resolved(told: dict[str, Any]) -> list[str]:
    """Names that somebody answered for."""
    found = []
    for name in ("example.com", "kubernetes.default.svc", "host.docker.internal"):
        with contextlib.suppress(OSError, UnicodeError):
            found.append(f"{name}: {socket.getaddrinfo(name, 80)[0][4][0]}")
    return found


def abstract_sockets(told: dict[str, Any]) -> list[str]:
    """Sockets without a file, which a network namespace keeps apart: one that listens outside, and others."""
    return [name for name in told["abstract"] if _reaches("\0" + name)]


def engine_sockets(told: dict[str, Any]) -> list[str]:
    """Sockets of engines and of the system that can be reached."""
    return [path for path in _SOCKETS if os.path.exists(path) and _reaches(path)]


def _reaches(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_WAIT)
        try:
            probe.connect(address)
        except OSError as error:
            return error.errno == errno.EPROTOTYPE  # it is there, and of another type
    return True


def _named(error: OSError) -> str:
    if isinstance(error, socket.timeout):  # an image's Python may be older than that they are one
        return "timeout"
    return errno.errorcode.get(error.errno or 0, str(error))
