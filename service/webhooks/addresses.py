"""To which addresses a stranger's callback may be sent."""

from __future__ import annotations

import ipaddress
from typing import Any

__all__ = ["is_allowed"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(*texts: str) -> tuple[Any, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# From IANA's registries of special-purpose addresses. Written down, because what `is_global` of the standard library
# says differs between patch releases of Python.
_REFUSED_V4 = _networks(
    "0.0.0.0/8",  # this network; 0.0.0.0 reaches loopback
    "10.0.0.0/8",
    "100.64.0.0/10",  # shared, behind carrier-grade NAT
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",  # documentation, as 198.51.100.0/24 and 203.0.113.0/24
    "192.88.99.0/24",  # relays of 6to4
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all that was ever given out as global unicast
_REFUSED_V6 = _networks(
    "2001::/23",  # protocols of the IETF: Teredo 2001::/32 and others
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4: an IPv4 address of anybody's choice
    "3fff::/20",  # documentation
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
# Forms that hold an IPv4 address in their last 32 bits: IPv4-compatible, IPv4-mapped, IPv4-translated, NAT64.
_TAIL_V4 = _networks("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
# Where clouds tell a machine its credentials, or command it. Not for callbacks, even where private addresses are.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)


def is_allowed(address: str, *, allow_private: bool = False) -> bool:
    """Whether a request may go to this IP address.

    Args:
        address: An IPv4 or IPv6 address, with or without a zone (``fe80::1%eth0``).
        allow_private: Allow loopback, private, link-local and reserved addresses; never a cloud's metadata service.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = _embedded(parsed)
    if parsed in _METADATA or any(one in _METADATA for one in inner):
        return False
    if allow_private:
        return True
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _REFUSED_V4)
    if parsed.ipv4_mapped is not None or parsed in _NAT64:
        # The IPv4 address is what is reached; on a network with IPv6 only, NAT64 leads to every public one.
        return all(is_allowed(str(one)) for one in inner)
    return parsed in _GLOBAL_V6 and not any(parsed in network for network in _REFUSED_V6)


def _embedded(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    packed = address.packed
    found: list[bytes] = []
    if any(address in network for network in _TAIL_V4):
        found.append(packed[12:])
    if address in _6TO4:
        found.append(packed[2:6])
    if address in _TEREDO:
        found += [packed[4:8], bytes(byte ^ 0xFF for byte in packed[12:])]  # the server, and the client
    return [ipaddress.IPv4Address(one) for one in found]
