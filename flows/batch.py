"""The flow ``batch``: many workspaces, a few at a time, and one failure stops none of the others."""

# No ``from __future__ import annotations`` here: Prefect reads the annotations of a flow also where it has the
# function without its module (``flow.serve()`` sends it to another process), and text could not be resolved there.
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task
from pydantic import Field

from ..core.errors import AutoScorerError, ErrorCode
from ..scorers.report_html import duration, number
from ..tasks.pipeline import pipeline_task
from ..tasks.prefect_cancel import CancelWatch
from ..tasks.prefect_local import AWAY, here, local, unrecorded
from ..tasks.prefect_tasks import failure_of, settled
from ..tasks.score import score_task
from .artifacts import plain, publish, table
from .expand import Entry, expand
from .hooks import clear_up
from .pipeline import BackendName, ParamsField, ScorerField

__all__ = ["batch"]

Outcome = dict[str, Any]

# Lines of the summary for people; the table artifact has every one.
_SHOWN = 100

Workspaces = Annotated[
    list[str],
    Field(
        title="Workspaces",
        description="Each a workspace, a folder of workspaces, or a pattern such as /data/round-1/*, as the worker "
        "sees it.",
        min_length=1,
        examples=[["/data/round-1"]],
    ),
]
Action = Annotated[
    Literal["pipeline", "score"],
    Field(
        title="Action", description="pipeline: validate, run and score. score: score the predictions that are there."
    ),
]
Concurrency = Annotated[
    int, Field(title="Concurrency", description="Workspaces worked on at the same time.", ge=1, le=64)
]


def _run_name() -> str:
    given = flow_run.parameters
    workspaces = given.get("workspaces") or []
    first = str(workspaces[0]).rstrip("/").rpartition("/")[2] if workspaces else "nothing"
    more = f" and {len(workspaces) - 1} more" if len(workspaces) > 1 else ""
    return f"{given.get('action', 'pipeline')} {first}{more}"


@flow(
    name="batch",
    description="Validate, run and score, or only score, many workspaces.",
    flow_run_name=_run_name,
    persist_result=False,
    on_cancellation=[clear_up],
    on_crashed=[clear_up],
)
def batch(
    workspaces: Workspaces,
    action: Action = "pipeline",
    scorer: ScorerField = None,
    params: ParamsField = None,
    backend: BackendName = None,
    concurrency: Concurrency = 2,
) -> Any:
    """Work on many workspaces.

    Args:
        workspaces: Each a workspace, a folder of workspaces, or a pattern, as the worker sees it.
        action: pipeline (validate, run and score) or score (the predictions that are there).
        scorer: Scorer id instead of the one that each meta.json names.
        params: Added to each meta.json's params, and stronger than they are.
        backend: auto, docker or process; empty as the worker is configured.
        concurrency: Workspaces worked on at the same time.

    Returns:
        ``{action, total, completed, failed, cancelled, duplicates, seconds, outcomes}``, the outcomes in the order
        given: ``{workspace, state, score, pass, rank, seconds, error}``, and ``duplicate_of`` (a position) where the
        same folder was named before. The flow is Completed when it could work on all of them, however many failed.
    """
    started = time.monotonic()
    entries = expand(workspaces)
    options: dict[str, Any] = {"scorer": scorer, "params": params}
    if action == "pipeline":
        step: Task[..., State[Any]] = pipeline_task
        options["backend"] = backend
    else:
        # Prefect can't interrupt a thread: a timeout there would only be a warning in every log. 0 means none.
        step = score_task.with_options(timeout_seconds=0)
    try:
        states, cancelled = _work(step, entries, options, concurrency)
    except AutoScorerError as error:  # a signal
        return settled(error)
    outcomes = [_outcome(entry, state) for entry, state in zip(entries, states, strict=True)]
    counts = Counter(outcome["state"] for outcome in outcomes)
    summary = {
        "action": action,
        "total": len(outcomes),
        "completed": counts["completed"],
        "failed": counts["failed"],
        "cancelled": counts["cancelled"],
        "duplicates": counts["duplicate"],
        "seconds": round(time.monotonic() - started, 3),
        "outcomes": outcomes,
    }
    _publish(summary, workspaces)
    if cancelled:
        return settled(AutoScorerError(ErrorCode.CANCELLED, f"The batch was cancelled. {_headline(summary)}."))
    return Completed(message=_headline(summary), data=summary)


def _work(
    step: Task[..., State[Any]], entries: list[Entry], options: dict[str, Any], concurrency: int
) -> tuple[list[State[Any] | None], bool]:
    """Work on the entries; None for those that there is nothing to work on. And whether the batch was cancelled."""
    stop = threading.Event()
    # A runner of our own, because how many workspaces at once is a parameter, and the flow's is set before it has any.
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=concurrency)
    outer = here()
    with CancelWatch(flow_run.id, outer.cancelled) as cancelled, runner:
        try:
            work = [
                _Work(step, {"workspace": str(entry.path), **options}, runner, lambda: stop.is_set() or cancelled())
                if entry.is_work
                else None
                for entry in entries
            ]
            return [item.state() if item is not None else None for item in work], cancelled()
        except BaseException:
            stop.set()  # the models that run are ended, and what has not begun does not begin
            raise


