"""What may be spent, and what was: by a job, by a caller today, by all today.

A budget is looked at before each call, once the call has its place. So it can be exceeded by what the calls cost that
are under way at that moment, and by no more.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ...core.config_judge import JudgeBudget
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.storage import full_database
from .failures import failure
from .store import Store
from .usage import Usage

__all__ = ["Account", "Budget", "Spend", "Spent"]

_TABLES = """
CREATE TABLE IF NOT EXISTS spent (
    day TEXT NOT NULL, caller TEXT NOT NULL, calls INTEGER NOT NULL, tokens INTEGER NOT NULL, cost REAL NOT NULL,
    unknown INTEGER NOT NULL, PRIMARY KEY (day, caller)
) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO spent (day, caller, calls, tokens, cost, unknown) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (day, caller) DO UPDATE SET calls = calls + excluded.calls, tokens = tokens + excluded.tokens,
    cost = cost + excluded.cost, unknown = unknown + excluded.unknown
"""
_COLUMNS = "COALESCE(SUM(calls), 0), COALESCE(SUM(tokens), 0), COALESCE(SUM(cost), 0.0), COALESCE(SUM(unknown), 0)"
_OF_CALLER = f"SELECT {_COLUMNS} FROM spent WHERE day = ? AND caller = ?"  # noqa: S608 - our own text
_OF_ALL = f"SELECT {_COLUMNS} FROM spent WHERE day = ?"  # noqa: S608 - our own text


@dataclass
class Budget:
    """What one job may spend, and what it has spent so far.

    Args:
        tokens: Tokens that it may take; None for no limit.
        cost: Money that it may cost; None for no limit.
        spent: What it has taken; begin with what an earlier attempt took, where there was one.
    """

    tokens: int | None = None
    cost: float | None = None
    spent: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, limits: JudgeBudget) -> Budget:
        """As it is configured for a job."""
        return cls(limits.job_tokens, limits.job_cost)


class Spent(NamedTuple):
    """What was spent on one day.

    Args:
        calls: Answered calls.
        tokens: Tokens that servers reported.
        cost: Money, of calls whose cost is known.
        unknown: Calls whose cost is not known.
    """

    calls: int
    tokens: int
    cost: float
    unknown: int


class Spend:
    """What was spent on each UTC day by each caller, in a file that the processes of a home share.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store = Store(path, _TABLES)

    async def add(self, caller: str, usage: Usage) -> None:
        """Count what one answered call has taken.

        Raises:
            AutoScorerError: ``STORAGE_FULL``; ``INTERNAL_ERROR`` where the file can't be written for another reason.
        """
        unknown = usage.calls if usage.cost is None else 0
        row = (_today(), caller, usage.calls, usage.tokens, usage.cost or 0.0, unknown)
        try:
            await self._store.write(lambda connection: connection.execute(_ADD, row).rowcount)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None

    async def today(self, caller: str | None = None) -> Spent:
        """What was spent today by one caller; by all together when None.

        Raises:
            AutoScorerError: As ``add``.
        """
        query, values = (_OF_ALL, (_today(),)) if caller is None else (_OF_CALLER, (_today(), caller))
        try:
            return Spent(*await self._store.read(lambda connection: connection.execute(query, values).fetchone()))
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None

    async def close(self) -> None:
        """Finish writing."""
        await self._store.close()

    def _unusable(self, error: Exception) -> AutoScorerError:
        # Of an ``OSError`` without its path, which is the host's.
        why = error.strerror if isinstance(error, OSError) else str(error)
        return full_database(error, self._path.parent) or AutoScorerError(
            ErrorCode.INTERNAL_ERROR,
            f"What judges have cost can't be counted: {self._path.name} in the home can't be used ({why}).",
        )


@dataclass(frozen=True)
class Account:
    """Whom calls are charged to, and within which limits.

    Args:
        caller: Whose day's budget it is.
        budget: The job's own.
        limits: Of the configuration; those of a day hold here, those of a job are in ``budget``.
        spend: What was spent today.
    """

    caller: str
    budget: Budget
    limits: JudgeBudget
    spend: Spend

    def require_price(self, known: bool, price: str) -> None:
        """Refuse to begin where money is limited and nobody knows what a call costs.

        Args:
            known: Whether the profile has a price.
            price: The setting that would say it.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` at stage ``config``.
        """
        if not known and (self.budget.cost is not None or self.limits.limits_money):
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"A budget limits money, and could not hold without a price: set {price} (0 for a model that costs "
                "nothing), or limit tokens.",
                stage=Stage.CONFIG,
            )

    async def check(self, profile: str, model: str) -> None:
        """Let a call begin, unless a budget is used up.

        Raises:
            AutoScorerError: ``BUDGET_EXCEEDED``; ``JUDGE_ERROR`` for the reason ``budget`` where the server does not
                report tokens, so that no budget can hold.
        """
        budget, limits = self.budget, self.limits
        if not budget.spent.tokens_known and (
            budget.tokens is not None or budget.cost is not None or limits.limits_days
        ):
            raise failure("budget", profile=profile, model=model)
        _within("job_tokens", budget.spent.tokens, budget.tokens)
        _within("job_cost", budget.spent.cost, budget.cost)
        if limits.caller_tokens_per_day is not None or limits.caller_cost_per_day is not None:
            spent = await self.spend.today(self.caller)
            _within("caller_tokens_per_day", spent.tokens, limits.caller_tokens_per_day)
            _within("caller_cost_per_day", spent.cost, limits.caller_cost_per_day)
        if limits.tokens_per_day is not None or limits.cost_per_day is not None:
            spent = await self.spend.today()
            _within("tokens_per_day", spent.tokens, limits.tokens_per_day)
            _within("cost_per_day", spent.cost, limits.cost_per_day)

    async def charge(self, usage: Usage) -> None:
        """Count an answered call."""
        self.budget.spent.add(usage)
        await self.spend.add(self.caller, usage)


_BUDGETS = {
    "job_tokens": "this job's budget of tokens",
    "job_cost": "this job's budget of money",
    "caller_tokens_per_day": "today's budget of tokens of this caller",
    "caller_cost_per_day": "today's budget of money of this caller",
    "tokens_per_day": "today's budget of tokens",
    "cost_per_day": "today's budget of money",
}


def _within(name: str, spent: float | None, limit: float | None) -> None:
    # The cost of a job that was begun without a price is unknown: it can't be held to a limit, and may not go on.
    if limit is None or (spent is not None and spent < limit):
        return
    # What all together may spend, and have spent, is the operator's: a record's reason is read by whoever posted it.
    of_all = name in ("tokens_per_day", "cost_per_day")
    told = "an unknown amount" if spent is None else f"{spent:,.6g}"
    numbers = "" if of_all else f" ({told} of {limit:,.6g})"
    when = "Go on tomorrow (UTC), or raise" if name.endswith("_per_day") else "Raise"
    raise AutoScorerError(
        ErrorCode.BUDGET_EXCEEDED,
        f"The judge is not asked any more: {_BUDGETS[name]} is used up{numbers}. {when} judge.budget.{name}.",
        details={"budget": name, "spent": spent, "limit": limit, "reason": "budget"},
    )


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
