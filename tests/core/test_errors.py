"""The catalogue is DESIGN.md's, an error survives a process border, and no library's exception gets past the map."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import socket
import ssl
import types
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import docker.errors
import docker.tls
import pytest
import requests
import requests.exceptions
import urllib3.exceptions
from autoscorer.core.errors import (
    CATALOGUE,
    AutoScorerError,
    ErrorCode,
    Fault,
    InvalidWorkspace,
    Stage,
    suggest,
)
from autoscorer.executors.docker.engine import engine_errors

# DESIGN.md, section 4: code, stage, HTTP status, whose fault. MISSING_FILE stands there under two stages.
DESIGN = {
    "WORKSPACE_NOT_FOUND": ("validation", 404, "usage"),
    "INVALID_META": ("validation", 422, "submission"),
    "SCORER_NOT_FOUND": ("validation", 404, "submission"),
    "MISSING_FILE": ("validation", 422, "submission"),
    "IMAGE_NOT_ALLOWED": ("validation", 403, "submission"),
    "GROUND_TRUTH_EXPOSED": ("validation", 422, "submission"),
    "IMAGE_NOT_FOUND": ("execution", 422, "submission"),
    "IMAGE_PULL_FAILED": ("execution", 502, "system"),
    "IMAGE_BUILD_FAILED": ("execution", 422, "submission"),
    "CONTAINER_FAILED": ("execution", 422, "submission"),
    "TIMEOUT_ERROR": ("execution", 422, "submission"),
    "RESOURCE_ERROR": ("execution", 422, "submission"),
    "OUTPUT_REJECTED": ("execution", 422, "submission"),
    "BACKEND_UNAVAILABLE": ("execution", 503, "system"),
    "STORAGE_FULL": ("execution", 503, "system"),
    "CANCELLED": ("execution", 409, "submission"),
    "BAD_FORMAT": ("scoring", 422, "submission"),
    "PARSE_ERROR": ("scoring", 422, "submission"),
    "MISMATCH": ("scoring", 422, "submission"),
    "BAD_PARAMS": ("scoring", 422, "submission"),
    "SCORER_ERROR": ("scoring", 500, "system"),
    "SCORER_LOAD_ERROR": ("scoring", 500, "system"),
    "JUDGE_ERROR": ("scoring", 502, "system"),
    "BUDGET_EXCEEDED": ("scoring", 429, "usage"),
    "UNAUTHORIZED": ("api", 401, "usage"),
    "FORBIDDEN": ("api", 403, "usage"),
    "NOT_FOUND": ("api", 404, "usage"),
    "INVALID_REQUEST": ("api", 422, "usage"),
    "CONFLICT": ("api", 409, "usage"),
    "PAYLOAD_TOO_LARGE": ("api", 413, "usage"),
    "RATE_LIMITED": ("api", 429, "usage"),
    "PHASE_CLOSED": ("api", 403, "usage"),
    "QUOTA_EXCEEDED": ("api", 429, "usage"),
    "BENCHMARK_NOT_FOUND": ("validation", 404, "usage"),
    "INVALID_BENCHMARK": ("validation", 422, "usage"),
    "INTERNAL_ERROR": ("api", 500, "system"),
}


def test_the_codes_are_exactly_the_designs() -> None:
    assert {code.value for code in ErrorCode} == set(DESIGN)
    assert set(CATALOGUE) == set(ErrorCode)


@pytest.mark.parametrize("code", sorted(DESIGN))
def test_each_code_has_its_stage_status_and_fault(code: str) -> None:
    spec = CATALOGUE[ErrorCode(code)]
    assert (spec.stage.value, spec.http_status, spec.fault.value) == DESIGN[code]
    assert spec.meaning


def test_exit_codes_follow_whose_fault_it_is() -> None:
    assert {fault.value: fault.exit_code for fault in Fault} == {"submission": 1, "usage": 2, "system": 3}


@pytest.mark.parametrize("code", list(ErrorCode), ids=str)
def test_an_error_is_the_same_after_pickling_and_copying(code: ErrorCode) -> None:
    error = AutoScorerError(code, "Expected a, got ü.", stage=Stage.CONFIG, details={"n": 3, "names": ["a", None]})
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is AutoScorerError
        assert again.to_dict() == error.to_dict()
        assert str(again) == str(error) == f"{code.value}: Expected a, got ü."
        assert again.exit_code == error.exit_code


def _fail() -> None:
    raise InvalidWorkspace.of(
        [AutoScorerError("INVALID_META", "one"), AutoScorerError("MISSING_FILE", "two", stage="scoring")]
    )


def test_an_error_crosses_a_real_process_border_whole() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool,
        pytest.raises(InvalidWorkspace) as caught,
    ):
        pool.submit(_fail).result()
    assert [p["stage"] for p in caught.value.details["problems"]] == ["validation", "scoring"]


def test_one_problem_stays_itself_and_several_come_together() -> None:
    one = AutoScorerError(ErrorCode.MISSING_FILE, "no gt", stage=Stage.SCORING, details={"a": 1})
    two = AutoScorerError(ErrorCode.INVALID_META, "no scorer")
    assert InvalidWorkspace.of(iter([one])) is one
    both = InvalidWorkspace.of(iter([one, two]))
    assert isinstance(both, InvalidWorkspace)
    assert both.code is ErrorCode.MISSING_FILE and both.stage is Stage.SCORING
    assert both.details["problems"] == [one.to_dict(), two.to_dict()]
    assert "no gt" in both.message and "no scorer" in both.message
    assert json.loads(json.dumps(both.to_dict())) == both.to_dict()


def test_a_code_outside_the_catalogue_is_a_bug_and_says_so() -> None:
    with pytest.raises(ValueError, match="NO_SUCH_CODE"):
        AutoScorerError("NO_SUCH_CODE", "…")


def test_details_are_a_copy() -> None:
    details = {"a": 1}
    error = AutoScorerError(ErrorCode.INVALID_META, "…", details=details)
    details["a"] = 2
    assert error.details == {"a": 1}


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("timout", ["timeout", "params"], "; did you mean 'timeout'?"),
        ("zzz", ["timeout"], ""),
        ("", ["timeout"], ""),
        ("x" * 1_000_000, ["timeout"], ""),
    ],
    ids=["near", "far", "empty", "huge"],
)
def test_suggest_names_the_nearest_or_nothing(name: str, known: list[str], hint: str) -> None:
    assert suggest(name, known) == hint


def _exception_classes(*modules: types.ModuleType) -> list[type[Exception]]:
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and not issubclass(value, Warning)
        and value.__module__.split(".")[0] in ("docker", "requests", "urllib3")
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


def _instance(cls: type[Exception]) -> Exception:
    """An instance, with as many plain arguments as the class asks for; else one that was never initialised."""
    response = types.SimpleNamespace(tell=lambda: 0, length_remaining=0)
    forms = ([value] * count for count in range(1, 5) for value in ("broken", 3, b"broken", [], response))
    for arguments in ([], *forms):
        try:
            error = cls(*arguments)
            str(error)
        except Exception:  # the next form may do
            continue
        return error
    return cls.__new__(cls)


# What these libraries define, and what comes from below them.
LIBRARIES = _exception_classes(docker.errors, docker.tls, requests.exceptions, urllib3.exceptions)
BELOW: list[type[Exception]] = [
    ConnectionRefusedError,
    ConnectionResetError,
    BrokenPipeError,
    FileNotFoundError,
    PermissionError,
    TimeoutError,
    socket.gaierror,
    ssl.SSLError,
    OSError,
]


def test_the_walk_finds_the_libraries_exceptions() -> None:
    names = {cls.__name__ for cls in LIBRARIES}
    assert {"APIError", "BuildError", "TLSParameterError", "ReadTimeout", "NewConnectionError"} <= names


@pytest.mark.parametrize(
    "cls",
    [
        pytest.param(
            cls,
            id=f"{cls.__module__}.{cls.__name__}",
        )
        for cls in (*LIBRARIES, *BELOW)
    ],
)
def test_no_exception_of_a_library_gets_past_the_map(cls: type[Exception]) -> None:
    with pytest.raises(AutoScorerError) as caught, engine_errors("do a thing"):
        raise _instance(cls)
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
    assert caught.value.message.startswith("Could not do a thing: ")
    assert "\n" not in caught.value.message
    assert isinstance(caught.value.__cause__, cls)


def test_our_own_errors_and_programming_errors_pass_the_map_unchanged() -> None:
    ours = AutoScorerError(ErrorCode.IMAGE_NOT_FOUND, "gone")
    with pytest.raises(AutoScorerError) as caught, engine_errors("do a thing"):
        raise ours
    assert caught.value is ours
    with pytest.raises(ZeroDivisionError), engine_errors("do a thing"):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), engine_errors("do a thing"):
        raise KeyboardInterrupt


def test_what_an_engine_says_at_length_is_cut_to_one_line() -> None:
    with pytest.raises(AutoScorerError) as caught, engine_errors("pull"):
        raise docker.errors.APIError("no", explanation=b"line one\nline \xff two\n" * 1000)
    assert len(caught.value.message) < 500
    assert "line one line" in caught.value.message
