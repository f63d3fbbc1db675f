"""Lists of tasks: which of them, in which order, a page at a time.

A page begins after a place in the order, not at a number: what comes or goes meanwhile shifts nothing. An index has
each order, and ids are read before rows are: a sort would carry requests of kilobytes along.

Whoever may not see all digits of a score must not learn them from an order either. For them scores that are told as
the same number are the same, and those that a leaderboard alone tells of are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, not_, null, or_, select, true

from ...core.disclosed import rounded, told_alike
from ...schemas.task import TaskState
from ..policy import SEVERAL, Scope
from .derived import metric_name
from .queries import ROW, counts
from .records import Order, Page, Place, StoredResult, TaskFilter, TaskRow
from .tables import names, outcomes, tasks

__all__ = ["page"]

_NEWEST = Order()
_KEYS: dict[str, ColumnElement[Any]] = {
    "ended": tasks.c.ended_at,
    "score": tasks.c.score,
    "name": tasks.c.sort_name,
    "scorer": tasks.c.scorer,
    "state": tasks.c.state,
    "seconds": tasks.c.seconds,
}


def page(db: Connection, wanted: TaskFilter, after: Place | None, limit: int, order: Order = _NEWEST) -> Page:
    """At most ``limit`` of the tasks that are wanted, those that come after a place in an order.

    Args:
        db: The connection.
        wanted: Which tasks.
        after: The ``next`` of the page before, None for the first. Its value counts as far as it is told.
        limit: Most tasks.
        order: In which order.
    """
    conditions = _conditions(wanted)
    if wanted == TaskFilter(states=wanted.states):  # no rows are counted for the usual questions
        found = counts(db)
        total = sum(found[state.value] for state in {*wanted.states} or TaskState)
    else:
        total = _count(db, conditions)
    sort = _Sort(order, wanted.digits)
    before = sum(_count(db, [*conditions, part]) for part in sort.up_to(after)) if after is not None else 0
    places: list[Place] = []
    for part in sort.beyond(after):
        if len(places) <= limit:
            places += sort.read(db, conditions, part, limit + 1 - len(places))
    there = _rows(db, [place.id for place in places[:limit]])
    # One that was forgotten since its id was read is left out.
    rows = [there[place.id] for place in places[:limit] if place.id in there]
    return Page(rows, total, before, places[limit - 1] if len(places) > limit else None)


class _Part(NamedTuple):
    """Tasks that come one after the other: which, whether they have a value that is told, and whether by that or by
    their ids alone."""

    holds: ColumnElement[bool]
    known: bool
    by_value: bool


class _Sort:
    """An order, as it is for somebody who is told so many digits."""

    def __init__(self, order: Order, digits: int | None) -> None:
        self._descending = order.descending
        self._key = _KEYS.get(order.by)
        self._digits = digits if order.by == "score" else None
        # Whether there is a value at all, and whether it is told.
        self._known: ColumnElement[bool] = true() if self._key is None else self._key.is_not(None)
        if self._digits is not None:
            self._known = and_(self._known, tasks.c.board_only.is_(None))

    def beyond(self, after: Place | None) -> list[_Part]:
        """What comes after a place, in its order."""
        if self._key is None:
            return [_Part(true() if after is None else self._further(tasks.c.id, after.id), True, False)]
        unknown = _Part(not_(self._known), False, False)
        if after is None:
            return [_Part(self._known, True, True), unknown]
        further = self._further(tasks.c.id, after.id)
        if after.value is None:
            return [_Part(and_(not_(self._known), further), False, False)]
        first, last = self._alike(after.value)
        return [
            _Part(and_(self._known, self._between(first, last), further), True, False),
            _Part(and_(self._known, self._further(self._key, first if self._descending else last)), True, True),
            unknown,
        ]

    def up_to(self, after: Place) -> list[ColumnElement[bool]]:
        """What comes before a place or is there, in parts to be counted."""
        no_further = not_(self._further(tasks.c.id, after.id))
        if self._key is None:
            return [no_further]
        if after.value is None:
            return [self._known, and_(not_(self._known), no_further)]
        first, last = self._alike(after.value)
        nearer = self._key > last if self._descending else self._key < first
        return [and_(self._known, nearer), and_(self._known, self._between(first, last), no_further)]

    def read(self, db: Connection, conditions: Sequence[ColumnElement[bool]], part: _Part, most: int) -> list[Place]:
        """The first places of a part."""
        found = self._places(db, conditions, part, most)
        if not part.by_value or self._digits is None or not found:
            return found
        # They came by all of their digits. Of those that are told as the last one is, others may come before it.
        alike = [place for place in found if place.value == found[-1].value]
        others = sorted(found[: -len(alike)], key=_value_and_id, reverse=self._descending)
        as_last = and_(self._known, self._between(*self._alike(found[-1].value)))
        return others + self._places(db, conditions, _Part(as_last, True, False), len(alike))

    def _places(self, db: Connection, conditions: Sequence[ColumnElement[bool]], part: _Part, most: int) -> list[Place]:
        # What has none that is told may have one all the same.
        value = self._key if self._key is not None and part.known else null()
        keys = [value, tasks.c.id] if part.by_value else [tasks.c.id]
        asked = select(value, tasks.c.id).where(*conditions, part.holds).limit(most)
        asked = asked.order_by(*(key.desc() if self._descending else key for key in keys))
        return [Place(self._told(each[0]), each[1]) for each in db.execute(asked)]

    def _told(self, value: Any) -> Any:
        return rounded(value, self._digits) if self._digits is not None and value is not None else value

    def _alike(self, value: Any) -> tuple[Any, Any]:
        """The first and the last of the values that are told as this one is."""
        return (value, value) if self._digits is None else told_alike(value, self._digits)

    def _between(self, first: Any, last: Any) -> ColumnElement[bool]:
        assert self._key is not None
        # Of one value an index has the tasks by their ids.
        return self._key == first if first == last else self._key.between(first, last)

    def _further(self, key: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
        further: ColumnElement[bool] = key < value if self._descending else key > value
        return further


def _value_and_id(place: Place) -> tuple[Any, str]:
    return place.value, place.id


def _count(db: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    return int(db.scalar(select(func.count()).select_from(tasks).where(*conditions)) or 0)


_ROWS = (
    select(*ROW, outcomes.c.error, outcomes.c.outcome)
    .join(outcomes, outcomes.c.task_id == tasks.c.id, isouter=True)
    .where(tasks.c.id.in_(bindparam("them", expanding=True)))
)


def _rows(db: Connection, task_ids: Sequence[str]) -> dict[str, tuple[TaskRow, StoredResult]]:
    if not task_ids:
        return {}
    found = db.execute(_ROWS, {"them": task_ids})
    return {each[0]: (TaskRow(*each[:-2]), StoredResult(None, *each[-2:])) for each in found}


# --- which of them ------------------------------------------------------------------------------------------


def _conditions(wanted: TaskFilter) -> list[ColumnElement[bool]]:
    return [*_asked_for(wanted), *_seen(wanted.scope)]


def _seen(scope: Scope) -> list[ColumnElement[bool]]:
    """The same of the rows that ``policy.may`` says of each."""
    if scope.everything:
        return []
    if scope.benchmarks is not None:
        return [tasks.c.benchmark.in_(sorted(scope.benchmarks))]
    if scope.team is not None:
        # What is NULL is not equal, nor is it unequal.
        return [tasks.c.team == scope.team, tasks.c.benchmark != SEVERAL]
    return [tasks.c.benchmark.is_(None), or_(tasks.c.action != "rag-score", tasks.c.caller == scope.owner)]


def _asked_for(wanted: TaskFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.parent is not None:
        yield tasks.c.parent == wanted.parent
    elif not wanted.members:
        yield tasks.c.parent.is_(None)
    for column, values in (
        (tasks.c.state, [state.value for state in wanted.states]),
        (tasks.c.scorer, wanted.scorers),
        (tasks.c.action, wanted.actions),
    ):
        if values:
            yield column.in_(values)
    for part in (wanted.name, None if wanted.metric is None else metric_name(wanted.metric)):
        if part is not None:
            named = names.c.names.contains(part, autoescape=True)
            yield tasks.c.id.in_(select(names.c.task_id).where(named))
    for column, value in (
        (tasks.c.workspace, wanted.workspace),
        (tasks.c.benchmark, wanted.benchmark),
        (tasks.c.team, wanted.team),
        (tasks.c.flow_run_id, wanted.flow_run),
    ):
        if value is not None:
            yield column == value
    if wanted.passed is not None:
        yield tasks.c.passed == int(wanted.passed)
        if wanted.digits is not None:
            yield tasks.c.board_only.is_(None)
    if wanted.since is not None:
        yield tasks.c.id >= wanted.since
    if wanted.until is not None:
        yield tasks.c.id < wanted.until
