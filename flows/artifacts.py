"""What a flow run leaves in Prefect for people: a Result as Markdown, its metrics as a table, a link to its report.

Keys are the same for every run of a workspace, so Prefect shows them as versions of one thing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect.artifacts import Artifact, LinkArtifact, MarkdownArtifact, TableArtifact
from prefect.logging import get_run_logger

from ..core.benchmark import BenchmarkFolder
from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.text import visible
from ..core.workspace import Workspace, open_regular
from ..core.workspace_names import name_below
from ..schemas.result import Result
from ..scorers.report.html import duration, number, size
from ..tasks.benchmarks.leaderboard import board_of, to_markdown
from ..tasks.prefect.states import result_headline

__all__ = [
    "artifact_key",
    "creating",
    "plain",
    "publish",
    "publish_result",
    "record_link",
    "render_result",
    "rendered",
    "result_artifacts",
    "table",
]

# Prefect keeps artifacts in its database: bytes of one plot and of all, metrics and notes shown.
_PLOT, _PLOTS = 256 * 1024, 768 * 1024
_METRICS, _NOTES = 500, 50
# Places of a leaderboard.
_PLACES = 50
# With more metrics than these, those of single classes would push the plots out of sight.
_FEW = 20
# What has a meaning anywhere, what makes a link of a bare address, and what makes a list at the beginning.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~!&$:@]|(?<=www)\.", re.IGNORECASE)
_LIST = re.compile(r"^([0-9]*)([-+=.)])")


def artifact_key(path: Path | str, what: str) -> str:
    """A key that only this workspace has: its name for people, a digest of its path against namesakes.

    Args:
        path: The workspace.
        what: Which of its artifacts: lowercase letters, digits, dashes.
    """
    whole = os.path.realpath(path)
    slug = re.sub(r"[^a-z0-9]+", "-", os.path.basename(whole).lower())[:60].strip("-") or "workspace"
    return f"{slug}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}-{what}"


def render_leaderboard(folder: BenchmarkFolder) -> str:
    """The first of a benchmark's leaderboard as Markdown: a new one is stored for every submission.

    Args:
        folder: The benchmark.
    """
    rows = board_of(folder, folder.read())
    more = f"\n{len(rows) - _PLACES} more teams.\n" if len(rows) > _PLACES else ""
    return to_markdown(rows[:_PLACES]) + more


def publish(*makers: Callable[[], Any]) -> None:
    """Create artifacts; one that can't be is told in the log and costs the run nothing."""
    for make in makers:
        try:
            make()
        except Exception as error:  # the server, the network, the client: none of it is worth a run
            get_run_logger().warning(
                "An artifact could not be stored in Prefect (%s: %s); the Result is in the workspace all the same.",
                type(error).__name__,
                error,
            )
            return  # the next one would only wait for the same server


def publish_result(space: Workspace, result: Result, settings: Settings) -> None:
    """Publish a Result's artifacts, from inside a flow run."""
    publish(*creating(result_artifacts(space, result, settings)))


def creating(makers: Iterable[Callable[[], Artifact]]) -> list[Callable[[], Any]]:
    """For ``publish``: what renders each artifact and creates it, from inside a flow run."""

    def creates(make: Callable[[], Artifact]) -> Callable[[], Any]:
        return lambda: make().create()

    return [creates(make) for make in makers]


def rendered(makers: Iterable[Callable[[], Artifact]]) -> list[dict[str, Any]]:
    """Artifacts as Prefect's API takes them, for who creates them without Prefect's client. Not in an event loop.

    One that can't be rendered, or that Prefect would not take, is left out: it is not worth a run that has ended well.
    """
    bodies = []
    for make in makers:
        with contextlib.suppress(Exception):
            made = make()
            text: Any = made.format()  # of a Markdown, table or link artifact: nothing is awaited
            bodies.append({"key": made.key, "type": made.type, "description": made.description, "data": text})
    return bodies


