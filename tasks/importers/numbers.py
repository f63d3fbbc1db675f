"""Quotas and phases of other platforms as a benchmark has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode, Stage

__all__ = ["limit", "open_phases", "smallest"]

# From here on a limit limits nobody, and a benchmark takes none as high.
_NO_LIMIT = 1_000_000


def limit(number: int | None) -> int | None:
    """A number of submissions as a quota has it; None where it limits nothing, as 0 does on these platforms."""
    return number if number and number <= _NO_LIMIT else None


def smallest(limits: Iterable[int | None]) -> int | None:
    """The smallest limit; None where there is none."""
    return min((each for each in limits if each is not None), default=None)


def open_phases(
    phases: Sequence[tuple[str, datetime | None, datetime | None]], notes: list[str]
) -> list[dict[str, Any]]:
    """Phases as benchmark.json has them.

    Args:
        phases: Names, beginnings and ends.
        notes: Gets a line for each that is left out.

    Raises:
        AutoScorerError: ``BAD_FORMAT``: none of them is ever open.
    """
    found: list[dict[str, Any]] = []
    for name, start, end in phases:
        if start is not None and end is not None and end <= start:
            notes.append(f"Phase {name[:100]!r} ends when or before it begins, so it is left out.")
            continue
        taken = {each["name"] for each in found}
        names = [name[:100], *(f"{name[:90]} ({number})" for number in range(2, len(phases) + 2))]
        found.append(
            {
                "name": next(each for each in names if each not in taken),
                **({"open": start.isoformat()} if start is not None else {}),
                **({"close": end.isoformat()} if end is not None else {}),
            }
        )
    if not found:
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            "No phase is ever open: each ends when or before it begins. Repair the dates: a benchmark without phases "
            "takes submissions at any time.",
            stage=Stage.VALIDATION,
        )
    return found
