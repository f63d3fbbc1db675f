"""What several homes of one installation have in common: secrets, and scorer files that were loaded or are watched."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make them."""
    _make("secrets", "value", created_at=sa.Double)
    _make("changes", number=sa.Integer)
    _make("scorer_files", "home", "kind", "sha256", "scorers", "digest", "copy", key="path")
    _make("scorer_watches", "home", key="path")


def _make(name: str, *texts: str, key: str = "name", **others: type[sa.types.TypeEngine[Any]]) -> None:
    op.create_table(
        name,
        sa.Column(key, sa.Text, primary_key=True),
        *(sa.Column(each, sa.Text, nullable=False) for each in texts),
        *(sa.Column(each, kind, nullable=False) for each, kind in others.items()),
    )


def downgrade() -> None:
    """There is no way back: homes would have nothing in common any more."""
    raise NotImplementedError