def result_artifacts(space: Workspace, result: Result, settings: Settings) -> list[Callable[[], Artifact]]:
    """What makes a Result's artifacts: ``…-result`` (Markdown), ``…-metrics`` (table), ``…-report`` (link) and
    ``…-record`` (link); of a submission also the benchmark's ``…-leaderboard`` (Markdown).

    Args:
        space: The workspace.
        result: Its Result.
        settings: The configuration: where the API is (``api_url``), the links lead to its page.

    Returns:
        One maker each; a maker renders, and raises what Prefect does not take.
    """
    name = result.job_id or space.name
    makers: list[Callable[[], Artifact]] = [
        lambda: MarkdownArtifact(
            key=artifact_key(space.root, "result"),
            markdown=render_result(result, space.root),
            description=f"Result of {name}: {result_headline(result)}",
        )
    ]
    if result.metrics:
        makers.append(
            lambda: TableArtifact(
                key=artifact_key(space.root, "metrics"), table=metric_rows(result), description=f"Metrics of {name}"
            )
        )
    if (benchmark := space.benchmark) is not None:
        makers.append(
            lambda: MarkdownArtifact(
                key=artifact_key(benchmark, "leaderboard"),
                markdown=render_leaderboard(BenchmarkFolder(benchmark)),
                description=f"Leaderboard of {benchmark.name}, the public part",
            )
        )
    report, called = result.artifacts.get("report"), name_below(space.root, settings.workspace_roots)
    if report is not None and (page := settings.api_url) is not None and called is not None:
        makers.append(
            lambda: LinkArtifact(
                key=artifact_key(space.root, "report"),
                link=f"{page.rstrip('/')}/ui/workspace/{quote(called)}",
                link_text=called,
                description=f"{name} on the service's page, with its history and its report",
            )
        )
    elif report is not None:
        makers.append(
            lambda: LinkArtifact(
                key=artifact_key(space.root, "report"),
                link=(space.root / report.path).as_uri(),
                link_text="report.html",
                # A browser does not follow a file link from a page of a server; the path can be copied.
                description=f"Report of {name}, on the host that scored it: {space.root / report.path}",
            )
        )
    return makers + record_link(settings, result.versioning.flow_run_id, artifact_key(space.root, "record"), name)


def record_link(settings: Settings, flow_run_id: str | None, key: str, name: str) -> list[Callable[[], Artifact]]:
    """What makes the link from a flow run to its record on the service's page; nothing where nobody said where that is.

    Args:
        settings: The configuration: where the API is (``api_url``).
        flow_run_id: The run; None outside of any.
        key: The artifact's.
        name: Of what it worked on.
    """
    page = settings.api_url
    if page is None or flow_run_id is None:
        return []
    return [
        lambda: LinkArtifact(
            key=key,
            link=f"{page.rstrip('/')}/ui/flow-run/{flow_run_id}",
            link_text="Record",
            description=f"{name}: the record of this run on the service's page",
        )
    ]


def metric_rows(result: Result) -> list[dict[str, Any]]:
    """The metrics as rows of a table: the main one first, those of single classes last."""
    main = _main(result)
    rows = []
    for name in sorted(result.metrics, key=lambda name: (name != main, _of_one_class(name)))[:_METRICS]:
        interval = result.intervals.get(name)
        rows.append(
            {
                "metric": name,
                "value": result.metrics[name],
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "method": f"{interval.level:.0%} {interval.method}" if interval else None,
            }
        )
    return rows


def _main(result: Result) -> str | None:
    """The name of the main metric: it stands in the summary under its own name."""
    return next(iter(result.summary.model_extra or {}), None)


def _of_one_class(name: str) -> bool:
    return name.endswith("]") or "/" in name


