"""Nothing yet: the place of what flow runs leave."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make nothing."""


def downgrade() -> None:
    """There is no way back."""
    raise NotImplementedError
