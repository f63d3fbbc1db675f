"""What the service calls a workspace: its path below the root that it lies in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["name_below"]


def name_below(workspace: Path, roots: Sequence[Path]) -> str | None:
    """A workspace's name.

    Args:
        workspace: Its folder, which need not be there.
        roots: The workspace roots.

    Returns:
        The shortest path below one of the roots, with ``/``; None outside of all of them.
    """
    there = workspace.resolve()
    below = [there.relative_to(root.resolve()) for root in roots if there.is_relative_to(root.resolve())]
    return min(below, key=lambda path: len(path.parts)).as_posix() if below else None
