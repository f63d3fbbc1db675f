"""Which tables a ledger has: brought up to date by Alembic, and refused where they are another AutoScorer's."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, select

from ...core.errors import AutoScorerError, ErrorCode
from .tables import revision

__all__ = ["HEAD", "check_revision", "current_revision", "is_empty", "upgrade"]

# The newest of migrations/versions.
HEAD = "0009"
# What the ledgers of AutoScorer 0.1 say, which were made without Alembic.
_BEFORE = 3


def is_empty(connection: Connection) -> bool:
    """Whether there are no tables yet."""
    return not inspect(connection).get_table_names(schema=_schema(connection))


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none, or where they are older than revisions."""
    if not inspect(connection).has_table(revision.name, schema=_schema(connection)):
        return None
    return connection.scalar(select(revision.c.version_num))


def check_revision(connection: Connection) -> None:
    """See that the tables are those that this AutoScorer knows.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    found = current_revision(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise _later(found)
    raise AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The ledger's tables are of {f'revision {found}' if found else 'no revision'}, and this AutoScorer works with "
        f"revision {HEAD}. Stop every API that uses this ledger, make a backup, then run `autoscorer ledger upgrade`.",
        details={"revision": found, "expected": HEAD},
    )


def upgrade(connection: Connection) -> None:
    """Make the tables, or bring them up to date, in the connection's transaction: whole or not at all.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for tables of a later AutoScorer, or of one long ago.
    """
    from alembic import command
    from alembic.config import Config

    found = current_revision(connection)
    if found is not None and found > HEAD:
        raise _later(found)
    if connection.dialect.name == "sqlite" and found is None and not is_empty(connection):
        version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        if version != _BEFORE:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The ledger is of version {version}; this AutoScorer brings those of version {_BEFORE} up to date. "
                "Start the AutoScorer before this one once, then upgrade again.",
            )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _schema(connection: Connection) -> str | None:
    names = connection.get_execution_options().get("schema_translate_map") or {}
    return names.get(None)


def _later(found: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The ledger is of revision {found}, made by a later AutoScorer; this one knows up to {HEAD}. Run that "
        "AutoScorer, or give this one another ledger (AUTOSCORER_LEDGER_URL).",
        details={"revision": found, "expected": HEAD},
    )
