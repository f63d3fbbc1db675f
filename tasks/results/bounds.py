"""How large a Result may be: a scorer's own notes and metrics are stored, sent and listed."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.bounds import shortened
from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.result import Result

__all__ = ["MAX_METRICS", "MAX_NOTES", "MAX_RESULT", "bound_result"]

# Of a Result: metrics, intervals and artifacts, each; notes; bytes of its JSON.
MAX_METRICS = 10_000
MAX_NOTES = 200
MAX_RESULT = 4 * 1024**2
_MAX_NAME = 200


def bound_result(result: Result, scorer_id: str) -> None:
    """Cut notes that are too long or too many; refuse a Result that is too large otherwise.

    Args:
        result: As the scorer returned it; its notes are changed.
        scorer_id: For the message.

    Raises:
        AutoScorerError: ``SCORER_ERROR``.
    """
    notes = [shortened(note) for note in result.notes[:MAX_NOTES]]
    if len(result.notes) > MAX_NOTES:
        notes.append(f"{len(result.notes) - MAX_NOTES} more notes were left out.")
    if notes != result.notes:
        result.notes = notes
    named: dict[str, Mapping[str, object]] = {
        "metrics": result.metrics,
        "intervals": result.intervals,
        "artifacts": result.artifacts,
    }
    for what, items in named.items():
        if len(items) > MAX_METRICS:
            raise _too_large(scorer_id, f"{len(items)} {what}; {MAX_METRICS} are allowed")
        if any(len(name) > _MAX_NAME for name in items):
            raise _too_large(scorer_id, f"a name of more than {_MAX_NAME} characters in {what}")
    size = len(result.model_dump_json())
    if size > MAX_RESULT:
        raise _too_large(scorer_id, f"{size} bytes of JSON; {MAX_RESULT} are allowed. Write an artifact instead")


def _too_large(scorer_id: str, why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.SCORER_ERROR, f"The scorer {scorer_id} returned a Result with {why}.", details={"scorer": scorer_id}
    )
