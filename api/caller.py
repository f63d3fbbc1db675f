"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas.task import Role

__all__ = ["Caller", "Role"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a name that is not the token and stays the same for it, and what the token may do."""

    name: str
    role: Role
