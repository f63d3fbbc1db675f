"""Prefect's server as ``autoscorer up`` starts it: ``python -m autoscorer.service.prefect.server …`` is ``prefect …``.

One thing differs, and only with SQLite. Prefect reads before it writes in one transaction, which begins as DEFERRED:
when somebody else has written in between, SQLite can't give it the write lock any more and it fails at once with
"database is locked", whatever the busy timeout. Beside workers that report states a third of the requests to create
flow runs failed so, and Prefect's client waits 2, 4, 8 seconds before it asks again. A transaction that begins as
IMMEDIATE waits for its turn instead, and none failed.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from ...core.errors import AutoScorerError
from ...tasks.prefect_version import require_patched_version

__all__ = ["take_turns"]

# A transaction inside a transaction must not wait for the outer one, which waits for it.
_in_transaction: ContextVar[bool] = ContextVar("autoscorer_in_transaction", default=False)


def take_turns() -> None:
    """Let Prefect's transactions on SQLite wait for their turn instead of failing.

    A patch of Prefect's inside, for the process of the server alone.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the installed Prefect is not the one that this was made for.
    """
    require_patched_version()
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    @asynccontextmanager
    async def begin_at_once(
        self: AioSqliteConfiguration, session: Any, with_for_update: bool = False
    ) -> AsyncGenerator[Any, None]:
        if _in_transaction.get():
            async with begin(self, session, with_for_update=with_for_update) as transaction:
                yield transaction
            return
        token = _in_transaction.set(True)
        try:
            async with begin(self, session, with_for_update=True) as transaction:
                yield transaction
        finally:
            _in_transaction.reset(token)

    AioSqliteConfiguration.begin_transaction = begin_at_once  # type: ignore[method-assign]


if __name__ == "__main__":
    try:
        take_turns()
    except AutoScorerError as error:
        sys.exit(str(error))
    from prefect.cli import app

    sys.argv[0] = "prefect"
    app()
