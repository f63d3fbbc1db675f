"""What people say of a task or of one of its samples; it leaves with the task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table, and the index by which a task's notes come in their order."""
    op.create_table(
        "notes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("author", "role")),
        sa.Column("team", sa.Text),
        sa.Column("of_truth", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("sample", "metric", "verdict")),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("notes_of", "notes", ["task_id", "id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("notes")
