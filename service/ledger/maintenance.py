"""What an operator does to a ledger that no API uses: bring it up to date, write it to a file, read it from one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.exc import IntegrityError

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ..prefect.model import Json
from .ledger import in_ledger, is_there
from .revisions import HEAD, check_revision, current_revision, upgrade
from .tables import idempotency, names, outcomes, tasks

__all__ = ["export_ledger", "import_ledger", "upgrade_if_there", "upgrade_ledger"]

# In this order each row comes after the one that it refers to. The counts follow from the tasks.
_TABLES: dict[str, Table] = {table.name: table for table in (tasks, outcomes, names, idempotency)}
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

    Returns:
        The number of rows of each table.

    Raises:
        AutoScorerError: As ``upgrade_ledger``; ``INVALID_REQUEST`` where the tables are not up to date.
    """

    def exported(db: Connection) -> Json:
        check_revision(db)
        _line(file, {"ledger": HEAD})
        written = dict.fromkeys(_TABLES, 0)
        for name, table in _TABLES.items():
            for row in db.execution_options(yield_per=_TOGETHER).execute(select(table)).mappings():
                _line(file, {name: dict(row)})
                written[name] += 1
        _line(file, {"rows": written})
        return written

    return await in_ledger(settings, exported)


async def import_ledger(settings: Settings, file: IO[str]) -> Json:
    """Put what ``export_ledger`` wrote into an empty ledger: all of it, or nothing.

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
        read = dict.fromkeys(_TABLES, 0)
        try:
            for name, rows in _blocks(file, read):
                db.execute(insert(_TABLES[name]), rows)
        except IntegrityError:
            raise _no_export("its rows do not belong together") from None
        return read

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
        read[key] += 1
    raise _no_export("it ends before its last line, which counts the rows")


def _line(file: IO[str], value: Json) -> None:
    file.write(json.dumps(value, allow_nan=False) + "\n")


def _no_export(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The file is not a whole export of a ledger: {why}. Nothing was read into the ledger; write it again with "
        "`autoscorer ledger export`.",
    )
