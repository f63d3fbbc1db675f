"""Prepare the database of several Prefect servers, once, before any of them starts.

Each server would do this by itself when it starts. Two that start at once on a fresh database get in each other's way:
the block types that one registers are duplicate keys to the other, which then ends. So the servers of compose.yaml are
told to leave it (``PREFECT_API_DATABASE_MIGRATE_ON_START``, ``PREFECT_API_BLOCKS_REGISTER_ON_START``), and this is run
before them: ``python -m autoscorer.deployments.prepare_database``.
"""

from __future__ import annotations

import asyncio


async def prepare() -> None:
    """Create or migrate the tables, and register Prefect's block types."""
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)


if __name__ == "__main__":
    asyncio.run(prepare())
