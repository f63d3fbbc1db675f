"""Prepare the database of several Prefect servers, once, before any of them starts.

Each server would do this by itself when it starts. Two that start at once on a fresh database get in each other's way:
the block types that one registers are duplicate keys to the other, which then ends. So the servers of compose.yaml and
of kubernetes/production are told to leave it (``PREFECT_API_DATABASE_MIGRATE_ON_START``,
``PREFECT_API_BLOCKS_REGISTER_ON_START``), and this is run before them:
``python -m autoscorer.deployments.prepare_database``. What can't name what it comes after, as in Kubernetes, waits for
it: ``python -m autoscorer.deployments.prepare_database --wait 900``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.server.database.interface import PrefectDBInterface

__all__ = ["main", "prepare", "wait"]

# Seconds between two looks at the database.
_PAUSE = 2.0


async def prepare() -> None:
    """Create or migrate the tables, and register Prefect's block types."""
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)


async def wait(seconds: float) -> bool:
    """Wait until ``prepare`` of this version of Prefect has made the tables.

    Args:
        seconds: How long at most.

    Returns:
        Whether they are there.
    """
    from prefect.server.database import provide_database_interface

    database = provide_database_interface()
    until = time.monotonic() + seconds
    told: str | None = None
    while (missing := await _missing(database)) is not None:
        if missing != told:
            told = missing
            print(missing, file=sys.stderr, flush=True)  # noqa: T201 - it is what the pod's log is for
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(_PAUSE)
    return True


async def _missing(database: PrefectDBInterface) -> str | None:
    """What the servers would not find; None when all is there."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from prefect.server.database.alembic_commands import alembic_config

    config = alembic_config()
    config.set_main_option("version_locations", str(database.orm.versions_dir))
    wanted = ScriptDirectory.from_config(config).get_current_head()
    engine = await database.engine()
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    except Exception as error:  # each driver has exceptions of its own, and any of them means: not yet
        return f"The database does not answer yet ({type(error).__name__})."
    if found == wanted:
        return None
    return f"The tables are of revision {found or 'none'}, and this Prefect needs {wanted}."


def main(arguments: list[str] | None = None) -> int:
    """Prepare the database, or wait until it is prepared.

    Returns:
        The exit code: 1 when it was not prepared in time.
    """
    parser = argparse.ArgumentParser(prog="prepare_database", description="Make the tables of Prefect's servers.")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=float, help="change nothing; wait until the tables are there, at most so long"
    )
    seconds: float | None = parser.parse_args(arguments).wait
    if seconds is None:
        asyncio.run(prepare())
        return 0
    return 0 if asyncio.run(wait(seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
