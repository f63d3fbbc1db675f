"""The profile of system calls of every sealed model, as an engine takes it and as the kernel does.

``profile.json`` is the default one of moby/profiles as of June 2026 (Apache-2.0), with its names sorted.
``scripts/seccomp.py`` makes the programs from it.
"""

from __future__ import annotations

import functools
import json
import platform
from importlib import resources as package_files

__all__ = ["seccomp_profile", "seccomp_program"]


@functools.cache
def seccomp_profile() -> str:
    """The profile as one line of JSON, for a container engine.

    It is sent always: an engine's own default is as old as the engine, and those before 25.0 let io_uring through.
    """
    text = package_files.files(__package__).joinpath("profile.json").read_text(encoding="utf-8")
    return json.dumps(json.loads(text), separators=(",", ":"))


def seccomp_program(machine: str = "") -> bytes | None:
    """The profile as a program for the kernel, for a model without capabilities; None where there is none.

    Args:
        machine: As ``platform.machine()`` names it; this one when empty.
    """
    path = package_files.files(__package__).joinpath(f"{machine or platform.machine()}.bpf")
    return path.read_bytes() if path.is_file() else None
