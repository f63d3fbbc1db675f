"""What a batch shows in Prefect: how far it is, each failure in the log, and at the end who did how well."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.logging import get_run_logger

from ...core.config import Settings
from ...core.flowruns import FlowRunFiles
from ...core.provenance import current_flow_run
from ...core.text import visible
from ...core.workspace_names import name_below
from ...scorers.report.html import duration, number
from ..artifacts import creating, plain, publish, record_link, table
from .journal import BatchJournal
from .leaderboard import leaderboard
from .outcome import Outcome, batch_headline

__all__ = ["BatchProgress", "batch_key", "publish_batch"]

# Seconds between two signs of life, and that the last one may take.
_PAUSE = 1.0
_LAST = 5.0
# Failures in one record of the log, and characters of each: the outcomes table has every one.
_LINES, _LINE = 50, 300
# Lines of the summary for people; the table artifact has every one.
_SHOWN = 100


def batch_key(action: str, given: list[str]) -> str:
    """What the artifacts' keys begin with: the same workspaces in the same batch every night are versions of one."""
    digest = hashlib.sha256("\0".join([action, *sorted(given)]).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"batch-{action}-{digest}"


class BatchProgress:
    """Tells once a second how far the batch is: in the run's log, as a progress artifact, and in the run's files.

    All of it from a thread of its own: a server that stands still must not hold up the work. Use it with ``with``.

    Args:
        action: pipeline or score.
        key: ``batch_key``.
        journal: What is known already; those need not be told again.
        files: The flow run's files.
    """

    def __init__(self, action: str, key: str, journal: BatchJournal, files: FlowRunFiles) -> None:
        self._action, self._key, self._total, self._files = action, key, journal.total, files
        self._lock = threading.Lock()
        self._counts = Counter(outcome["state"] for outcome in journal.outcomes.values())
        self._failures: list[str] = []
        self._told = self._counts.total()
        # What the progress artifact says; None before there is one.
        self._shown: int | None = None
        self._showing = threading.Lock()
        self._done = threading.Event()
        self._artifact: UUID | None = None
        self._run_id = UUID(files.flow_run_id)
        self._logger = get_run_logger()
        tell_on = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=tell_on, args=(self._tell_on,), name="autoscorer-batch-progress", daemon=True
        )

    def __enter__(self) -> Self:
        self._files.set_stage(self._action, f"{self._told} of {self._total}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(_LAST)

    def add(self, outcome: Outcome) -> None:
        """One more has ended."""
        with self._lock:
            self._counts[outcome["state"]] += 1
            if outcome["state"] == "failed":
                error = outcome["error"]
                message = " ".join(f"{error['code']}: {error['message']}".split())
                message = message if len(message) <= _LINE else message[: _LINE - 1] + "…"
                self._failures.append(f"failed  {outcome['workspace']}  {message}")

    def _tell_on(self) -> None:
        with contextlib.ExitStack() as stack:
            client: SyncPrefectClient | None = None
            while True:
                over = self._done.wait(_PAUSE)
                done = self._log()
                if over:
                    return  # the last is shown by ``conclude``
                if done > (self._shown or 0):
                    with contextlib.suppress(Exception):  # the server is away: the next second may be better
                        client = client or stack.enter_context(get_client(sync_client=True))
                        self._show(client, done)

    def conclude(self) -> None:
        """Show how far it came in the end; raises what Prefect's client does."""
        with self._lock:
            done = self._counts.total()
        with get_client(sync_client=True) as client:
            self._show(client, done)

    def _log(self) -> int:
        with self._lock:
            counts, failures, self._failures = Counter(self._counts), self._failures, []
        done = counts.total()
        if failures or done > self._told:
            lines = failures[:_LINES]
            if len(failures) > len(lines):
                lines.append(f"failed  {len(failures) - len(lines)} more")
            parts = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            self._logger.info("%s", "\n".join([*lines, f"{done} of {self._total} done: {parts}"]))
            self._files.set_stage(self._action, f"{done} of {self._total}")
            self._told = done
        return done

    def _show(self, client: SyncPrefectClient, done: int) -> None:
        with self._showing:
            if done != self._shown:
                self._show_now(client, done)
                self._shown = done

    def _show_now(self, client: SyncPrefectClient, done: int) -> None:
        percent, text = 100.0 * done / max(self._total, 1), f"{done} of {self._total} workspaces"
        if self._artifact is None:
            made = client.create_artifact(
                ArtifactCreate(
                    type="progress",
                    key=f"{self._key}-progress",
                    description=text,
                    data=percent,
                    flow_run_id=self._run_id,
                )
            )
            self._artifact = made.id
        else:
            client.update_artifact(self._artifact, ArtifactUpdate(data=percent, description=text))


def publish_batch(summary: dict[str, Any], key: str, progress: BatchProgress, settings: Settings) -> None:
    """Show how far it came; publish ``<key>-summary`` (Markdown) and ``<key>-outcomes`` (table), best first, and
    ``<key>-record`` (link).

    Args:
        summary: Of the batch.
        key: ``batch_key``.
        progress: What has told of it.
        settings: The configuration: a workspace below a root is called as the service calls it.
    """
    title = batch_headline(summary)
    # Not before it is published: nothing of this is worth a batch.
    shown = cache(lambda: _shown(summary, settings.workspace_roots))
    links = record_link(settings, current_flow_run.get(), f"{key}-record", title)
    publish(
        progress.conclude,
        lambda: create_markdown_artifact(key=f"{key}-summary", markdown=_render(summary, shown()), description=title),
        lambda: create_table_artifact(
            key=f"{key}-outcomes", table=[_row(*each) for each in shown()], description=title
        ),
        *creating(links),
    )


def _shown(summary: dict[str, Any], roots: Sequence[Path]) -> list[tuple[Outcome, int | None]]:
    """The outcomes, best first, by the service's names; and the place of each that has one."""
    named = [
        {**each, "workspace": name_below(Path(each["workspace"]), roots) or each["workspace"]}
        for each in summary["outcomes"]
    ]
    places = {row["workspace"]: row["place"] for row in leaderboard(named)}
    return [
        (each, places.get(each["workspace"]) if each["state"] == "completed" else None)
        for each in sorted(named, key=_best_first)
    ]


def _best_first(outcome: Outcome) -> tuple[int, bool, float, str]:
    score = outcome["score"]
    order = ["completed", "failed", "cancelled", "duplicate"].index(outcome["state"])
    worth = 0.0 if score is None else -score if outcome["higher_is_better"] else score
    return (order, score is None, worth, outcome["workspace"])


def _row(outcome: Outcome, place: int | None) -> dict[str, Any]:
    interval = outcome["interval"] or {}
    return {
        "place": place,
        # Prefect takes UTF-8 only, and a folder's name may be none.
        "workspace": visible(outcome["workspace"]),
        **{key: outcome[key] for key in ("state", "score", "pass", "rank")},
        "low": interval.get("low"),
        "high": interval.get("high"),
        "seconds": outcome["seconds"],
        "error": outcome["error"]["code"] if outcome["error"] else None,
    }


def _render(summary: dict[str, Any], rows: Sequence[tuple[Outcome, int | None]]) -> str:
    lines, errors = [], []
    for outcome, place in rows[:_SHOWN]:
        interval = outcome["interval"]
        name, error = plain(outcome["workspace"]), outcome["error"]
        lines.append(
            [
                "" if place is None else str(place),
                name,
                outcome["state"],
                "" if outcome["score"] is None else number(outcome["score"]),
                f"{number(interval['low'])} to {number(interval['high'])}" if interval else "",
                {True: "pass", False: "fail", None: ""}[outcome["pass"]],
                plain(outcome["rank"] or ""),
                "" if outcome["seconds"] is None else duration(outcome["seconds"]),
                plain(error["code"]) if error else "",
            ]
        )
        if error:
            errors.append(f"- {name}: {plain(error['code'])}: {plain(error['message'], longest=1000)}")
    header = ["Place", "Workspace", "State", "Score", "Interval", "Pass", "Rank", "Time", "Error"]
    parts = [f"# {batch_headline(summary)}", f"Took {duration(summary['seconds'])}.", table(header, lines)]
    if len(rows) > len(lines):
        parts.append(f"and {len(rows) - len(lines):,} more in the table artifact")
    if errors:
        # Below the table, where a message may be as long as it is.
        parts.append("## Why they failed\n\n" + "\n".join(errors))
    return "\n\n".join(parts) + "\n"
