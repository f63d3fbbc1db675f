"""Reading meta.json: strict JSON in, a ``Job`` or every problem at once out."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..schemas.job import KNOWN_KEYS, Job, fold_spellings
from ..schemas.json_values import Why, unfit
from .errors import AutoScorerError, ErrorCode, InvalidWorkspace, Stage, suggest
from .text import escape
from .workspace import Workspace, open_regular

__all__ = ["Meta", "load_job", "model_meta", "parse_job", "read_meta"]

MAX_META = 1024 * 1024
# Deeper than this no job nests, and pydantic can't write much deeper ones back.
MAX_DEPTH = 64
# How many problems are told one by one.
MAX_PROBLEMS = 50


@dataclass(frozen=True)
class Meta:
    """A workspace's meta.json as it was read: once, so that every step of a run goes by the same.

    Attributes:
        known: The job; None where meta.json is invalid.
        asked: What it says of the scorer, whatever else is wrong with it: only ``scorer``, ``params`` and ``data`` are
            to be looked at. None where they can't be told either.
        error: Why there is no job.
    """

    known: Job | None
    asked: Job | None
    error: AutoScorerError | None = None

    @property
    def job(self) -> Job:
        """The job.

        Raises:
            AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
        """
        if self.known is None:
            assert self.error is not None
            raise self.error
        return self.known

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able data, for another process."""
        # As text: the numbers of an invalid one may be such as strict JSON does not have.
        asked = json.dumps(self.asked.model_dump()) if self.asked is not None else None
        error = self.error.to_dict() if self.error is not None else None
        return {"valid": self.known is not None, "asked": asked, "error": error}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Meta:
        """The same again, from what ``to_dict`` gave."""
        asked = None
        if data["asked"] is not None:
            job = json.loads(data["asked"])
            # A folder's name may be one that nobody could give as an id.
            asked = Job.model_validate({**job, "job_id": None}).model_copy(update={"job_id": job["job_id"]})
        error = None
        if data["error"] is not None:
            kind = InvalidWorkspace if "problems" in data["error"]["details"] else AutoScorerError
            error = kind.from_dict(data["error"])
        return cls(asked if data["valid"] else None, asked, error)


def read_meta(workspace: Workspace) -> Meta:
    """Read and check the workspace's meta.json; what is wrong with it is in the answer."""
    try:
        text = _read_meta(workspace)
    except AutoScorerError as error:
        return Meta(None, None, error)
    try:
        job = parse_job(text)
    except AutoScorerError as error:
        return Meta(None, _asked_of_scorer(text), error)
    if not job.job_id:
        # A folder may be named by any bytes; a Result holds text.
        job = job.model_copy(update={"job_id": os.fsencode(workspace.name).decode("utf-8", "replace")})
    return Meta(job, job)


def load_job(workspace: Workspace) -> Job:
    """Read and check the workspace's meta.json.

    Returns:
        The job; ``job_id`` is the folder's name where meta.json gives none.

    Raises:
        AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
    """
    return read_meta(workspace).job


def _read_meta(workspace: Workspace) -> str:
    try:
        # A link could show another file's keys in an error, a FIFO would hang.
        with open_regular(workspace.meta, stage=Stage.VALIDATION) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_META + 1)
        if len(data) > MAX_META:
            raise _invalid(f"meta.json is {size:,} bytes long; at most {MAX_META:,} are read.")
        text = data.decode("utf-8-sig")
    except AutoScorerError as error:
        if error.code is ErrorCode.MISSING_FILE:
            raise _invalid("meta.json is missing. Write one, or start from `autoscorer init`.") from None
        raise _invalid(error.message) from None
    except UnicodeDecodeError as error:
        raise _invalid(f"meta.json is not UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise _invalid(f"meta.json can't be read: {error.strerror}.") from None
    return text


def _asked_of_scorer(text: str) -> Job | None:
    try:
        data, _ = fold_spellings(json.loads(text))
        if any(problem.why is Why.TOO_DEEP for problem in unfit(data, levels=MAX_DEPTH)):
            return None
        return Job.model_validate({key: data[key] for key in ("scorer", "params", "data") if key in data})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def parse_job(text: str) -> Job:
    """Parse and check the text of a meta.json.

    Raises:
        AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
    """
    try:
        data = json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_float=_finite_number
        )
        found = {problem.why for problem in unfit(data, levels=MAX_DEPTH)}
    except RecursionError:
        found = {Why.TOO_DEEP}
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"meta.json is not valid JSON: {error.msg} at {where}.") from None
    except ValueError as error:
        raise _invalid(f"meta.json: {_short(str(error))}.") from None
    if Why.TOO_DEEP in found:
        raise _invalid(f"meta.json is nested too deeply; at most {MAX_DEPTH} levels are read.")
    if Why.SURROGATE in found:
        raise _invalid("meta.json holds an escape such as \\ud800 that stands for no character.")
    problems: list[AutoScorerError] = []
    if isinstance(data, dict):
        data, conflicts = fold_spellings(data)
        problems = [_invalid(_short(message), key=key) for key, message in conflicts.items()]
    try:
        job = Job.model_validate(data)
    except ValidationError as error:
        items = error.errors(include_url=False)
        problems += [_explain(item) for item in items[:MAX_PROBLEMS]]
        if len(items) > MAX_PROBLEMS:
            problems.append(_invalid(f"meta.json: {len(items) - MAX_PROBLEMS} more problems."))
    if problems:
        raise InvalidWorkspace.of(problems)
    return job


def model_meta(job: Job) -> dict[str, Any]:
    """meta.json as the model may see it: without the scorer's params, which may tell what is scored and how."""
    return job.model_dump(mode="json", exclude={"params", "scorer"}, exclude_none=True)


def _explain(item: Any) -> AutoScorerError:
    location = [str(part) for part in item["loc"] if part != "[key]"]
    path = _short(".".join(location))
    if item["type"] == "extra_forbidden":
        known = KNOWN_KEYS.get(".".join(location[:-1]), ())
        return _invalid(f"{path}: unknown key{suggest(location[-1], known)}", key=path)
    message = _short(str(item["msg"]).removeprefix("Value error, "))
    value = item["input"]
    if path and not isinstance(value, dict) and "got " not in message:
        message += f", got {_short(repr(value))}"
    return _invalid(f"{path}: {message}" if path else f"meta.json: {message}", **({"key": path} if path else {}))


def _short(text: str) -> str:
    """A stranger's text as part of a message: cut, and with control characters escaped."""
    return escape(text if len(text) <= 200 else text[:200] + "…")


def _invalid(message: str, **details: Any) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_META, message, details=details)


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
