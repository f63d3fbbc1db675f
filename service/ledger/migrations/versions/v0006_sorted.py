"""What lists of tasks are sorted by: a name, the score and the time that it took, without a look into a Result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from autoscorer.service.ledger.derived import sort_name, sorted_by
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

# Rows that are read and written at a time.
_TOGETHER = 1000
_SORTED = {"by_name": "sort_name", "by_score": "score", "by_passed": "passed", "by_seconds": "seconds"}
_COLUMNS = ("sort_name", "score", "passed", "board_only", "seconds")


def upgrade() -> None:
    """Make the columns, fill them from what is there, then make the indexes."""
    op.add_column("tasks", sa.Column("sort_name", sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")))
    for name, kind in (
        ("score", sa.Double),
        ("passed", sa.Integer),
        ("board_only", sa.Integer),
        ("seconds", sa.Double),
    ):
        op.add_column("tasks", sa.Column(name, kind))
    _fill(op.get_bind())
    op.drop_index("by_end", "tasks")
    for name, column in {**_SORTED, "by_end": "ended_at"}.items():
        condition = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, "tasks", [column, "id"], sqlite_where=condition, postgresql_where=condition)


def _fill(db: sa.Connection) -> None:
    tasks = sa.table("tasks", *map(sa.column, ("id", "started_at", "ended_at", *_COLUMNS)))
    fill = (
        sa.update(tasks)
        .where(tasks.c.id == sa.bindparam("task", type_=sa.Text))
        .values(
            sort_name=sa.bindparam("of_name", type_=sa.Text),
            score=sa.bindparam("of_score", type_=sa.Double),
            passed=sa.bindparam("of_passed", type_=sa.Integer),
            board_only=sa.bindparam("of_board", type_=sa.Integer),
            seconds=tasks.c.ended_at - tasks.c.started_at,
        )
    )
    for rows in _blocks(db):
        db.execute(fill, rows)


def _blocks(db: sa.Connection) -> Iterator[list[dict[str, Any]]]:
    tasks = sa.table("tasks", sa.column("id"), sa.column("request"))
    outcomes = sa.table("outcomes", sa.column("task_id"), sa.column("outcome"))
    asked = (
        sa.select(tasks.c.id, tasks.c.request, outcomes.c.outcome)
        .join(outcomes, outcomes.c.task_id == tasks.c.id, isouter=True)
        .where(tasks.c.id > sa.bindparam("after", type_=sa.Text))
        .order_by(tasks.c.id)
        .limit(_TOGETHER)
    )
    after = ""
    while found := db.execute(asked, {"after": after}).all():
        yield [_filled(*row) for row in found]
        after = found[-1][0]


def _filled(task_id: str, request: str, outcome: str | None) -> dict[str, Any]:
    sorts = sorted_by(json.loads(outcome) if outcome else None)
    return {
        "task": task_id,
        "of_name": sort_name(json.loads(request)),
        "of_score": sorts["score"],
        "of_passed": sorts["passed"],
        "of_board": sorts["board_only"],
    }


def downgrade() -> None:
    """Drop them."""
    for name in (*_SORTED, "by_end"):
        op.drop_index(name, "tasks")
    condition = sa.text("ended_at IS NOT NULL")
    op.create_index("by_end", "tasks", ["ended_at"], sqlite_where=condition, postgresql_where=condition)
    for name in _COLUMNS:
        op.drop_column("tasks", name)