def render_result(result: Result, workspace: Path) -> str:
    """A Result as Markdown. What a submission named (labels, log lines, notes) is escaped.

    Args:
        result: What to show.
        workspace: Its workspace; the plots are read from it and go in as data URIs.
    """
    sections = [
        f"# {plain(result.job_id or workspace.name)}: {result_headline(result)}",
        _error(result) if result.error else _metrics(result),
        _list("Notes", [plain(note, longest=1000) for note in result.notes[:_NOTES]]),
        *_plots(result, workspace),
        "## Provenance\n\n" + table(["What", "Value"], _provenance(result)),
        f"Workspace: {plain(str(workspace), longest=1000)}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def plain(text: object, *, longest: int = 300) -> str:
    """Text of strangers for Markdown: one line, cut at ``longest`` characters, nothing in it has a meaning."""
    whole = visible(" ".join(str(text).split()))
    cut = whole if len(whole) <= longest else whole[: longest - 1] + "…"
    return _LIST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", cut))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _list(title: str, items: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {item}" for item in items) if items else ""


def _error(result: Result) -> str:
    assert result.error is not None
    error = result.error
    problems = error.details.get("problems") or [error.model_dump()]
    parts = [
        table(
            ["Code", "Stage", "What happened"],
            [[plain(p["code"]), plain(p["stage"]), plain(p["message"], longest=2000)] for p in problems],
        )
    ]
    log = error.details.get("log")
    if isinstance(log, list) and log:
        lines = [visible(str(line)) for line in log[-30:]]
        # Indented, not fenced: no line of a stranger can end an indented block.
        parts.append("The model's last lines:\n\n" + "\n".join("    " + line for line in lines))
    return "\n\n".join(parts)


def _metrics(result: Result) -> str:
    rows = []
    for row in metric_rows(result):
        if _of_one_class(row["metric"]) and len(result.metrics) > _FEW:
            continue
        name = plain(row["metric"])
        spread = f"{number(row['low'])} to {number(row['high'])} ({row['method']})" if row["method"] else ""
        rows.append(
            [
                f"**{name}**" if row["metric"] == _main(result) else name,
                "undefined" if row["value"] is None else number(row["value"]),
                plain(spread),
            ]
        )
    text = "## Metrics\n\n" + table(["Metric", "Value", "Interval"], rows)
    left = len(result.metrics) - len(rows)
    return text + (f"\n\nand {left:,} of single classes in the table artifact and in result.json" if left else "")


def _plots(result: Result, workspace: Path) -> list[str]:
    shown, left = [], _PLOTS
    for name, artifact in result.artifacts.items():
        if artifact.media_type != "image/svg+xml":
            continue
        try:
            with open_regular(workspace / artifact.path) as file:
                content = file.read(min(_PLOT, left) + 1)
        except (AutoScorerError, OSError):
            continue
        if len(content) > min(_PLOT, left):
            shown.append(f"{plain(name)}: too large to show here, see {plain(artifact.path)}")
            continue
        left -= len(content)
        shown.append(f"![{plain(name)}](data:image/svg+xml;base64,{base64.b64encode(content).decode('ascii')})")
    return ["## Plots", *shown] if shown else []


def _provenance(result: Result) -> list[list[str]]:
    v, used, timing = result.versioning, result.resources, result.timing
    parts = timing.model_dump(by_alias=True, exclude_none=True)
    facts = {
        "Scorer": " ".join(filter(None, [v.scorer, v.scorer_version])),
        "Scorer source": v.scorer_sha256,
        "Params": ", ".join(f"{key}={value}" for key, value in v.params.items()),
        "Image": v.image,
        "Image digest": v.image_digest,
        "Ground truth": v.ground_truth_sha256,
        "Predictions": v.predictions_sha256,
        "Input": v.input_sha256,
        "Backend": used.backend,
        "Peak memory": size(used.peak_memory_bytes) if used.peak_memory_bytes is not None else None,
        "CPU time": duration(used.cpu_seconds) if used.cpu_seconds is not None else None,
        "Peak GPU memory": size(used.gpu_memory_bytes) if used.gpu_memory_bytes is not None else None,
        "GPU time": duration(used.gpu_seconds) if used.gpu_seconds is not None else None,
        "Timing": ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items()),
        "AutoScorer": v.autoscorer,
        "When": v.timestamp,
        "Host": v.hostname,
    }
    return [[name, plain(value)] for name, value in facts.items() if value]
