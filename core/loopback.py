"""Which hosts are this machine itself."""

from __future__ import annotations

from ipaddress import ip_address

__all__ = ["is_loopback_address", "is_loopback_name"]


def is_loopback_name(host: str) -> bool:
    """Whether a host, as in an address (without port), is this machine by name or number."""
    return host.lower().rstrip(".") == "localhost" or is_loopback_address(host)


def is_loopback_address(text: str) -> bool:
    """Whether it is this machine by number."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
