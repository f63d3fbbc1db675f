"""Run by Alembic for each upgrade, in the transaction of the connection that it is given."""

from __future__ import annotations

from alembic import context

# As batches: SQLite can't change a column, and has its table copied.
context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
