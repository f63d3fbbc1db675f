"""What the ledger works out once of a task's request and Result, so that a list of tasks reads neither."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ...core.disclosed import is_board_only
from ..prefect.model import Json

__all__ = ["folded", "metric_name", "names_of", "outcome_of", "sort_name", "sorted_by"]

# What else a Result's summary holds; the main metric stands there under its own name.
_NO_METRIC = ("score", "pass", "rank", "higher_is_better")
# Characters of one name; a path has no more.
_LONGEST_NAME = 4096
# And of one that is sorted by: an entry of an index has its limits.
_LONGEST_SORTED = 200


def outcome_of(result: Any) -> Json | None:
    """A Result in one line, with the keys of ``schemas.task.TaskOutcome``; None for what is none or failed."""
    summary = result.get("summary") if isinstance(result, Mapping) else None
    if not isinstance(summary, Mapping) or "score" not in summary or result.get("error") is not None:
        return None
    score = _number(summary["score"])
    same = [
        str(name)
        for name, value in summary.items()
        if name not in _NO_METRIC and not isinstance(value, bool) and value == summary["score"]
    ]
    metric = same[0] if same else None
    passed, rank = summary.get("pass"), summary.get("rank")
    scores = result.get("scores")
    return {
        **({"scores": {str(name): _number(value) for name, value in scores.items()}} if _mapping(scores) else {}),
        "score": score,
        "metric": metric,
        "higher_is_better": summary.get("higher_is_better") is not False,
        "interval": _interval(_mapping(result.get("intervals")).get(metric)) if metric is not None else None,
        "pass": passed if isinstance(passed, bool) else None,
        "rank": rank if isinstance(rank, str) and len(rank) == 1 else None,
        **({"board_only": True} if is_board_only(dict(result)) else {}),
    }


def names_of(request: Mapping[str, Any], result: Any = None, job_id: str | None = None) -> str:
    """Under which names a task is found: its workspaces, as they are called outside, and its job; a line each.

    The request has workspaces by their names. A Result names its job, a batch its members.
    """
    found = [folded(name) for name in _names(request, result, job_id)]
    return "\n".join(dict.fromkeys([*found, *map(metric_name, _texts(request.get("metrics") or []))]))


def sort_name(request: Mapping[str, Any]) -> str | None:
    """The name that a list shows of a task, as it is sorted: of its workspace, or what stands for it."""
    workspaces = request.get("workspaces")
    several = ", ".join(_texts(workspaces)) if isinstance(workspaces, list) else ""
    shown = next(_texts([request.get("workspace"), request.get("question"), several]), None)
    return None if shown is None else folded(shown)[:_LONGEST_SORTED]


def sorted_by(outcome: Mapping[str, Any] | None) -> Json:
    """What a list is sorted by and filtered of an outcome of ``outcome_of``: columns of the table ``tasks``."""
    told = _mapping(outcome)
    score, passed = _number(told.get("score")), told.get("pass")
    return {
        "score": None if score is None else float(score),
        "passed": int(passed) if isinstance(passed, bool) else None,
        "board_only": 1 if told.get("board_only") is True else None,
    }


def folded(text: str) -> str:
    """A name as names are compared: whatever the case, in one line."""
    return " ".join(text[:_LONGEST_NAME].casefold().replace("\0", " ").splitlines())  # PostgreSQL has no NUL


def metric_name(metric: str) -> str:
    """What stands among a job's names for a metric; no name of a person's has that mark, which ends a line."""
    return f"\x1e{metric}\x1e"


def _names(request: Mapping[str, Any], result: Any, job_id: str | None) -> Iterator[str]:
    left = _mapping(result)
    workspaces, outcomes = request.get("workspaces"), left.get("outcomes")
    yield from _texts([request.get("workspace"), job_id, left.get("job_id")])
    # Of a job that scores one answer.
    yield from _texts([request.get("question"), request.get("answer")])
    yield from _texts(workspaces if isinstance(workspaces, list) else [])
    for outcome in outcomes if isinstance(outcomes, list) else []:
        for name in _texts([_mapping(outcome).get("workspace")]):
            # One that lies elsewhere is called by its last part: a list must not tell of the host's paths.
            yield PurePath(name).name if name.startswith("/") else name


def _texts(values: list[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str) and value)


def _interval(value: Any) -> Json | None:
    found = {key: _number(_mapping(value).get(key)) for key in ("low", "high", "level")}
    return None if None in found.values() else found


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
