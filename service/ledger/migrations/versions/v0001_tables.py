"""The tables as AutoScorer 0.1 had them in SQLite, in either database; such a file is taken over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ACTIVE = "state IN ('queued', 'running', 'cancelling')"
_SQLITE_TRIGGERS = {
    "count_new": """AFTER INSERT ON tasks BEGIN
        INSERT INTO counts VALUES (new.state, 0, 1) ON CONFLICT (state, share) DO UPDATE SET number = number + 1;
    END""",
    "count_change": """AFTER UPDATE OF state ON tasks WHEN new.state <> old.state BEGIN
        UPDATE counts SET number = number - 1 WHERE state = old.state;
        INSERT INTO counts VALUES (new.state, 0, 1) ON CONFLICT (state, share) DO UPDATE SET number = number + 1;
    END""",
    "count_gone": """AFTER DELETE ON tasks BEGIN
        UPDATE counts SET number = number - 1 WHERE state = old.state;
    END""",
}
_POSTGRES_TRIGGERS = (
    """CREATE FUNCTION count_tasks() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO counts AS c VALUES (OLD.state, pg_backend_pid(), -1)
                ON CONFLICT (state, share) DO UPDATE SET number = c.number - 1;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO counts AS c VALUES (NEW.state, pg_backend_pid(), 1)
                ON CONFLICT (state, share) DO UPDATE SET number = c.number + 1;
        END IF;
        RETURN NULL;
    END $$""",
    "CREATE TRIGGER count_tasks AFTER INSERT OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION count_tasks()",
    """CREATE TRIGGER count_changes AFTER UPDATE OF state ON tasks FOR EACH ROW
        WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION count_tasks()""",
)


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    if not sa.inspect(op.get_bind()).has_table("tasks"):
        _make()
        _make_counts()
        return
    for trigger in _SQLITE_TRIGGERS:
        op.execute(f"DROP TRIGGER {trigger}")
    op.drop_table("counts")
    _make_counts()
    op.execute("INSERT INTO counts SELECT state, 0, count(*) FROM tasks GROUP BY state")


def _make() -> None:
    text, moment = sa.Text, sa.Double
    op.create_table(
        "tasks",
        sa.Column("id", text, primary_key=True),
        *(sa.Column(name, text, nullable=False) for name in ("origin", "caller", "action", "subject")),
        *(sa.Column(name, text) for name in ("workspace", "scorer")),
        *(sa.Column(name, text, nullable=False) for name in ("priority", "request", "parameters")),
        sa.Column("retry_of", text),
        sa.Column("state", text, nullable=False),
        sa.Column("reason", text),
        _number("attempts"),
        sa.Column("created_at", moment, nullable=False),
        *(sa.Column(name, moment) for name in ("started_at", "ended_at")),
        *(sa.Column(name, text) for name in ("flow_run_id", "prefect_state")),
        _number("dispatch", 1),
        *(_number(name) for name in ("earlier_attempts", "dispatching", "cancel_requested")),
        *(sa.Column(name, text) for name in ("callback_url", "callback_state")),
        _number("callback_attempts"),
        sa.Column("callback_error", text),
        *(sa.Column(name, moment) for name in ("callback_at", "callback_delivered_at")),
        sa.Column("role", text, nullable=False, server_default="submit"),
    )
    for name, columns, unique, where in (
        ("one_active", ["action", "subject"], True, f"origin = 'api' AND {_ACTIVE}"),
        ("by_flow_run", ["flow_run_id"], True, "flow_run_id IS NOT NULL"),
        ("undispatched", ["priority", "id"], False, "flow_run_id IS NULL AND state IN ('queued', 'cancelling')"),
        ("by_state", ["state", "id"], False, None),
        ("by_workspace", ["workspace", "id"], False, None),
        ("by_scorer", ["scorer", "id"], False, None),
        ("by_end", ["ended_at"], False, "ended_at IS NOT NULL"),
        ("callbacks_due", ["callback_at"], False, "callback_state = 'pending'"),
    ):
        condition = None if where is None else sa.text(where)
        op.create_index(name, "tasks", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
    op.create_table("outcomes", _of_task(), *(sa.Column(name, text) for name in ("result", "error", "outcome")))
    op.create_table("names", _of_task(), sa.Column("names", text, nullable=False), sqlite_with_rowid=False)
    op.create_table(
        "idempotency",
        *(sa.Column(name, text, primary_key=True) for name in ("caller", "key")),
        *(sa.Column(name, text, nullable=False) for name in ("request_hash", "task_id")),
        sa.Column("created_at", moment, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_age", "idempotency", ["created_at"])


def _make_counts() -> None:
    op.create_table(
        "counts",
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("share", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        for name, body in _SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {body}")
    else:
        for statement in _POSTGRES_TRIGGERS:
            op.execute(statement)


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=str(default))


def _of_task() -> sa.Column[str]:
    return sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)


def downgrade() -> None:
    """There is no way back: the one before this kept no revisions."""
    raise NotImplementedError
