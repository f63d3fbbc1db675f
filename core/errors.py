"""Every error AutoScorer can answer with: one catalogue, one exception.

``AutoScorerError`` is the only exception that reaches a user. Its code comes from ``CATALOGUE``, which
says at which stage the code belongs, which HTTP status answers it, and whose fault it is: the
submission's (exit code 1), the caller's (2) or ours (3). Whatever a library raises is mapped to one of
these at the module that talks to that library.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import PurePath
from typing import Any, NamedTuple, Self

from .bounds import bounded, shortened

__all__ = [
    "CATALOGUE",
    "AutoScorerError",
    "ErrorCode",
    "ErrorSpec",
    "Fault",
    "InvalidWorkspace",
    "Stage",
    "internal_error",
    "suggest",
]


class Stage(StrEnum):
    """Where in the life of a job an error arose."""

    VALIDATION = "validation"
    EXECUTION = "execution"
    SCORING = "scoring"
    API = "api"
    CONFIG = "config"


class Fault(StrEnum):
    """Whose fault an error is; it decides the exit code and whether a retry makes sense."""

    SUBMISSION = "submission"
    USAGE = "usage"
    SYSTEM = "system"

    @property
    def exit_code(self) -> int:
        return {"submission": 1, "usage": 2, "system": 3}[self.value]


class ErrorCode(StrEnum):
    """The codes of the catalogue."""

    WORKSPACE_NOT_FOUND = "WORKSPACE_NOT_FOUND"
    INVALID_META = "INVALID_META"
    BENCHMARK_NOT_FOUND = "BENCHMARK_NOT_FOUND"
    INVALID_BENCHMARK = "INVALID_BENCHMARK"
    SCORER_NOT_FOUND = "SCORER_NOT_FOUND"
    MISSING_FILE = "MISSING_FILE"
    IMAGE_NOT_ALLOWED = "IMAGE_NOT_ALLOWED"
    GROUND_TRUTH_EXPOSED = "GROUND_TRUTH_EXPOSED"
    IMAGE_NOT_FOUND = "IMAGE_NOT_FOUND"
    IMAGE_PULL_FAILED = "IMAGE_PULL_FAILED"
    IMAGE_BUILD_FAILED = "IMAGE_BUILD_FAILED"
    CONTAINER_FAILED = "CONTAINER_FAILED"
    TIMEOUT_ERROR = "TIMEOUT_ERROR"
    RESOURCE_ERROR = "RESOURCE_ERROR"
    OUTPUT_REJECTED = "OUTPUT_REJECTED"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    STORAGE_FULL = "STORAGE_FULL"
    CANCELLED = "CANCELLED"
    BAD_FORMAT = "BAD_FORMAT"
    PARSE_ERROR = "PARSE_ERROR"
    MISMATCH = "MISMATCH"
    BAD_PARAMS = "BAD_PARAMS"
    SCORER_ERROR = "SCORER_ERROR"
    SCORER_LOAD_ERROR = "SCORER_LOAD_ERROR"
    JUDGE_ERROR = "JUDGE_ERROR"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    INVALID_REQUEST = "INVALID_REQUEST"
    CONFLICT = "CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    PHASE_CLOSED = "PHASE_CLOSED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class ErrorSpec(NamedTuple):
    """What the catalogue says of a code."""

    stage: Stage
    http_status: int
    fault: Fault
    meaning: str
    more: str = ""  # what the documentation adds to the meaning


_V, _E, _S, _A = Stage.VALIDATION, Stage.EXECUTION, Stage.SCORING, Stage.API
_SUB, _USE, _SYS = Fault.SUBMISSION, Fault.USAGE, Fault.SYSTEM

CATALOGUE: Mapping[ErrorCode, ErrorSpec] = {
    ErrorCode.WORKSPACE_NOT_FOUND: ErrorSpec(_V, 404, _USE, "the workspace folder does not exist"),
    ErrorCode.INVALID_META: ErrorSpec(_V, 422, _SUB, "meta.json is missing, malformed or asks for too much"),
    ErrorCode.BENCHMARK_NOT_FOUND: ErrorSpec(_V, 404, _USE, "there is no benchmark of that name"),
    ErrorCode.INVALID_BENCHMARK: ErrorSpec(
        _V,
        422,
        _USE,
        "benchmark.json is missing or malformed",
        "the organiser's to repair, never the submission's fault",
    ),
    ErrorCode.SCORER_NOT_FOUND: ErrorSpec(_V, 404, _SUB, "no scorer of that id is registered"),
    ErrorCode.MISSING_FILE: ErrorSpec(_V, 422, _SUB, "a file that must be there is not"),
    ErrorCode.IMAGE_NOT_ALLOWED: ErrorSpec(_V, 403, _SUB, "the operator does not allow this image"),
    ErrorCode.GROUND_TRUTH_EXPOSED: ErrorSpec(_V, 422, _SUB, "the model could read the ground truth"),
    ErrorCode.IMAGE_NOT_FOUND: ErrorSpec(_E, 422, _SUB, "the image exists nowhere it may come from"),
    ErrorCode.IMAGE_PULL_FAILED: ErrorSpec(_E, 502, _SYS, "the registry could not deliver the image"),
    ErrorCode.IMAGE_BUILD_FAILED: ErrorSpec(_E, 422, _SUB, "the workspace's Dockerfile does not build"),
    ErrorCode.CONTAINER_FAILED: ErrorSpec(
        _E, 422, _SUB, "the model exited with an error", "exit code and last log lines are in `details`"
    ),
    ErrorCode.TIMEOUT_ERROR: ErrorSpec(_E, 422, _SUB, "the model ran past its deadline and was killed"),
    ErrorCode.RESOURCE_ERROR: ErrorSpec(
        _E,
        422,
        _SUB,
        "the model, or scoring its output, took more than allowed",
        "`details.resource` says memory, disk, files or processes; the stage is `scoring` where scoring took it",
    ),
    ErrorCode.OUTPUT_REJECTED: ErrorSpec(_E, 422, _SUB, "the output holds something that is not a plain file"),
    ErrorCode.BACKEND_UNAVAILABLE: ErrorSpec(_E, 503, _SYS, "nothing here can run a container"),
    ErrorCode.STORAGE_FULL: ErrorSpec(
        _E, 503, _SYS, "the disk of the home or of the workspaces has no room", "`details.disk` says which"
    ),
    ErrorCode.CANCELLED: ErrorSpec(_E, 409, _SUB, "the run was cancelled"),
    ErrorCode.BAD_FORMAT: ErrorSpec(_S, 422, _SUB, "a file's content breaks its format"),
    ErrorCode.PARSE_ERROR: ErrorSpec(_S, 422, _SUB, "a value can't be read as what it must be"),
    ErrorCode.MISMATCH: ErrorSpec(_S, 422, _SUB, "ground truth and predictions do not cover the same ids"),
    ErrorCode.BAD_PARAMS: ErrorSpec(_S, 422, _SUB, "a scorer parameter is unknown or out of range"),
    ErrorCode.SCORER_ERROR: ErrorSpec(_S, 500, _SYS, "the scorer itself failed"),
    ErrorCode.SCORER_LOAD_ERROR: ErrorSpec(_S, 500, _SYS, "the scorer's file does not load"),
    ErrorCode.JUDGE_ERROR: ErrorSpec(_S, 502, _SYS, "the judge model could not be asked"),
    ErrorCode.BUDGET_EXCEEDED: ErrorSpec(
        _S, 429, _USE, "a budget for the judge is used up", "`details` says which, what was spent and the limit"
    ),
    ErrorCode.UNAUTHORIZED: ErrorSpec(_A, 401, _USE, "no valid token was given"),
    ErrorCode.FORBIDDEN: ErrorSpec(_A, 403, _USE, "the token may not do this"),
    ErrorCode.NOT_FOUND: ErrorSpec(_A, 404, _USE, "there is no such thing"),
    ErrorCode.INVALID_REQUEST: ErrorSpec(
        _A, 422, _USE, "the request or command line is malformed", "also the configuration"
    ),
    ErrorCode.CONFLICT: ErrorSpec(_A, 409, _USE, "another run holds this workspace"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorSpec(_A, 413, _USE, "the request is larger than allowed"),
    ErrorCode.RATE_LIMITED: ErrorSpec(_A, 429, _USE, "too many requests"),
    ErrorCode.PHASE_CLOSED: ErrorSpec(_A, 403, _USE, "the benchmark takes no submissions at this time"),
    ErrorCode.QUOTA_EXCEEDED: ErrorSpec(
        _A, 429, _USE, "the team has no submissions left", "`details` says which limit, and when the next one is taken"
    ),
    ErrorCode.INTERNAL_ERROR: ErrorSpec(_A, 500, _SYS, "a fault of AutoScorer itself"),
}


class AutoScorerError(Exception):
    """An error a user can act on.

    Args:
        code: A code of the catalogue.
        message: One or two sentences: what was expected, what came, what to do. Cut to 2,000 characters.
        stage: Where it arose; the catalogue's stage for this code when not given.
        details: JSON-able facts (counts, names, the offending line). Cut to about 64 Ki characters.
    """

    def __init__(
        self,
        code: ErrorCode | str,
        message: str,
        *,
        stage: Stage | str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        # Here and nowhere else, because every error comes by: a scorer's exception may be of any length.
        message = shortened(message)
        super().__init__(code, message)
        self.code = ErrorCode(code)
        self.message = message
        self.stage = Stage(stage) if stage is not None else CATALOGUE[self.code].stage
        self.details: dict[str, Any] = bounded(details or {})

    @property
    def spec(self) -> ErrorSpec:
        return CATALOGUE[self.code]

    @property
    def exit_code(self) -> int:
        return self.spec.fault.exit_code

    def to_dict(self) -> dict[str, Any]:
        """The ``error`` object of the Result and of every envelope."""
        return {
            "code": self.code.value,
            "message": self.message,
            "stage": self.stage.value,
            "details": self.details,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The error again, from what ``to_dict`` gave and a Result or an envelope holds."""
        return cls(data["code"], data["message"], stage=data["stage"], details=data["details"])

    def __str__(self) -> str:
        return f"{self.code.value}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (Prefect, process pools); the default would lose the keywords.
        return (_rebuild, (type(self), self.code.value, self.message, self.stage.value, self.details))


class InvalidWorkspace(AutoScorerError):
    """Several problems at once: the first gives the code, ``details["problems"]`` holds all of them."""

    @classmethod
    def of(cls, problems: Iterable[AutoScorerError]) -> AutoScorerError:
        found = list(problems)
        if len(found) == 1:
            return found[0]
        first = found[0]
        return cls(
            first.code,
            f"{len(found)} problems. " + " | ".join(f"{p.code.value}: {p.message}" for p in found),
            stage=first.stage,
            details={"problems": [p.to_dict() for p in found]},
        )


def _rebuild(kind: type[AutoScorerError], code: str, message: str, stage: str, details: dict[str, Any]) -> Any:
    return kind(code, message, stage=stage, details=details)


def internal_error(error: Exception) -> AutoScorerError:
    """Our own fault, told in one line: what was raised and where; never a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown place"
    return AutoScorerError(
        ErrorCode.INTERNAL_ERROR,
        f"A fault of AutoScorer itself ({type(error).__name__} in {where}): {error}. Please report it; with "
        "PYTHONDEVMODE=1 the command shows where it comes from.",
        details={"exception": type(error).__name__, "where": where},
    )


def suggest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
