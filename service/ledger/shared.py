"""What the homes of one installation have in common: secrets, and scorer files as they last loaded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection

from sqlalchemy import Connection, bindparam, delete, select, update

from .records import ScorerChange, SharedScorer, SharedScorers
from .tables import changes, insert_into, scorer_files, scorer_watches, secrets

__all__ = ["change_scorers", "scorer_copies", "scorers", "scorers_number", "secret"]

# The name of their row in ``changes``.
_SCORERS = "scorers"


def secret(db: Connection, name: str, offered: str) -> str:
    """The secret of that name: what the first one offered.

    Of several who offer one at the same time, the others wait here until the first has committed.
    """
    made = insert_into(db.dialect.name, secrets).on_conflict_do_nothing()
    db.execute(made, {"name": name, "value": offered, "created_at": time.time()})
    return str(db.scalar(select(secrets.c.value).where(secrets.c.name == name)))


def scorers_number(db: Connection) -> int:
    """How often the scorers were changed. Every worker asks before every run."""
    return int(db.scalar(_NUMBER, {"of": _SCORERS}) or 0)


_NUMBER = select(changes.c.number).where(changes.c.name == bindparam("of"))


def scorers(db: Connection) -> SharedScorers:
    """All of them, without their copies; what is changed meanwhile may be in it, and its number is the one before."""
    number = scorers_number(db)
    columns = [column for column in scorer_files.c if column is not scorer_files.c.copy]
    found = db.execute(select(*columns).order_by(scorer_files.c.path)).mappings()
    files = [SharedScorer(**{**row, "scorers": json.loads(row["scorers"])}) for row in found]
    return SharedScorers(
        number,
        {file.path: file for file in files},
        {row.path: row.home for row in db.execute(select(scorer_watches))},
    )


def scorer_copies(db: Connection, paths: Collection[str]) -> dict[str, str]:
    """The copies of some files."""
    asked = select(scorer_files.c.path, scorer_files.c.copy).where(scorer_files.c.path.in_(list(paths)))
    return {row.path: row.copy for row in db.execute(asked)}


def change_scorers(db: Connection, change: Callable[[SharedScorers], ScorerChange]) -> SharedScorers:
    """Change them, one after the other.

    Args:
        db: The transaction.
        change: Says what is to be changed; what it raises changes nothing.

    Returns:
        What they are then.
    """
    # Held to the end, so that whoever sees the number which this one makes sees what it changed.
    ours = insert_into(db.dialect.name, changes).values(name=_SCORERS, number=0)
    db.execute(ours.on_conflict_do_update(index_elements=["name"], set_={"number": changes.c.number}))
    before = scorers(db)
    wanted = change(before)
    if not (wanted.files or wanted.gone or wanted.watches):
        return before
    if wanted.gone:
        db.execute(delete(scorer_files).where(scorer_files.c.path.in_(list(wanted.gone))))
    for file, copy in wanted.files:
        values = {each: getattr(file, each) for each in ("home", "kind", "sha256", "digest")}
        values |= {"scorers": json.dumps(dict(file.scorers))} | ({} if copy is None else {"copy": copy})
        made = insert_into(db.dialect.name, scorer_files).values(path=file.path, **{"copy": "", **values})
        db.execute(made.on_conflict_do_update(index_elements=["path"], set_=values))
    for path, home in wanted.watches.items():
        if home is None:
            db.execute(delete(scorer_watches).where(scorer_watches.c.path == path))
        else:
            made = insert_into(db.dialect.name, scorer_watches).values(path=path, home=home)
            db.execute(made.on_conflict_do_update(index_elements=["path"], set_={"home": home}))
    db.execute(update(changes).where(changes.c.name == _SCORERS).values(number=changes.c.number + 1))
    return scorers(db)
