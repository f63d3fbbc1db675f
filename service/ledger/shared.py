"""What the homes of one installation have in common: secrets, and scorer files as they last loaded."""

from __future__ import annotations

import time

from sqlalchemy import Connection, select

from .tables import insert_into, secrets

__all__ = ["secret"]


def secret(db: Connection, name: str, offered: str) -> str:
    """The secret of that name: what the first one offered.

    Of several who offer one at the same time, the others wait here until the first has committed.
    """
    made = insert_into(db.dialect.name, secrets).on_conflict_do_nothing()
    db.execute(made, {"name": name, "value": offered, "created_at": time.time()})
    return str(db.scalar(select(secrets.c.value).where(secrets.c.name == name)))
