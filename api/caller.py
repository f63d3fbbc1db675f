"""Who asks."""

from __future__ import annotations

from ..schemas.task import Role
from ..service.policy import Caller

__all__ = ["Caller", "Role"]
