"""A batch's outcomes as a leaderboard: who is first, and why the others have no place."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from ...core.spreadsheet import safe_cell

__all__ = ["COLUMNS", "leaderboard", "to_csv"]

Row = dict[str, Any]

# In this order in the CSV. ``rank`` is the Result's letter, ``place`` the position among the others.
COLUMNS = ("place", "workspace", "state", "metric", "score", "low", "high", "pass", "rank", "seconds", "error")
_STATES = ("completed", "failed", "cancelled")


def leaderboard(outcomes: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Order the outcomes of a batch, best first.

    Equal scores share a place and the next one is left out: 1, 2, 2, 4. The metric's own direction counts
    (``higher_is_better``). Scores of different metrics can't be compared: each metric has places of its own, in the
    order of their names. Completed workspaces whose main metric is undefined follow, then those that failed, then
    those that were cancelled or not reached; none of them has a place. A workspace that was named twice stands here
    once. Where everything else is equal the workspaces' names decide, so the same outcomes give the same order,
    whichever came first.

    Args:
        outcomes: As a batch's summary or its journal holds them. Of several for one workspace the last one counts.

    Returns:
        Rows with the keys ``COLUMNS``: ``place`` (None without a defined score), ``workspace``, ``state``,
        ``metric``, ``score``, ``low`` and ``high`` (of the main metric's interval, or None), ``pass``, ``rank`` (the
        letter), ``seconds``, ``error`` (its code).
    """
    latest = {str(outcome["workspace"]): outcome for outcome in outcomes if outcome.get("state") in _STATES}
    rows: list[Row] = []
    for _, group in groupby(sorted(latest.values(), key=_order), key=_comparable):
        place = 0
        for number, outcome in enumerate(group, 1):
            row = _row(outcome)
            if row["score"] is not None:
                if number == 1 or row["score"] != rows[-1]["score"]:
                    place = number
                row["place"] = place
            rows.append(row)
    return rows


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows of a leaderboard as CSV (RFC 4180: a header line, CRLF, quotes where they are needed).

    Workspaces are named by strangers: what looks like a formula is made safe (``safe_cell``). Numbers stay numbers,
    with all their digits. An empty cell is a value that is not known; ``pass`` is ``true`` or ``false``. Lone
    surrogates of a file name that is no UTF-8 become ``\\udc..``.

    Args:
        rows: What ``leaderboard`` gave.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([safe_cell(row.get(column)) for column in COLUMNS])
    return text.getvalue()


def _score(outcome: Mapping[str, Any]) -> float | None:
    score = outcome.get("score")
    known = outcome["state"] == "completed" and isinstance(score, (int, float)) and math.isfinite(score)
    return score if known else None


def _comparable(outcome: Mapping[str, Any]) -> tuple[int, str, bool]:
    """Outcomes of one group can be compared with each other."""
    if _score(outcome) is None:
        return (1 + _STATES.index(outcome["state"]), "", False)
    return (0, str(outcome.get("metric") or ""), _higher_is_better(outcome))


def _higher_is_better(outcome: Mapping[str, Any]) -> bool:
    return outcome.get("higher_is_better") is not False


def _order(outcome: Mapping[str, Any]) -> tuple[Any, ...]:
    score = _score(outcome)
    worth = 0.0 if score is None else -score if _higher_is_better(outcome) else score
    return (*_comparable(outcome), worth, str(outcome["workspace"]))


def _row(outcome: Mapping[str, Any]) -> Row:
    interval, error = outcome.get("interval") or {}, outcome.get("error") or {}
    return {
        "place": None,
        "workspace": str(outcome["workspace"]),
        "state": outcome["state"],
        "metric": outcome.get("metric"),
        "score": _score(outcome),
        "low": interval.get("low"),
        "high": interval.get("high"),
        "pass": outcome.get("pass"),
        "rank": outcome.get("rank"),
        "seconds": outcome.get("seconds"),
        "error": error.get("code"),
    }
