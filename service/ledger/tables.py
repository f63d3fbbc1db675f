"""The ledger's tables, for SQLite and PostgreSQL alike; the migrations make them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

__all__ = [
    "ACTIVE_STATES",
    "SCHEMA",
    "batch_members",
    "changes",
    "clock",
    "counts",
    "flow_runs",
    "idempotency",
    "insert_into",
    "leases",
    "metadata",
    "names",
    "notes",
    "outcomes",
    "revision",
    "scorer_files",
    "scorer_watches",
    "secrets",
    "submissions",
    "task_changes",
    "tasks",
]

# Where they are in PostgreSQL, unless ledger_url says otherwise (`?schema=`): Prefect's may be in the same database.
SCHEMA = "autoscorer"

# The states of a task that has not ended, in the order of the indexes' conditions: SQLite takes an index only for a
# condition that is written like its own.
ACTIVE_STATES = ("queued", "running", "cancelling")
_IS_ACTIVE = f"state IN {ACTIVE_STATES!r}"

metadata = MetaData()

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("action", Text, nullable=False),
    # What no two active tasks of one action may have in common.
    Column("subject", Text, nullable=False),
    Column("workspace", Text),
    Column("scorer", Text),
    Column("priority", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("retry_of", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("flow_run_id", Text),
    Column("prefect_state", Text),
    # Flow runs that were made of it, and the attempts at those that Prefect lost.
    Column("dispatch", Integer, nullable=False, server_default="1"),
    Column("earlier_attempts", Integer, nullable=False, server_default="0"),
    # Prefect may have been told of it, even if it never answered.
    Column("dispatching", Integer, nullable=False, server_default="0"),
    Column("cancel_requested", Integer, nullable=False, server_default="0"),
    Column("callback_url", Text),
    Column("callback_state", Text),
    Column("callback_attempts", Integer, nullable=False, server_default="0"),
    Column("callback_error", Text),
    Column("callback_at", Double),
    Column("callback_delivered_at", Double),
    # What the one may do who asked for it. Where nobody knows, the least is assumed.
    Column("role", Text, nullable=False, server_default="submit"),
    # Of a task about submissions: the benchmark's name, and the team where it is about one alone.
    Column("benchmark", Text),
    Column("team", Text),
    # What lists are sorted by and the row has nowhere else: its name, folded and cut; of a Result the score, whether
    # it passed, and whether teams are told of both by a leaderboard alone (1, else NULL).
    Column("sort_name", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")),
    Column("score", Double),
    Column("passed", Integer),
    Column("board_only", Integer),
    # From begun to ended.
    Column("seconds", Double),
    # Of a member of a batch: the batch, with which it leaves.
    Column("parent", Text, ForeignKey("tasks.id", ondelete="CASCADE")),
)


def _index(name: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    condition = None if where is None else text(where)
    Index(name, *(tasks.c[each] for each in columns), unique=unique, sqlite_where=condition, postgresql_where=condition)


_index("one_active", "action", "subject", unique=True, where=f"origin = 'api' AND {_IS_ACTIVE}")
_index("by_flow_run", "flow_run_id", unique=True, where="flow_run_id IS NOT NULL")
_index("undispatched", "priority", "id", where="flow_run_id IS NULL AND state IN ('queued', 'cancelling')")
# What was asked for, and what became of a batch's workspaces: the usual lists are of the first alone. Each index that a
# list goes by says which a task is, so that ten thousand members are passed over without a look at their rows.
_index("asked_for", "id", "parent", where="parent IS NULL")
_index("by_parent", "parent", "id", where="parent IS NOT NULL")
_index("by_state", "state", "id", "parent")
_index("by_workspace", "workspace", "id", "parent")
_index("by_scorer", "scorer", "id", "parent")
_index("by_action", "action", "id", "parent")
_index("by_benchmark", "benchmark", "id", "parent", where="benchmark IS NOT NULL")
_index("by_team", "team", "id", "parent", where="team IS NOT NULL")
# Of what lists are sorted by: whoever has no such value stands in none, so that a task costs little before it ends.
_index("by_end", "ended_at", "id", "parent", where="ended_at IS NOT NULL")
_index("by_name", "sort_name", "id", "parent", where="sort_name IS NOT NULL")
_index("by_score", "score", "id", "parent", where="score IS NOT NULL")
_index("by_passed", "passed", "id", "parent", where="passed IS NOT NULL")
_index("by_seconds", "seconds", "id", "parent", where="seconds IS NOT NULL")
_index("callbacks_due", "callback_at", where="callback_state = 'pending'")

# Submissions of teams that were accepted, for their quotas: they count also when their tasks are forgotten.
submissions = Table(
    "submissions",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("benchmark", Text, nullable=False),
    Column("team", Text, nullable=False),
    # By the database's clock.
    Column("accepted_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("given_back", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
Index("submissions_of", submissions.c.benchmark, submissions.c.team)

# Apart from the tasks, because a Result may be large and lists do without.
outcomes = Table(
    "outcomes",
    metadata,
    Column("task_id", Text, ForeignKey(tasks.c.id, ondelete="CASCADE"), primary_key=True),
    Column("result", Text),
    Column("error", Text),
    # The Result in one line, with the keys of ``schemas.task.TaskOutcome``.
    Column("outcome", Text),
    # Of a member of a batch: of its whole Result as it lies in its workspace; ``result`` has what the batch says of it.
    Column("result_sha256", Text),
)

# The names that a task is found under, a line each: a search reads neither requests nor Results.
names = Table(
    "names",
    metadata,
    Column("task_id", Text, ForeignKey(tasks.c.id, ondelete="CASCADE"), primary_key=True),
    Column("names", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What people say of a task or of one of its samples.
notes = Table(
    "notes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task_id", Text, ForeignKey(tasks.c.id, ondelete="CASCADE"), nullable=False),
    # The caller's name, and what that one was and saw when it was written.
    Column("author", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("team", Text),
    Column("of_truth", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("sample", Text),
    Column("metric", Text),
    Column("verdict", Text),
    Column("created_at", Double, nullable=False),
)
Index("notes_of", notes.c.task_id, notes.c.id)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index("idempotency_age", idempotency.c.created_at)

# How many of the tasks that were asked for are in each state: counting 100,000 rows for every look at the metrics would
# be felt. Triggers keep it. In PostgreSQL each connection has rows of its own, so that none waits for another's
# transaction; the sum counts.
counts = Table(
    "counts",
    metadata,
    Column("state", Text, primary_key=True),
    Column("share", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Who of several processes does what one at a time may do, and until when by the database's clock.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Double, nullable=False),
)

# What the workers of several hosts say of flow runs that have not ended: who has each, how far it is, how it ended.
# With a ledger in the home all of this lies there, as files.
flow_runs = Table(
    "flow_runs",
    metadata,
    Column("flow_run_id", Text, primary_key=True),
    # Grows whenever a worker takes the run, or one that is lost has it taken away: who comes with an earlier number is
    # too late, and is not heard.
    Column("attempt", Integer, nullable=False),
    # The process and the name of the worker that has it, and until when by the database's clock. Nobody has it where
    # `until` is null; where it lies in the past its worker is dead, or as good as dead.
    Column("worker", Text),
    Column("worker_name", Text),
    Column("until", Double),
    Column("stage", Text),
    Column("total", Integer),
    Column("outcome", Text),
    Column("saved_at", Double),
)

# What became of the workspaces of a batch, in the order they ended.
batch_members = Table(
    "batch_members",
    metadata,
    Column("flow_run_id", Text, ForeignKey(flow_runs.c.flow_run_id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What the homes of one installation have in common. Where there is one home alone, that has it in files.
secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# How often something was changed, for those who ask whether it has. Whoever changes it holds the row to the end of the
# transaction, so a number that was seen has all that came before it.
changes = Table(
    "changes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", Integer, nullable=False),
)

# When each task that was asked for was changed last, of those that were lately, the forgotten ones among them; triggers
# keep it. Of a batch's members nothing is noted: how far the batch is tells of them, however many they are. The number
# is of SQLite how often any task was changed (in ``changes``), of PostgreSQL the transaction that did it: of a snapshot
# it says which transactions have all ended, and of a sequence nobody could say what is still to come.
task_changes = Table(
    "task_changes",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    # By the database's clock.
    Column("at", Double, nullable=False),
    # Whose it is, as ``TaskRow.subject_of`` says: a task that is gone says it no more.
    *(Column(name, Text) for name in ("benchmark", "team", "owner")),
    sqlite_with_rowid=False,
)
Index("task_changes_number", task_changes.c.number)

# Scorer files as they last loaded, by the path that they had in the home that keeps them up to date.
scorer_files = Table(
    "scorer_files",
    metadata,
    Column("path", Text, primary_key=True),
    Column("home", Text, nullable=False),
    # loaded: by itself, and followed; pinned: followed no more; found: in a place that is watched.
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    # What it registers, id to version; nothing where the file is away.
    Column("scorers", Text, nullable=False),
    # Of the copy: the file's bytes and those of what it imports beside it, as they are kept in a home.
    Column("digest", Text, nullable=False),
    Column("copy", Text, nullable=False),
)

# Files and folders that a home watches by order of the API.
scorer_watches = Table(
    "scorer_watches",
    metadata,
    Column("path", Text, primary_key=True),
    Column("home", Text, nullable=False),
)

# Alembic's own, which it makes.
revision = Table("alembic_version", MetaData(), Column("version_num", Text))


def insert_into(dialect: str, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT: the two databases write it alike, SQLAlchemy has it of each."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def clock(dialect: str) -> ColumnElement[float]:
    """The database's time, in seconds since the epoch: the clocks of its clients may differ."""
    if dialect == "postgresql":
        return literal_column("CAST(extract(epoch FROM clock_timestamp()) AS double precision)", Double)
    return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)
