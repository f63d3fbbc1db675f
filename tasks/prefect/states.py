"""The states in which task and flow runs end, and what is read from them again."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.result import Result
from ...scorers.report.html import number
from ..results.failures import ScoringFailed

__all__ = ["failed_state", "failure_of", "result_headline", "state_of_result", "valid_state"]

# Prefect shows the message in lists, too; the Result has all of it.
_MESSAGE = 2000


def failed_state(error: AutoScorerError, result: Result | None = None) -> State[Any]:
    """The final state of a task or flow run that ended in ``error``."""
    failure = error if isinstance(error, ScoringFailed) else ScoringFailed.of(error, result)
    message = str(failure)
    message = message if len(message) <= _MESSAGE else message[: _MESSAGE - 1] + "…"
    make = Cancelled if error.code is ErrorCode.CANCELLED else Failed
    return make(message=message, data=failure)


def valid_state(checked: dict[str, Any], seconds: float) -> State[Any]:
    """The final state of a task or flow run that found a workspace valid."""
    return Completed(
        message=f"Valid for {' and '.join(checked['valid_for'])}, with {checked['scorer']}.",
        data={**checked, "seconds": seconds},
    )


def state_of_result(result: Result) -> State[Any]:
    """The final state of a task or flow run that wrote ``result``."""
    if result.error is None:
        return Completed(message=result_headline(result), data=result.to_dict())
    return failed_state(AutoScorerError.from_dict(result.error.model_dump()), result)


def failure_of(state: State[Any]) -> ScoringFailed:
    """Why a task run did not complete. Prefect's own reasons (a timeout, a crash) become errors of the catalogue."""
    # Asked for its result, a state starts an event loop, even where the data lies there.
    data = state.data if isinstance(state.data, ScoringFailed) else state.result(raise_on_failure=False)
    if isinstance(data, ScoringFailed):
        return data
    code = ErrorCode.SCORER_ERROR if state.name == "TimedOut" else ErrorCode.INTERNAL_ERROR
    return ScoringFailed(code, f"The Prefect task ended in state {state.name}: {state.message or 'no message'}.")


def result_headline(result: Result) -> str:
    """A Result in one line."""
    if result.error is not None:
        return f"failed with {result.error.code}"
    summary = result.summary
    if summary.score is None:
        return "scored; the main metric is undefined"
    parts = [f"score {number(summary.score)}"]
    if summary.passed is not None:
        parts.append("pass" if summary.passed else "fail")
    if summary.rank:
        parts.append(f"rank {summary.rank}")
    return ", ".join(parts)
