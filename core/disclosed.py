"""What of a Result those may have who may not see the ground truth.

One function of plain values. ``service.disclosure``, which has the whole policy, answers requests with it; the report
of those people is made from it.
"""

from __future__ import annotations

import math
import sys
from decimal import ROUND_DOWN, Context
from typing import Any

from .workspace import SHARED

__all__ = ["WITHHELD_ERROR", "disclosed_result", "interval", "is_board_only", "rounded", "told_alike"]

Json = dict[str, Any]

# For a page that everybody may see, in the place of what an error says of its case.
WITHHELD_ERROR = "What is wrong is told with the task; this report leaves it out, as it may quote the ground truth."
_WITHHELD = (
    "This is what a token of the role submit is shown: numbers are rounded, and what may tell of single rows of the "
    "ground truth is left out, as the complete report and errors.csv. A token of the role admin sees all of it."
)
_BY_BOARD = (
    "The leaderboard of this benchmark alone tells teams of scores, and only of those that are better than before by "
    "more than its margin. A token of the role organiser or admin sees all of this Result."
)
_OF_A_SUMMARY = ("score", "pass", "rank", "higher_is_better")
_OF_A_RESULT = ("job_id", "task_type", "timing", "resources")


def disclosed_result(data: Json, digits: int) -> Json:
    """A Result but for its error, which is the caller's to judge.

    Args:
        data: The Result as JSON.
        digits: ``security.disclosure.digits``.

    Returns:
        JSON, its ``error`` being null. Artifacts are the shared ones, under the complete ones' paths, at which they are
        served.
    """
    summary, main = _summary(_dict(data.get("summary")), digits)
    declared = _dict(data.get("disclosed"))
    told = _WITHHELD
    if is_board_only(data):
        hidden: Json = dict.fromkeys(_OF_A_SUMMARY)
        summary, main, told = {**hidden, "higher_is_better": summary["higher_is_better"]}, None, _BY_BOARD
    metrics = {name: rounded(value, digits) for name, value in _dict(declared.get("metrics")).items()}
    if main is not None:
        metrics.setdefault(main, summary["score"])
    aliases = _dict(data.get("metric_aliases"))
    intervals = _dict(data.get("intervals"))
    shown: Json = {key: data[key] for key in _OF_A_RESULT if key in data}
    return shown | {
        "summary": summary,
        "metrics": metrics,
        "metric_aliases": {alias: name for alias, name in aliases.items() if name in metrics},
        "intervals": {name: interval(_dict(each), digits) for name, each in intervals.items() if name in metrics},
        "artifacts": _artifacts(_dict(declared.get("artifacts"))),
        # The hash of a ground truth with few rows, or few unknown ones, can be tried out.
        "versioning": _versioning(_dict(data.get("versioning"))),
        "notes": [*_list(declared.get("notes")), told],
        "error": None,
    }


def is_board_only(data: Json) -> bool:
    """Whether teams are told of a Result's scores by their benchmark's leaderboard alone."""
    return _dict(_dict(data.get("versioning")).get("benchmark")).get("board_only") is True


def rounded(value: Any, digits: int) -> float | None:
    """A score or metric with so many significant digits; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    told = float(f"{value:.{digits}g}")
    if math.isinf(told) and math.isfinite(value):
        # Of the greatest numbers there are, rounding up would make an infinite one, which no answer can hold.
        return float(Context(prec=digits, rounding=ROUND_DOWN).create_decimal_from_float(value))
    return told


def told_alike(value: float, digits: int) -> tuple[float, float]:
    """The least and the greatest number that ``rounded`` makes the same of as of this one."""
    told = rounded(value, digits)
    if told is None or told == 0.0:
        return 0.0, 0.0
    if told < 0:
        least, greatest = told_alike(-told, digits)
        return -greatest, -least
    # What is half as large is told as less, and what is twice as large as more.
    least, greatest = told, told
    for outside in (told / 2, min(told * 2, sys.float_info.max)):
        # Of the greatest numbers all that are greater are told alike.
        edge = outside if rounded(outside, digits) == told else told
        while (middle := outside + (edge - outside) / 2) not in (outside, edge):
            if rounded(middle, digits) == told:
                edge = middle
            else:
                outside = middle
        least, greatest = min(least, edge), max(greatest, edge)
    return least, greatest


def interval(data: Json, digits: int) -> Json:
    """An interval, its ends rounded."""
    ends: Json = {end: rounded(data.get(end), digits) for end in ("low", "high")}
    return ends | {key: data[key] for key in ("level", "method", "n_resamples") if key in data}


def _versioning(versioning: Json) -> Json:
    shown = {**versioning, "ground_truth_sha256": None}
    if isinstance(versioning.get("benchmark"), dict):
        shown["benchmark"] = {**versioning["benchmark"], "digest": None}
    return shown


def _summary(summary: Json, digits: int) -> tuple[Json, str | None]:
    score = rounded(summary.get("score"), digits)
    # The main metric stands there under its own name; a scorer may have put anything else beside it.
    names = [name for name, value in summary.items() if name not in _OF_A_SUMMARY and value == summary.get("score")]
    main = names[0] if names else None
    passed, rank = summary.get("pass"), summary.get("rank")
    shown: Json = {
        "score": score,
        "pass": passed if isinstance(passed, bool) else None,
        "rank": rank if isinstance(rank, str) and len(rank) == 1 else None,
        "higher_is_better": summary.get("higher_is_better") is not False,
    }
    return shown | ({main: score} if main is not None else {}), main


def _artifacts(artifacts: Json) -> Json:
    return {
        name: {**each, "path": str(each.get("path")).replace(f"/{SHARED}/", "/", 1)}
        for name, each in artifacts.items()
        if isinstance(each, dict)
    }


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
