"""The variables by which a container gets GPUs, and those by which an image could break out on the way there.

The hooks that give a container its devices run on the host with the variables of its image: ``LD_PRELOAD`` was the way
out of every container with a GPU (CVE-2025-23266), and ``NVIDIA_VISIBLE_DEVICES=all`` is one to all devices.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["gpu_environment", "is_dangerous"]

# Set whether or not an image names them.
_LOADER = ("LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD")
NO_DEVICE = "void"


def is_dangerous(name: str) -> bool:
    """Whether a variable of an image or a job steers the loader, or the hooks that give a container its devices."""
    return name.startswith(("LD_", "NVIDIA_"))


def gpu_environment(names: Iterable[str], visible: str | None) -> dict[str, str]:
    """The variables that override those of a job and of its image.

    Args:
        names: All names that the two have.
        visible: ``NVIDIA_VISIBLE_DEVICES`` of a run that has GPUs; None for a run that has none.
    """
    if visible is None:
        # Without it, an engine whose default runtime is NVIDIA's gives every device to whoever asks.
        return {"NVIDIA_VISIBLE_DEVICES": NO_DEVICE}
    return {
        **dict.fromkeys((name for name in names if is_dangerous(name)), ""),
        **dict.fromkeys(_LOADER, ""),
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        # What an image requires of the driver is emptied, too.
        "NVIDIA_DISABLE_REQUIRE": "true",
        "NVIDIA_VISIBLE_DEVICES": visible,
    }
