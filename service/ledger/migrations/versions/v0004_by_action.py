"""Tasks of one action are found without a look at all others: jobs of RAG answers are listed by themselves."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index."""
    op.create_index("by_action", "tasks", ["action", "id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("by_action", "tasks")
