"""Whose a task is, where it is about the submissions of a benchmark; and which a team has made, for its quota."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the columns, the indexes by which a team's and a benchmark's tasks are listed, and the table."""
    for column in ("benchmark", "team"):
        op.add_column("tasks", sa.Column(column, sa.Text))
        condition = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"by_{column}", "tasks", [column, "id"], sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "submissions",
        sa.Column("task_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("benchmark", "team")),
        sa.Column("accepted_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("given_back", sa.Integer, nullable=False, server_default="0"),
        sqlite_with_rowid=False,
    )
    op.create_index("submissions_of", "submissions", ["benchmark", "team"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("submissions")
    for column in ("benchmark", "team"):
        op.drop_index(f"by_{column}", "tasks")
        op.drop_column("tasks", column)
