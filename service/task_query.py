"""Which tasks somebody wants to see, and in which order."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.aliases import our_scorer
from ..schemas.task import Action, TaskSort, TaskState
from .ledger.derived import folded
from .ledger.records import Order, Place, TaskFilter
from .ledger.task_ids import first_id_at, is_task_id
from .policy import Scope

__all__ = ["TaskQuery", "cursor_of", "place_of"]


@dataclass(frozen=True)
class TaskQuery:
    """Which tasks to list; None and the empty tuple ask for all.

    ``name`` is part of a workspace's or job's name, also of a batch's members. ``parent`` asks for the members of that
    batch alone, ``members`` for those of all batches among the rest. Times are aware; ``since`` is included, ``until``
    is not. ``cursor`` is a page's ``next_cursor``.
    """

    states: tuple[TaskState, ...] = ()
    workspace: str | None = None
    name: str | None = None
    scorers: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    passed: bool | None = None
    benchmark: str | None = None
    team: str | None = None
    flow_run: str | None = None
    parent: str | None = None
    members: bool = False
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    cursor: str | None = None
    sort: TaskSort = "-created"

    def filter(self, workspace: str | None, scope: Scope, digits: int | None) -> TaskFilter:
        """The same for the ledger.

        Args:
            workspace: The folder of ``self.workspace``.
            scope: Which of them whoever asks may see.
            digits: How many digits of a score they are told; None for all.
        """
        return TaskFilter(
            states=tuple(sorted({*self.states})),
            workspace=workspace,
            name=None if self.name is None else folded(self.name),
            scorers=tuple(sorted({our_scorer(each) or each for each in self.scorers})),
            actions=tuple(sorted({*self.actions})),
            since=None if self.since is None else first_id_at(self.since.timestamp()),
            until=None if self.until is None else first_id_at(self.until.timestamp()),
            passed=self.passed,
            benchmark=self.benchmark,
            team=self.team,
            flow_run=self.flow_run,
            parent=self.parent,
            members=self.members,
            scope=scope,
            digits=digits,
        )

    @property
    def order(self) -> Order:
        """How they are sorted."""
        by: Any = self.sort.removeprefix("-")
        return Order(by, descending=self.sort.startswith("-"))


def cursor_of(place: Place, wanted: TaskFilter, order: Order) -> str:
    """A place in one list, as text. It holds no more of a score than is told."""
    told = [_digest(wanted, order), place.id, place.value]
    return base64.urlsafe_b64encode(json.dumps(told, ensure_ascii=False).encode()).decode()


def place_of(cursor: str, wanted: TaskFilter, order: Order) -> Place:
    """The place that a cursor stands for.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor of another list, and for what is none.
    """
    try:
        digest, task_id, value = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        fits = is_task_id(task_id) and digest == _digest(wanted, order) and _is_of(order, value)
    except (ValueError, TypeError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "cursor must be the next_cursor of an earlier page of the same list: with the same sort, the same filters "
            "and the same token.",
        )
    return Place(value, task_id)


def _is_of(order: Order, value: object) -> bool:
    """Whether an order can have such a value: who asks may have written the cursor."""
    if order.by in ("ended", "score", "seconds"):
        return value is None or (isinstance(value, float) and math.isfinite(value))
    # What no database takes is no text.
    return value is None or (isinstance(value, str) and "\0" not in value.encode().decode())


def _digest(wanted: TaskFilter, order: Order) -> str:
    scope = wanted.scope
    benchmarks = None if scope.benchmarks is None else sorted(scope.benchmarks)
    whole = {**asdict(wanted), "scope": [scope.everything, scope.team, benchmarks, scope.owner], "order": asdict(order)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
