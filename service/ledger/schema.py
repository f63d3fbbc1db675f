"""The ledger's tables, and how a ledger of an earlier AutoScorer becomes one of this."""

from __future__ import annotations

import sqlite3

from ...core.errors import AutoScorerError, ErrorCode
from .derived import names_in_sql, outcome_in_sql

__all__ = ["VERSION", "prepare"]

# One script a version: the n-th makes version n of version n - 1. Never change one that was released; add another.
_SCRIPTS = (
    """
    CREATE TABLE tasks (
        id TEXT PRIMARY KEY,
        origin TEXT NOT NULL,
        caller TEXT NOT NULL,
        action TEXT NOT NULL,
        -- What no two active tasks of one action may have in common.
        subject TEXT NOT NULL,
        workspace TEXT,
        scorer TEXT,
        priority TEXT NOT NULL,
        request TEXT NOT NULL,
        parameters TEXT NOT NULL,
        retry_of TEXT,
        state TEXT NOT NULL,
        reason TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        flow_run_id TEXT,
        prefect_state TEXT,
        -- Flow runs that were made of it, and the attempts at those that Prefect lost.
        dispatch INTEGER NOT NULL DEFAULT 1,
        earlier_attempts INTEGER NOT NULL DEFAULT 0,
        -- Prefect may have been told of it, even if it never answered.
        dispatching INTEGER NOT NULL DEFAULT 0,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        callback_url TEXT,
        callback_state TEXT,
        callback_attempts INTEGER NOT NULL DEFAULT 0,
        callback_error TEXT,
        callback_at REAL,
        callback_delivered_at REAL
    );
    CREATE UNIQUE INDEX one_active ON tasks (action, subject)
        WHERE origin = 'api' AND state IN ('queued', 'running', 'cancelling');
    CREATE UNIQUE INDEX by_flow_run ON tasks (flow_run_id) WHERE flow_run_id IS NOT NULL;
    CREATE INDEX undispatched ON tasks (priority, id)
        WHERE flow_run_id IS NULL AND state IN ('queued', 'cancelling');
    CREATE INDEX by_state ON tasks (state, id);
    CREATE INDEX by_workspace ON tasks (workspace, id);
    CREATE INDEX by_scorer ON tasks (scorer, id);
    CREATE INDEX by_end ON tasks (ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX callbacks_due ON tasks (callback_at) WHERE callback_state = 'pending';

    -- Apart from the tasks, because a Result may be large and lists do without.
    CREATE TABLE outcomes (
        task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        result TEXT,
        error TEXT
    );
    CREATE TABLE idempotency (
        caller TEXT NOT NULL,
        key TEXT NOT NULL,
        request_hash TEXT NOT NULL,
        task_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (caller, key)
    ) WITHOUT ROWID;
    CREATE INDEX idempotency_age ON idempotency (created_at);

    -- Counting 100,000 rows for every look at the metrics would be felt.
    CREATE TABLE counts (state TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TRIGGER count_new AFTER INSERT ON tasks BEGIN
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET number = number + 1;
    END;
    CREATE TRIGGER count_change AFTER UPDATE OF state ON tasks WHEN new.state <> old.state BEGIN
        UPDATE counts SET number = number - 1 WHERE state = old.state;
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET number = number + 1;
    END;
    CREATE TRIGGER count_gone AFTER DELETE ON tasks BEGIN
        UPDATE counts SET number = number - 1 WHERE state = old.state;
    END;
    """,
    # What the one may do who asked for it. Of tasks from before nobody knows, and the least is assumed.
    """
    ALTER TABLE tasks ADD COLUMN role TEXT NOT NULL DEFAULT 'submit';
    """,
    # What a list shows of a Result, and the names that a task is found under: lists read neither results nor requests.
    """
    ALTER TABLE outcomes ADD COLUMN outcome TEXT;
    UPDATE outcomes SET outcome = derived_outcome(result) WHERE result IS NOT NULL;
    CREATE TABLE names (
        task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        names TEXT NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO names SELECT id, derived_names(request, result) FROM tasks LEFT JOIN outcomes ON task_id = id;
    """,
)
VERSION = len(_SCRIPTS)


def prepare(connection: sqlite3.Connection, scripts: tuple[str, ...] = _SCRIPTS) -> None:
    """Make the tables, or bring them up to the newest of ``scripts``: a version is made whole or not at all.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when a later AutoScorer has made the ledger.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > len(scripts):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The ledger is of version {found}, made by a later AutoScorer; this one knows up to {len(scripts)}. Run "
            "that AutoScorer, or move ledger.sqlite3 away to begin a new one.",
        )
    connection.create_function("derived_outcome", 1, outcome_in_sql, deterministic=True)
    connection.create_function("derived_names", 2, names_in_sql, deterministic=True)
    for version in range(found + 1, len(scripts) + 1):
        # executescript commits what is open before it begins, so the transaction stands in the script.
        connection.executescript(f"BEGIN; {scripts[version - 1]} PRAGMA user_version = {version}; COMMIT;")
