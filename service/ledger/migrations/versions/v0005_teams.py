"""Whose a task is, where it is about the submissions of a benchmark."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the columns, and the indexes by which a team's and a benchmark's tasks are listed."""
    for column in ("benchmark", "team"):
        op.add_column("tasks", sa.Column(column, sa.Text))
        condition = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"by_{column}", "tasks", [column, "id"], sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    """Drop them."""
    for column in ("benchmark", "team"):
        op.drop_index(f"by_{column}", "tasks")
        op.drop_column("tasks", column)
