"""Who of several processes does what one at a time may do: a row of the ledger that ends by itself."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Double, cast, delete, func, literal, or_

from .tables import insert_into, leases

__all__ = ["drop_lease", "take_lease"]


def take_lease(db: Connection, name: str, holder: str, seconds: float) -> bool:
    """Take a lease that nobody has, or renew one's own; whether the holder has it for so long from now."""
    now = func.extract("epoch", func.clock_timestamp()) if db.dialect.name == "postgresql" else literal(time.time())
    until = cast(now, Double) + seconds
    taken = (
        insert_into(db.dialect.name, leases)
        .values(name=name, holder=holder, until=until)
        .on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": holder, "until": until},
            where=or_(leases.c.holder == holder, leases.c.until < cast(now, Double)),
        )
        .returning(leases.c.name)
    )
    return db.scalar(taken) is not None


def drop_lease(db: Connection, name: str, holder: str) -> None:
    """Let others take it at once."""
    db.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
