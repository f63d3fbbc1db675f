"""Our containers, as the service sees them: how many there are, and those that nobody needs any more."""

from __future__ import annotations

from ..core.config import Settings

__all__ = ["count_containers"]


def count_containers(settings: Settings) -> int | None:
    """How many containers of runs there are on this host; None where the Docker Engine does not answer."""
    raise NotImplementedError
