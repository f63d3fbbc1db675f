"""What became of a batch's workspaces, as tasks of their own that belong to the batch.

Batches that have ended have none: what the ledger keeps of their workspaces says neither where they lie nor by which
Result each was scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# What lists go by: each index says from now on which tasks are members. The second says whether it leaves out what has
# no such value.
_BY = {
    "by_state": ("state", False),
    "by_workspace": ("workspace", False),
    "by_scorer": ("scorer", False),
    "by_action": ("action", False),
    "by_benchmark": ("benchmark", True),
    "by_team": ("team", True),
    "by_end": ("ended_at", True),
    "by_name": ("sort_name", True),
    "by_score": ("score", True),
    "by_passed": ("passed", True),
    "by_seconds": ("seconds", True),
}
# What is shown of a task and changes, as of revision 0008.
_SHOWN = (
    "state",
    "scorer",
    "reason",
    "attempts",
    "started_at",
    "ended_at",
    "flow_run_id",
    "prefect_state",
    "callback_state",
    "callback_attempts",
    "callback_error",
    "callback_delivered_at",
)


def upgrade() -> None:
    """Make the columns and the indexes; members are neither counted nor told of as they change."""
    # As one statement of either database: Alembic would add the reference by another, which SQLite does not have.
    op.execute("ALTER TABLE tasks ADD COLUMN parent TEXT REFERENCES tasks (id) ON DELETE CASCADE")
    op.add_column("outcomes", sa.Column("result_sha256", sa.Text))
    _index("asked_for", ["id", "parent"], "parent IS NULL")
    _index("by_parent", ["parent", "id"], "parent IS NOT NULL")
    for name, (column, is_partial) in _BY.items():
        op.drop_index(name, "tasks")
        _index(name, [column, "id", "parent"], f"{column} IS NOT NULL" if is_partial else None)
    _make_triggers(of_members=False)


def downgrade() -> None:
    """Forget the members, and drop all of that."""
    op.execute("DELETE FROM tasks WHERE parent IS NOT NULL")
    for name in ("asked_for", "by_parent"):
        op.drop_index(name, "tasks")
    for name, (column, is_partial) in _BY.items():
        op.drop_index(name, "tasks")
        _index(name, [column, "id"], f"{column} IS NOT NULL" if is_partial else None)
    _make_triggers(of_members=True)
    op.drop_column("outcomes", "result_sha256")
    op.execute("ALTER TABLE tasks DROP COLUMN parent")


def _index(name: str, columns: Sequence[str], where: str | None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, "tasks", [*columns], sqlite_where=condition, postgresql_where=condition)


def _make_triggers(*, of_members: bool) -> None:
    """Make the triggers of the revisions 0001 and 0008 anew."""
    statements = _sqlite if op.get_bind().dialect.name == "sqlite" else _postgresql
    for statement in statements(of_members):
        op.execute(statement)


def _sqlite(of_members: bool) -> list[str]:
    new, old = ("1", "1") if of_members else ("new.parent IS NULL", "old.parent IS NULL")
    differs = " OR ".join(f"new.{name} IS NOT old.{name}" for name in _SHOWN)
    more = "INSERT INTO counts VALUES (new.state, 0, 1) ON CONFLICT (state, share) DO UPDATE SET number = number + 1"
    less = "UPDATE counts SET number = number - 1 WHERE state = old.state"
    triggers = {
        "count_new": ("INSERT", new, more),
        "count_change": ("UPDATE OF state", f"new.state <> old.state AND {new}", f"{less}; {more}"),
        "count_gone": ("DELETE", old, less),
        "note_new": ("INSERT", new, _noted("new")),
        "note_change": (f"UPDATE OF {', '.join(_SHOWN)}", f"({differs}) AND {new}", _noted("new")),
        "note_gone": ("DELETE", old, _noted("old")),
    }
    dropped = [f"DROP TRIGGER {name}" for name in triggers]
    return dropped + [
        f"CREATE TRIGGER {name} AFTER {event} ON tasks WHEN {condition} BEGIN {work}; END"
        for name, (event, condition, work) in triggers.items()
    ]


def _noted(row: str) -> str:
    owner = f"CASE WHEN {row}.action = 'rag-score' THEN {row}.caller END"
    return f"""INSERT INTO changes VALUES ('tasks', 1) ON CONFLICT (name) DO UPDATE SET number = number + 1;
        INSERT INTO task_changes (task_id, number, at, benchmark, team, owner)
            VALUES ({row}.id, (SELECT number FROM changes WHERE name = 'tasks'),
                (julianday('now') - 2440587.5) * 86400.0, {row}.benchmark, {row}.team, {owner})
            ON CONFLICT (task_id) DO UPDATE SET number = excluded.number, at = excluded.at"""  # noqa: S608


def _postgresql(of_members: bool) -> list[str]:
    """A condition knows the new row of an INSERT and the old one of a DELETE: each has a trigger of its own."""
    new, old = ("true", "true") if of_members else ("NEW.parent IS NULL", "OLD.parent IS NULL")
    differs = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in _SHOWN)
    both = [
        ("count_tasks", "count_tasks", "INSERT OR DELETE", None),
        ("note_task", "note_task", "INSERT OR DELETE", None),
    ]
    apart = [
        (f"{name}_{suffix}", function, event, condition)
        for name, function in (("count", "count_tasks"), ("note", "note_task"))
        for suffix, event, condition in (("new", "INSERT", new), ("gone", "DELETE", old))
    ]
    changes = [
        ("count_changes", "count_tasks", "UPDATE OF state", f"OLD.state IS DISTINCT FROM NEW.state AND {new}"),
        ("note_change", "note_task", f"UPDATE OF {', '.join(_SHOWN)}", f"({differs}) AND {new}"),
    ]
    before, after = (apart, both) if of_members else (both, apart)
    dropped = [f"DROP TRIGGER {name} ON tasks" for name, *_ in before + changes]
    return dropped + [
        f"CREATE TRIGGER {name} AFTER {event} ON tasks FOR EACH ROW "
        f"{'' if condition is None else f'WHEN ({condition})'} EXECUTE FUNCTION {function}()"
        for name, function, event, condition in after + changes
    ]
