"""Who of several processes does what one at a time may do: a row of the ledger that ends by itself."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, Double, bindparam, delete, or_

from .tables import clock, insert_into, leases

__all__ = ["drop_lease", "take_lease"]


@cache
def _taking(dialect: str) -> Any:
    now = clock(dialect)
    take = insert_into(dialect, leases).values(until=now + bindparam("seconds", type_=Double))
    return take.on_conflict_do_update(
        index_elements=["name"],
        set_={name: take.excluded[name] for name in ("holder", "until")},
        where=or_(leases.c.holder == take.excluded.holder, leases.c.until < now),
    ).returning(leases.c.name)


def take_lease(db: Connection, name: str, holder: str, seconds: float) -> bool:
    """Take a lease that nobody has, or renew one's own; whether the holder has it for so long from now."""
    return db.scalar(_taking(db.dialect.name), {"name": name, "holder": holder, "seconds": seconds}) is not None


def drop_lease(db: Connection, name: str, holder: str) -> None:
    """Let others take it at once."""
    db.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
