"""The columns of a leaderboard: which numbers of a scoring program count, and in which direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from .scores import finite

__all__ = ["COMPUTATIONS", "Column", "metrics_of"]

COMPUTATIONS: Mapping[str, Callable[[Sequence[float]], float]] = {"avg": fmean, "sum": sum, "min": min, "max": max}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number that a scoring program gives.

    Args:
        key: Its name in the file of scores, and in ``Result.metrics``.
        higher_is_better: Its direction.
        hidden: Whether only the organisers may see it.
        computation: How it is made of other columns: a key of ``COMPUTATIONS``; None where the program gives it.
        of: Those columns.
    """

    key: str
    higher_is_better: bool = True
    hidden: bool = False
    computation: str | None = None
    of: tuple[str, ...] = ()


def metrics_of(
    scores: Mapping[str, Any], columns: Sequence[Column], *, main: str
) -> tuple[dict[str, float | None], list[str]]:
    """The metrics of a Result.

    Args:
        scores: What the program gave.
        columns: Which of it count.
        main: The column that must be there.

    Returns:
        The metrics, in the order of the columns, and notes: columns that the program did not give, names that no
        column has.

    Raises:
        AutoScorerError: ``SCORER_ERROR`` for a value that is not a finite number, and for a main column without one.
    """
    found: dict[str, float | None] = {
        column.key: finite(column.key, scores[column.key])
        for column in columns
        if column.computation is None and column.key in scores
    }
    for column in columns:
        if column.computation is not None:
            parts = [found.get(key) for key in column.of]
            numbers = [part for part in parts if part is not None]
            complete = bool(parts) and len(numbers) == len(parts)
            found[column.key] = finite(column.key, COMPUTATIONS[column.computation](numbers)) if complete else None
    if found.get(main) is None:
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"The scoring program gave no {main!r}, which is the main metric; it gave {_names(scores)}.",
            details={"missing": main},
        )
    metrics = {column.key: found.get(column.key) for column in columns}
    missing = [key for key, value in metrics.items() if value is None]
    notes = [f"{key} is undefined: the scoring program did not give it." for key in missing]
    known = {column.key for column in columns}
    if others := [key for key in scores if key not in known]:
        notes.append(f"The scoring program also gave {_names(others)}, which no column shows.")
    return metrics, notes


def _names(names: Mapping[str, Any] | Sequence[str]) -> str:
    shown = [repr(name[:60]) for name in list(names)[:10]]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(shown) or "nothing") + more
