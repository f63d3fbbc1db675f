"""Which tasks have changed lately, in an order by which whoever has seen some of it can ask for the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# What is shown of a task and changes: who only notes something for itself wakes nobody.
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
_COLUMNS = "(task_id, number, at, benchmark, team, owner)"
_CHANGED = "ON CONFLICT (task_id) DO UPDATE SET number = excluded.number, at = excluded.at"
_OWNER = "CASE WHEN {0}.action = 'rag-score' THEN {0}.caller END"


def upgrade() -> None:
    """Make the table, and the triggers that fill it."""
    op.create_table(
        "task_changes",
        sa.Column("task_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("benchmark", "team", "owner")),
        sqlite_with_rowid=False,
    )
    op.create_index("task_changes_number", "task_changes", ["number"])
    for statement in _sqlite() if op.get_bind().dialect.name == "sqlite" else _postgresql():
        op.execute(statement)


def _sqlite() -> list[str]:
    """One transaction at a time writes: a number that grows is enough."""
    differs = " OR ".join(f"new.{name} IS NOT old.{name}" for name in _SHOWN)
    events = {
        "note_new": ("INSERT", "", "new"),
        "note_change": (f"UPDATE OF {', '.join(_SHOWN)}", f"WHEN {differs}", "new"),
        "note_gone": ("DELETE", "", "old"),
    }
    return [
        f"""CREATE TRIGGER {name} AFTER {event} ON tasks {condition} BEGIN
            INSERT INTO changes VALUES ('tasks', 1) ON CONFLICT (name) DO UPDATE SET number = number + 1;
            INSERT INTO task_changes {_COLUMNS}
                VALUES ({row}.id, (SELECT number FROM changes WHERE name = 'tasks'),
                    (julianday('now') - 2440587.5) * 86400.0, {row}.benchmark, {row}.team, {_OWNER.format(row)})
                {_CHANGED};
        END"""  # noqa: S608  (constants of this module)
        for name, (event, condition, row) in events.items()
    ]


def _postgresql() -> list[str]:
    """Many transactions write, and end in another order than they began: the number is the transaction's own."""
    differs = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in _SHOWN)
    return [
        f"""CREATE FUNCTION note_task() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
        DECLARE
            task record;
        BEGIN
            IF TG_OP = 'DELETE' THEN task := OLD; ELSE task := NEW; END IF;
            INSERT INTO task_changes {_COLUMNS}
                VALUES (task.id, txid_current(), extract(epoch FROM clock_timestamp()),
                    task.benchmark, task.team, {_OWNER.format("task")})
                {_CHANGED};
            RETURN NULL;
        END $$""",  # noqa: S608  (constants of this module)
        "CREATE TRIGGER note_task AFTER INSERT OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION note_task()",
        f"""CREATE TRIGGER note_change AFTER UPDATE OF {", ".join(_SHOWN)} ON tasks FOR EACH ROW
            WHEN ({differs}) EXECUTE FUNCTION note_task()""",
    ]


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "sqlite":
        for name in ("note_new", "note_change", "note_gone"):
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DELETE FROM changes WHERE name = 'tasks'")
    else:
        for name in ("note_task", "note_change"):
            op.execute(f"DROP TRIGGER {name} ON tasks")
        op.execute("DROP FUNCTION note_task()")
    op.drop_table("task_changes")
