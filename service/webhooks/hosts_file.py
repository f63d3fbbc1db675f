"""What this machine's own file of host names says: addresses that are known without asking a name server."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

__all__ = ["HOSTS", "addresses_in_hosts_file"]

HOSTS = Path("/etc/hosts")
# Blocklists of a hundred thousand names are in use.
_MOST_BYTES = 16 * 1024**2


def addresses_in_hosts_file(name: str) -> list[str]:
    """The addresses that the file gives a name, as the system's resolver would find them there.

    Args:
        name: A host name in ASCII, in any case.

    Returns:
        The addresses without zones; none where the file has none or can't be read.
    """
    wanted = name.lower().encode()
    found = []
    with contextlib.suppress(OSError), HOSTS.open("rb") as file:
        for line in file.read(_MOST_BYTES).lower().splitlines():
            address, *names = line.partition(b"#")[0].split() or [b""]
            if wanted in names:
                with contextlib.suppress(ValueError):
                    found.append(str(ipaddress.ip_address(address.partition(b"%")[0].decode("ascii"))))
    return found