class _Work:
    """One workspace, submitted to the runner."""

    def __init__(
        self,
        step: Task[..., State[Any]],
        parameters: dict[str, Any],
        runner: ThreadPoolTaskRunner[Any],
        cancelled: Callable[[], bool],
    ) -> None:
        self._step, self._parameters = step, parameters
        self._local = replace(here(), cancelled=cancelled, states=[])
        with local(self._local):
            self._future = runner.submit(step, parameters)

    def state(self) -> State[Any]:
        """Wait, and say how it ended."""
        try:
            self._future.wait()
            return self._future.state
        except AWAY as error:
            with local(self._local):
                return unrecorded(error, self._step, self._local.states or [], **self._parameters)


def _outcome(entry: Entry, state: State[Any] | None) -> Outcome:
    outcome: Outcome = {
        "workspace": str(entry.path),
        "state": "failed",
        "score": None,
        "pass": None,
        "rank": None,
        "seconds": None,
        "error": None,
    }
    if state is None:
        if entry.duplicate_of is not None:
            return {**outcome, "state": "duplicate", "duplicate_of": entry.duplicate_of}
        assert entry.error is not None
        return {**outcome, "error": entry.error.to_dict()}
    if state.is_completed():
        result = state.result()
        summary = result["summary"]
        return {
            **outcome,
            "state": "completed",
            "score": summary["score"],
            "pass": summary["pass"],
            "rank": summary["rank"],
            "higher_is_better": summary["higher_is_better"],
            "seconds": _seconds(result),
        }
    failure = failure_of(state)
    cancelled = failure.code is ErrorCode.CANCELLED
    return {
        **outcome,
        "state": "cancelled" if cancelled else "failed",
        "seconds": _seconds(failure.result) if failure.result else None,
        "error": failure.to_dict(),
    }


def _seconds(result: dict[str, Any]) -> float:
    timing: dict[str, float | None] = result["timing"]
    total = timing["total"]
    return round(total if total is not None else sum(value for value in timing.values() if value is not None), 3)


def _headline(summary: dict[str, Any]) -> str:
    names = {"completed": "scored", "failed": "failed", "cancelled": "cancelled", "duplicates": "named twice"}
    counts = [f"{summary[key]} {name}" for key, name in names.items() if summary[key] or key in ("completed", "failed")]
    return f"{summary['total']} workspaces: {', '.join(counts)}"


def _publish(summary: dict[str, Any], given: list[str]) -> None:
    # The same workspaces in the same batch every night are versions of one thing.
    digest = hashlib.sha256("\0".join([summary["action"], *sorted(given)]).encode()).hexdigest()[:8]
    key = f"batch-{summary['action']}-{digest}"
    rows = sorted(summary["outcomes"], key=_best_first)
    publish(
        lambda: create_markdown_artifact(
            key=f"{key}-summary", markdown=_render(summary, rows), description=_headline(summary)
        ),
        lambda: create_table_artifact(
            key=f"{key}-outcomes", table=[_row(outcome) for outcome in rows], description=_headline(summary)
        ),
    )


def _best_first(outcome: Outcome) -> tuple[int, bool, float, str]:
    score = outcome["score"]
    order = ["completed", "failed", "cancelled", "duplicate"].index(outcome["state"])
    worth = 0.0 if score is None else -score if outcome.get("higher_is_better", True) else score
    return (order, score is None, worth, outcome["workspace"])


def _row(outcome: Outcome) -> dict[str, Any]:
    row = {key: outcome[key] for key in ("workspace", "state", "score", "pass", "rank", "seconds")}
    return {**row, "error": outcome["error"]["code"] if outcome["error"] else None}


def _render(summary: dict[str, Any], rows: list[Outcome]) -> str:
    lines, errors = [], []
    for outcome in rows[:_SHOWN]:
        name, error = plain(outcome["workspace"]), outcome["error"]
        lines.append(
            [
                name,
                outcome["state"],
                "" if outcome["score"] is None else number(outcome["score"]),
                {True: "pass", False: "fail", None: ""}[outcome["pass"]],
                plain(outcome["rank"] or ""),
                "" if outcome["seconds"] is None else duration(outcome["seconds"]),
                plain(error["code"]) if error else "",
            ]
        )
        if error:
            errors.append(f"- {name}: {plain(error['code'])}: {plain(error['message'], longest=1000)}")
    header = ["Workspace", "State", "Score", "Pass", "Rank", "Time", "Error"]
    parts = [f"# {_headline(summary)}", f"Took {duration(summary['seconds'])}.", table(header, lines)]
    if len(rows) > len(lines):
        parts.append(f"and {len(rows) - len(lines):,} more in the table artifact")
    if errors:
        # Below the table, where a message may be as long as it is.
        parts.append("## Why they failed\n\n" + "\n".join(errors))
    return "\n\n".join(parts) + "\n"
