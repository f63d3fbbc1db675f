"""Reading a JSON file that people write: strict JSON in, a model or every problem at once out."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..schemas.json_values import Why, unfit
from .errors import AutoScorerError, ErrorCode, InvalidWorkspace, Stage, suggest
from .text import escape
from .workspace import open_regular

__all__ = ["MAX_DEPTH", "parse_model", "read_text"]

M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 1024 * 1024
# Deeper than this nobody nests, and pydantic can't write much deeper ones back.
MAX_DEPTH = 64
# How many problems are told one by one.
MAX_PROBLEMS = 50


def read_text(path: Path, *, code: ErrorCode, missing: str) -> str:
    """The text of a small file, without its byte-order mark.

    Args:
        path: The file.
        code: Of the errors.
        missing: What is said where it is not there.

    Raises:
        AutoScorerError: It is missing, no plain file, too long or not UTF-8.
    """
    name = path.name
    try:
        # A link could show another file's keys in an error, a FIFO would hang.
        with open_regular(path, stage=Stage.VALIDATION) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise AutoScorerError(code, f"{name} is {size:,} bytes long; at most {MAX_BYTES:,} are read.")
        return data.decode("utf-8-sig")
    except AutoScorerError as error:
        if error.code is ErrorCode.MISSING_FILE:
            raise AutoScorerError(code, missing) from None
        raise AutoScorerError(code, error.message) from None
    except UnicodeDecodeError as error:
        raise AutoScorerError(code, f"{name} is not UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise AutoScorerError(code, f"{name} can't be read: {error.strerror}.") from None


def parse_model(
    text: str,
    model: type[M],
    *,
    file: str,
    code: ErrorCode,
    known: Mapping[str, tuple[str, ...]],
    fold: Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, str]]] | None = None,
) -> M:
    """Parse and check the text of a file.

    Args:
        text: Its content.
        model: What it must be.
        file: Its name, for messages.
        code: Of the errors.
        known: What an unknown key is compared with, by the path of the object that holds it.
        fold: Writes an object in today's names; gives it, and for each key that contradicts another what is wrong.

    Raises:
        AutoScorerError: Several problems come as one ``InvalidWorkspace``.
    """

    def invalid(message: str, **details: Any) -> AutoScorerError:
        return AutoScorerError(code, message, details=details)

    try:
        data = json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_float=_finite_number
        )
        found = {problem.why for problem in unfit(data, levels=MAX_DEPTH)}
    except RecursionError:
        found = {Why.TOO_DEEP}
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise invalid(f"{file} is not valid JSON: {error.msg} at {where}.") from None
    except ValueError as error:
        raise invalid(f"{file}: {_short(str(error))}.") from None
    if Why.TOO_DEEP in found:
        raise invalid(f"{file} is nested too deeply; at most {MAX_DEPTH} levels are read.")
    if Why.SURROGATE in found:
        raise invalid(f"{file} holds an escape such as \\ud800 that stands for no character.")
    if not isinstance(data, dict):
        raise invalid(f"{file}: expected an object, got {type(data).__name__}.")
    problems: list[AutoScorerError] = []
    if fold is not None:
        data, conflicts = fold(data)
        problems = [invalid(_short(message), key=key) for key, message in conflicts.items()]
    try:
        made = model.model_validate(data)
    except ValidationError as error:
        items = error.errors(include_url=False)
        for item in items[:MAX_PROBLEMS]:
            message, key = _explained(item, file, known)
            problems.append(invalid(message, **({} if key is None else {"key": key})))
        if len(items) > MAX_PROBLEMS:
            problems.append(invalid(f"{file}: {len(items) - MAX_PROBLEMS} more problems."))
    if problems:
        raise InvalidWorkspace.of(problems)
    return made


def _explained(item: Any, file: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, str | None]:
    """What is wrong with a file, and with which key of it; None where it is not a key."""
    location = [str(part) for part in item["loc"] if part != "[key]"]
    path = _short(".".join(location))
    if item["type"] == "extra_forbidden":
        near = known.get(".".join(part for part in location[:-1] if not part.isdigit()), ())
        return f"{path}: unknown key{suggest(location[-1], near)}", path
    message = _short(str(item["msg"]).removeprefix("Value error, "))
    value = item["input"]
    if path and not isinstance(value, dict) and "got " not in message:
        message += f", got {_short(repr(value))}"
    return (f"{path}: {message}", path) if path else (f"{file}: {message}", None)


def _short(text: str) -> str:
    """A stranger's text as part of a message: cut, and with control characters escaped."""
    return escape(text if len(text) <= 200 else text[:200] + "…")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} appears twice in one object")
        found[key] = value
    return found


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number
