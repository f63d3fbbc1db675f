"""What an operator does to a ledger: bring it up to date, write it to a file, read it from one, take in what ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Table, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.secret_file import CALLBACK_SECRET, LINK_KEY, EmptySecret, read_secret
from ...core.workspace import write_atomic
from ..prefect.model import Json
from .accepting import adopt
from .changes import COUNTER, WORD
from .ledger import in_ledger, is_there
from .records import NewTask, TaskEnd
from .revisions import HEAD, check_revision, current_revision, is_empty, upgrade
from .statements import finish
from .tables import (
    changes,
    idempotency,
    names,
    notes,
    outcomes,
    scorer_files,
    scorer_watches,
    secrets,
    submissions,
    tasks,
)

__all__ = ["export_ledger", "import_ended", "import_ledger", "upgrade_if_there", "upgrade_ledger"]

# In this order each row comes after the one that it refers to. The counts follow from the tasks.
_TASKS: dict[str, Table] = {table.name: table for table in (tasks, outcomes, names, notes, idempotency, submissions)}
# What several homes have in common, in PostgreSQL; the one home of a ledger in a file has it in files of its own.
_SHARED: dict[str, Table] = {table.name: table for table in (secrets, changes, scorer_files, scorer_watches)}
_TABLES = _TASKS | _SHARED
# What in them is this ledger's alone.
_OWN = {secrets.name: WORD, changes.name: COUNTER}
# Rows in memory at a time.
_TOGETHER = 500


async def upgrade_ledger(settings: Settings) -> Json:
    """Make the tables of the ledger, or bring them up to date.

    Returns:
        ``{from, to}``: the revisions before and after; None where there was none.

    Raises:
        AutoScorerError: ``CONFLICT`` while an API has the file open, ``INVALID_REQUEST`` for tables of a later
            AutoScorer, ``BACKEND_UNAVAILABLE``, ``STORAGE_FULL``.
    """

    def upgraded(db: Connection) -> Json:
        before = current_revision(db)
        upgrade(db)
        return {"from": before, "to": current_revision(db)}

    return await in_ledger(settings, upgraded)


async def upgrade_if_there(settings: Settings) -> None:
    """The same for a ledger that exists and that no API has open: one that has, has it up to date. Raises as that."""
    if is_there(settings):
        try:
            await upgrade_ledger(settings)
        except AutoScorerError as error:
            if error.code is not ErrorCode.CONFLICT:
                raise


async def export_ledger(settings: Settings, file: IO[str]) -> Json:
    """Write every row, one JSON object a line, with a first line that says of which revision and a last that counts.

    The secrets of a ledger in a file are those of its home.

    Returns:
        The number of rows of each table.

    Raises:
        AutoScorerError: As ``upgrade_ledger``; ``INVALID_REQUEST`` where the tables are not up to date.
    """

    def exported(db: Connection) -> Json:
        check_revision(db)
        _line(file, {"ledger": HEAD})
        written = dict.fromkeys(_TASKS, 0)
        for name, table in _TABLES.items():
            asked = select(table) if name not in _OWN else select(table).where(table.c.name != _OWN[name])
            if table is tasks:  # a batch before its members, which refer to it
                asked = asked.order_by(tasks.c.parent.is_not(None))
            for row in db.execution_options(yield_per=_TOGETHER).execute(asked).mappings():
                _line(file, {name: dict(row)})
                written[name] = written.get(name, 0) + 1
        if db.dialect.name == "sqlite":
            for secret in _secrets_of(settings.home):
                _line(file, {secrets.name: secret})
                written[secrets.name] = written.get(secrets.name, 0) + 1
        _line(file, {"rows": written})
        return written

    return await in_ledger(settings, exported)


async def import_ledger(settings: Settings, file: IO[str]) -> Json:
    """Put what ``export_ledger`` wrote into an empty ledger: all of it, or nothing.

    The secrets are stronger than those that are there, because receivers of callbacks know them.

    Returns:
        The number of rows of each table.

    Raises:
        AutoScorerError: As ``upgrade_ledger``; ``CONFLICT`` where the ledger has tasks, ``INVALID_REQUEST`` for a file
            that is none, that is cut short, or that is of another revision.
    """

    def imported(db: Connection) -> Json:
        upgrade(db)
        if db.scalar(select(func.count()).select_from(tasks)):
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                "The ledger has tasks already; an export is read into an empty one only. Name another by "
                "AUTOSCORER_LEDGER_URL.",
            )
        read, of_home = dict.fromkeys(_TASKS, 0), list[Json]()
        for table in _SHARED.values():
            db.execute(delete(table))
        try:
            for name, rows in _blocks(file, read):
                if name in _TASKS or db.dialect.name != "sqlite":
                    db.execute(insert(_TABLES[name]), rows)
                elif name == secrets.name:
                    of_home += rows
        except IntegrityError:
            raise _no_export("its rows do not belong together") from None
        _keep_secrets(settings.home, of_home)
        return read

    return await in_ledger(settings, imported)


async def import_ended(settings: Settings, jobs: Sequence[tuple[NewTask, TaskEnd]]) -> tuple[int, int]:
    """Put tasks into the ledger that have ended elsewhere: all of them, or none. Its APIs wait meanwhile.

    Returns:
        How many are new, and how many were there already, which are left as they are.

    Raises:
        AutoScorerError: As ``upgrade_ledger``; ``INVALID_REQUEST`` where the tables are not up to date.
    """

    def imported(db: Connection) -> tuple[int, int]:
        if is_empty(db):
            upgrade(db)
        check_revision(db)
        new = known = 0
        for task, end in jobs:
            if adopt(db, [task]):
                finish(db, [end])
                new += 1
            else:
                known += 1
        return new, known

    return await in_ledger(settings, imported)


def _blocks(file: IO[str], read: dict[str, int]) -> Iterator[tuple[str, list[Json]]]:
    """The rows of an export, some of one table at a time; ``read`` counts them."""
    name, rows = "", list[Json]()
    for number, line in enumerate(file, 1):
        try:
            ((key, value),) = json.loads(line).items()
        except (ValueError, AttributeError, RecursionError):
            raise _no_export(f"line {number} is not one") from None
        if number == 1:
            if key != "ledger" or value != HEAD:
                raise _no_export(f"its first line must say that it is of revision {HEAD}")
            continue
        if rows and (key != name or len(rows) == _TOGETHER):
            yield name, rows
            rows = []
        if key == "rows":
            if value != read:
                raise _no_export(f"it counts {value}, and {read} are there")
            return
        if key not in _TABLES or not isinstance(value, dict) or set(value) != set(_TABLES[key].c.keys()):
            raise _no_export(f"line {number} is not a row of a table")
        name = key
        rows.append(value)
        read[key] = read.get(key, 0) + 1
    raise _no_export("it ends before its last line, which counts the rows")


def _secrets_of(home: Path) -> Iterator[Json]:
    """The secrets of a home that others would share, as rows."""
    for name in (CALLBACK_SECRET, LINK_KEY):
        try:
            value = read_secret(home / name).decode("latin-1")
        except (FileNotFoundError, EmptySecret):  # nothing that a receiver could know
            continue
        except OSError as error:
            raise _unusable(name, "read", error) from None
        yield {"name": name, "value": value, "created_at": time.time()}


def _keep_secrets(home: Path, rows: list[Json]) -> None:
    for row in rows:
        if row["name"] in (CALLBACK_SECRET, LINK_KEY):  # what else there is has no meaning for one home alone
            try:
                write_atomic(home / row["name"], str(row["value"]).encode("latin-1") + b"\n", mode=0o600)
            except OSError as error:
                raise _unusable(row["name"], "written", error) from None


def _unusable(name: str, done: str, error: OSError) -> AutoScorerError:
    why = error.strerror or type(error).__name__
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST, f"The secret {name} in the home can't be {done}: {why}.", stage=Stage.CONFIG
    )


def _line(file: IO[str], value: Json) -> None:
    file.write(json.dumps(value, allow_nan=False) + "\n")


def _no_export(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The file is not a whole export of a ledger: {why}. Nothing was read into the ledger; write it again with "
        "`autoscorer ledger export`.",
    )
