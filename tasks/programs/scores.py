"""What a scoring program wrote: scores.json or scores.txt, read strictly."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from pydantic import RootModel

from ...core.errors import AutoScorerError, ErrorCode
from ...core.strict_json import parse_model, read_text
from ...core.text import escape

__all__ = ["finite", "parse_json_scores", "parse_text_scores", "read_scores"]

_JSON, _TEXT = "scores.json", "scores.txt"


class _Scores(RootModel[dict[str, Any]]):
    """A JSON object; which of its values must be numbers is for the columns to say."""


def read_scores(output: Path) -> dict[str, Any]:
    """The scores by their names: of scores.json, or of scores.txt where that is not there.

    Args:
        output: The program's output folder.

    Raises:
        AutoScorerError: ``SCORER_ERROR``: neither is there, or the one that counts can't be read.
    """
    name = _TEXT if os.path.lexists(output / _TEXT) and not os.path.lexists(output / _JSON) else _JSON
    missing = f"The scoring program wrote neither {_JSON} nor {_TEXT} to its output folder."
    text = read_text(output / name, code=ErrorCode.SCORER_ERROR, missing=missing)
    return parse_json_scores(text) if name == _JSON else parse_text_scores(text)


def parse_json_scores(text: str) -> dict[str, Any]:
    """The content of a scores.json: one object, in which no name stands twice, without NaN and Infinity.

    Raises:
        AutoScorerError: ``SCORER_ERROR``.
    """
    return parse_model(text, _Scores, file=_JSON, code=ErrorCode.SCORER_ERROR, known={}).root


def parse_text_scores(text: str) -> dict[str, Any]:
    """The content of a scores.txt: a line for each score, ``name: number``. Empty lines and comments do not count.

    A value that is no number stays text, for whoever needs it to refuse.

    Raises:
        AutoScorerError: ``SCORER_ERROR``.
    """
    found: dict[str, Any] = {}
    for number, line in enumerate(text.split("\n"), 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if (not name and not colon) or name.startswith("#"):
            continue
        if not name or not colon:
            raise _unreadable(f"line {number} is not 'name: number'")
        if name in found:
            raise _unreadable(f"line {number} gives {_shown(name)} again")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found


def finite(name: str, value: Any) -> float:
    """A score as a number.

    Raises:
        AutoScorerError: ``SCORER_ERROR``: it is text, true, NaN or without an end.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
        kind = "a number that is not finite"
    else:
        kind = type(value).__name__
    raise AutoScorerError(
        ErrorCode.SCORER_ERROR,
        f"The scoring program gave {kind} as {_shown(name)}; expected a finite number.",
        details={"score": name[:100]},
    )


def _unreadable(why: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.SCORER_ERROR, f"{_TEXT} of the scoring program can't be read: {why}.")


def _shown(name: str) -> str:
    return escape(repr(name[:60]))
