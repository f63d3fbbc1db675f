"""What a batch says of each of its workspaces, and of all of them together."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode, Fault
from ...core.flowruns import FlowRunFiles
from ...core.provenance import utc_now
from ...core.workspace import Workspace
from ...schemas.result import Result
from ...tasks.results.ensure import definitive_result

__all__ = [
    "Outcome",
    "batch_headline",
    "duplicate_outcome",
    "failed_outcome",
    "is_settled",
    "kept_outcomes",
    "outcome_of",
    "summarize",
    "summary_so_far",
]

# ``{workspace, state, score, metric, higher_is_better, interval, pass, rank, seconds, error}``, and for its record
# ``{job_id, scorer, benchmark, ended_at, result_sha256}``: the last two say when it ended, and of which result.json it
# tells. The keys are always there, and a duplicate has ``duplicate_of`` besides. ``workspace`` is an absolute path.
Outcome = dict[str, Any]

_NAMES = {"completed": "scored", "failed": "failed", "cancelled": "cancelled", "duplicates": "named twice"}


def outcome_of(workspace: Path | str, result: Result) -> Outcome:
    """The outcome that a Result stands for, completed or not.

    Args:
        workspace: The folder, as the batch names it.
        result: What its scoring, or its run, ended in.
    """
    seconds, record = _seconds(result), _record(result)
    if result.error is not None:
        error = AutoScorerError.from_dict(result.error.model_dump())
        return failed_outcome(workspace, error, seconds=seconds) | record
    summary = result.summary
    metric = next(iter(summary.model_extra or {}), None)
    interval = result.intervals.get(metric) if metric is not None else None
    return {
        **_blank(workspace, "completed"),
        "score": summary.score,
        "metric": metric,
        "higher_is_better": summary.higher_is_better,
        "interval": interval.model_dump(exclude={"n_resamples"}) if interval is not None else None,
        "pass": summary.passed,
        "rank": summary.rank,
        "seconds": seconds,
        **record,
    }


def failed_outcome(workspace: Path | str, error: AutoScorerError, *, seconds: float | None = None) -> Outcome:
    """The outcome of a workspace that ended in ``error``: failed, or cancelled for ``CANCELLED``."""
    state = "cancelled" if error.code is ErrorCode.CANCELLED else "failed"
    return {**_blank(workspace, state), "seconds": seconds, "ended_at": utc_now(), "error": error.to_dict()}


def duplicate_outcome(workspace: Path | str, first: int) -> Outcome:
    """The outcome of a folder that was named before, at position ``first``."""
    return {**_blank(workspace, "duplicate"), "duplicate_of": first}


def is_settled(outcome: Mapping[str, Any]) -> bool:
    """Whether a second attempt of the batch would end in the same: scored, or failed by the submission's own fault.

    What was cancelled, or failed for want of a daemon, a scorer or a free workspace, is done again.
    """
    if outcome.get("state") == "completed":
        return True
    if outcome.get("state") != "failed":
        return False
    try:
        return AutoScorerError.from_dict(outcome["error"]).spec.fault is Fault.SUBMISSION
    except (KeyError, TypeError, ValueError):  # a journal of another version
        return False


def summarize(action: str, outcomes: list[Outcome], *, seconds: float, resumed: int = 0) -> dict[str, Any]:
    """The batch in one object.

    Args:
        action: pipeline or score.
        outcomes: In the order given.
        seconds: Wall clock of this attempt.
        resumed: How many outcomes an earlier attempt had left.
    """
    counts = Counter(outcome["state"] for outcome in outcomes)
    return {
        "action": action,
        "total": len(outcomes),
        "completed": counts["completed"],
        "failed": counts["failed"],
        "cancelled": counts["cancelled"],
        "duplicates": counts["duplicate"],
        "resumed": resumed,
        "seconds": round(seconds, 3),
        "outcomes": outcomes,
    }


def summary_so_far(action: str, outcomes: Iterable[Outcome], total: int | None = None) -> dict[str, Any]:
    """The summary of a batch that is under way, or whose process did not live to write one.

    Args:
        action: pipeline or score.
        outcomes: The journal (``FlowRunFiles.outcomes``).
        total: How many workspaces it has (``FlowRunFiles.read_total``); those without an outcome are only counted.
    """
    summary = summarize(action, list(outcomes), seconds=0.0)
    return {**summary, "total": max(summary["total"], total or 0), "seconds": None}


def batch_headline(summary: Mapping[str, Any]) -> str:
    """A batch in one line."""
    counts = [
        f"{summary[key]} {name}" for key, name in _NAMES.items() if summary[key] or key in ("completed", "failed")
    ]
    again = f" ({summary['resumed']} of them by an earlier attempt)" if summary["resumed"] else ""
    return f"{summary['total']} workspaces: {', '.join(counts)}{again}"


def kept_outcomes(files: FlowRunFiles, workspaces: Iterable[str]) -> dict[str, Outcome]:
    """What earlier attempts of a flow run have settled, by workspace.

    By the journal; and where it has no line, by result.json: the process may have been killed between the two.

    Args:
        files: The flow run's files.
        workspaces: The workspaces of the batch.
    """
    if files.read_total() is None:
        return {}  # no attempt has come to its first workspace
    journal = {
        os.path.realpath(outcome["workspace"]): outcome for outcome in files.member_outcomes() if is_settled(outcome)
    }
    kept = {}
    for workspace in workspaces:
        if (found := journal.get(os.path.realpath(workspace))) is not None:
            kept[workspace] = {**found, "workspace": workspace}
            continue
        with contextlib.suppress(AutoScorerError):
            result = definitive_result(Workspace(workspace), files.flow_run_id)
            if result is not None:
                kept[workspace] = outcome_of(workspace, result)
    return kept


def _blank(workspace: Path | str, state: str) -> Outcome:
    return {
        "workspace": os.path.abspath(workspace),
        "state": state,
        "score": None,
        "metric": None,
        "higher_is_better": None,
        "interval": None,
        "pass": None,
        "rank": None,
        "seconds": None,
        "error": None,
        "job_id": None,
        "scorer": None,
        "benchmark": None,
        "ended_at": None,
        "result_sha256": None,
    }


def _record(result: Result) -> dict[str, Any]:
    of = result.versioning
    return {
        "job_id": result.job_id,
        "scorer": of.scorer,
        "benchmark": of.benchmark.model_dump(mode="json") if of.benchmark is not None else None,
        "ended_at": of.timestamp,
        "result_sha256": hashlib.sha256(result.to_bytes()).hexdigest(),
    }


def _seconds(result: Result) -> float | None:
    timing = result.timing.model_dump(exclude_none=True)
    total = timing.get("total")
    return round(total if total is not None else sum(timing.values()), 3) if timing else None
