"""What the workers of several hosts say of the flow runs that they have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "flow_runs",
        sa.Column("flow_run_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("worker", "worker_name")),
        sa.Column("until", sa.Double),
        sa.Column("stage", sa.Text),
        sa.Column("total", sa.Integer),
        sa.Column("outcome", sa.Text),
        sa.Column("saved_at", sa.Double),
    )
    op.create_table(
        "batch_members",
        sa.Column("flow_run_id", sa.Text, sa.ForeignKey("flow_runs.flow_run_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("batch_members")
    op.drop_table("flow_runs")
