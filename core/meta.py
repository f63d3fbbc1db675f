"""Reading meta.json: strict JSON in, a ``Job`` or every problem at once out."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from ..schemas.job import KNOWN_KEYS, Job
from .errors import AutoScorerError, ErrorCode, InvalidWorkspace, suggest
from .workspace import Workspace

__all__ = ["load_job", "model_meta", "parse_job"]

MAX_META = 1024 * 1024


def load_job(workspace: Workspace) -> Job:
    """Read and check the workspace's meta.json.

    Returns:
        The job; ``job_id`` is the folder's name where meta.json gives none.

    Raises:
        AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
    """
    try:
        size = workspace.meta.stat().st_size
        if size > MAX_META:
            raise _invalid(f"meta.json is {size:,} bytes long; at most {MAX_META:,} are read.")
        text = workspace.meta.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise _invalid("meta.json is missing. Write one, or start from `autoscorer init`.") from None
    except UnicodeDecodeError as error:
        raise _invalid(f"meta.json is not UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise _invalid(f"meta.json can't be read: {error.strerror}.") from None
    job = parse_job(text)
    return job if job.job_id else job.model_copy(update={"job_id": workspace.name})


def parse_job(text: str) -> Job:
    """Parse and check the text of a meta.json.

    Raises:
        AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
    """
    try:
        data = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except RecursionError:
        raise _invalid("meta.json is nested too deeply.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"meta.json is not valid JSON: {error.msg} at {where}.") from None
    except ValueError as error:
        raise _invalid(f"meta.json: {error}.") from None
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        raise InvalidWorkspace.of(_explain(item) for item in error.errors(include_url=False)) from None


def model_meta(job: Job) -> dict[str, Any]:
    """meta.json as the model may see it: without the scorer's params, which may tell what is scored and how."""
    return job.model_dump(mode="json", exclude={"params", "scorer"}, exclude_none=True)


def _explain(item: Any) -> AutoScorerError:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = KNOWN_KEYS.get(".".join(location[:-1]), ())
        return _invalid(f"{path}: unknown key{suggest(location[-1], known)}", key=path)
    message = str(item["msg"]).removeprefix("Value error, ")
    value = item["input"]
    if path and not isinstance(value, dict) and repr(value) not in message:
        message += f", got {value!r}"
    return _invalid(f"{path}: {message}" if path else f"meta.json: {message}", **({"key": path} if path else {}))


def _invalid(message: str, **details: Any) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_META, message, details=details)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
