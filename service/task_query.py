"""Which tasks somebody wants to see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.aliases import our_scorer
from ..schemas.task import Action, TaskState
from .ledger.derived import folded
from .ledger.records import TaskFilter
from .ledger.task_ids import first_id_at, is_task_id
from .policy import Scope

__all__ = ["TaskQuery"]


@dataclass(frozen=True)
class TaskQuery:
    """Which tasks to list; None and the empty tuple ask for all.

    ``name`` is part of a workspace's or job's name, also of a batch's members. Times are aware; ``since`` is included,
    ``until`` is not. ``cursor`` is a page's ``next_cursor``.
    """

    states: tuple[TaskState, ...] = ()
    workspace: str | None = None
    name: str | None = None
    scorer: str | None = None
    action: Action | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    cursor: str | None = None

    def filter(self, workspace: str | None, scope: Scope) -> TaskFilter:
        """The same for the ledger.

        Args:
            workspace: The folder of ``self.workspace``.
            scope: Which of them whoever asks may see.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for a cursor that is none.
        """
        if self.cursor is not None and not is_task_id(self.cursor):
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, "cursor must be the next_cursor of an earlier page.")
        return TaskFilter(
            self.states,
            workspace,
            None if self.name is None else folded(self.name),
            our_scorer(self.scorer),
            self.action,
            None if self.since is None else first_id_at(self.since.timestamp()),
            None if self.until is None else first_id_at(self.until.timestamp()),
            scope=scope,
        )
