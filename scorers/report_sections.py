"""The sections of the report that come from the Result alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import CATALOGUE, ErrorCode, Fault
from ..schemas.result import Interval, Result
from .report_html import data, definitions, duration, label, lines, number, scale_of, size, table, text, value

__all__ = ["chips", "failure", "headline", "hero", "metrics", "notes", "provenance", "resources", "timing"]

MAX_CLASS_ROWS = 500
_STAGES = ("validate", "queue", "pull", "run", "load", "compute", "save")
_CAUSES = {
    Fault.SUBMISSION: "The submission",
    Fault.USAGE: "How it was asked for",
    Fault.SYSTEM: "The system, not the submission",
}


def main_metric(result: Result) -> str:
    """The main metric's name: the one the summary repeats under its own name."""
    extra = result.summary.model_extra or {}
    for name in extra:
        if name in result.metrics:
            return str(name)
    for name, number_ in result.metrics.items():
        if number_ is not None and number_ == result.summary.score:
            return name
    return next(iter(map(str, extra)), "score")


def headline(result: Result) -> str:
    """The result in a few words, for the window's title."""
    if result.error:
        return result.error.code
    score = result.summary.score
    return f"{main_metric(result)} {number(score) if score is not None else 'undefined'}"


def chips(result: Result) -> str:
    """Task type, scorer and time, below the title."""
    ids = result.versioning
    scorer = f"{ids.scorer} {ids.scorer_version or ''}".strip() if ids.scorer else None
    pairs = (("Task", result.task_type), ("Scorer", scorer), ("Scored", _when(ids.timestamp)))
    items = "".join(f"<li>{name} <b>{label(shown, longest=80)}</b></li>" for name, shown in pairs if shown)
    return f'<ul class="chips">{items}</ul>\n' if items else ""


def _when(timestamp: str | None) -> str | None:
    if timestamp and timestamp.endswith("Z") and "T" in timestamp:
        return f"{timestamp[:-1].replace('T', ' ')} UTC"
    return timestamp


def hero(result: Result) -> str:
    """The score, large, with its interval on the metric's scale, and what it means."""
    name, summary = main_metric(result), result.summary
    score, interval = summary.score, result.intervals.get(name)
    shown = data(score) if score is not None else '<span class="muted">undefined</span>'
    better = "Higher is better" if summary.higher_is_better else "Lower is better"
    badges = ""
    if summary.passed is not None:
        kind, word = ("good", "✓ Pass") if summary.passed else ("bad", "✗ Fail")
        badges += f'<span class="badge {kind}">{word}</span>'
    if summary.rank:
        badges += f'<span class="badge">Rank {text(summary.rank, longest=12)}</span>'
    goal = _goal(result)
    facts = []
    if interval is not None:
        facts.append(
            f"<p>{_level(interval.level)} interval {number(interval.low)} to {number(interval.high)} "
            f'<span class="muted">({_method(interval)})</span></p>'
        )
    if goal is not None:
        need = "at least" if summary.higher_is_better else "at most"
        facts.append(f'<p class="muted">To pass: {need} {goal:g}</p>')
    drawn = _scale(name, score, interval, goal) if score is not None else ""
    context = (
        (f'<div class="badges">{badges}</div>' if badges else "")
        + drawn
        + (f'<div class="facts">{"".join(facts)}</div>' if facts else "")
    )
    return (
        f'<section class="card hero" aria-labelledby="score"><div><h2 id="score">{label(name, longest=80)}</h2>'
        f'<p class="score">{shown}</p><p class="muted small">{better}</p></div><div>{context}</div></section>'
    )


def _goal(result: Result) -> float | None:
    goal = result.versioning.params.get("pass_threshold")
    return float(goal) if isinstance(goal, (int, float)) and not isinstance(goal, bool) else None


def _scale(name: str, score: float, interval: Interval | None, goal: float | None) -> str:
    """The score (bar and mark), its interval (band) and the goal (dashed) on a bounded scale; nothing otherwise."""
    ends = [score] if interval is None else [score, interval.low, interval.high]
    limits = scale_of(name, ends)
    if limits is None:
        return ""
    low, high = limits

    def at(position: float) -> str:
        return f"{100 * (position - low) / (high - low):.2f}%"

    said = f"{number(score)} on a scale from {low:g} to {high:g}"
    parts = [f'<span class="reach" style="width:{at(score)}"></span>']
    if interval is not None:
        width = f"{100 * (interval.high - interval.low) / (high - low):.2f}%"
        parts.append(f'<span class="band" style="left:{at(interval.low)};width:{width}"></span>')
        said += f"; interval {number(interval.low)} to {number(interval.high)}"
    parts.append(f'<span class="dot" style="left:{at(score)}"></span>')
    if goal is not None and low <= goal <= high:
        parts.append(f'<span class="goal" style="left:{at(goal)}"></span>')
        said += f"; {goal:g} needed to pass"
    ends_ = "".join(f"<span>{shown}</span>" for shown in (f"{low:g}".replace("-", "−"), f"{high:g}"))
    return (
        f'<div class="scale" role="img" aria-label="{text(said)}">{"".join(parts)}</div>'
        f'<div class="ends" aria-hidden="true">{ends_}</div>'
    )


def _level(level: float) -> str:
    return f"{100 * level:.4g} %"


def _method(interval: Interval) -> str:
    resamples = f", {interval.n_resamples:,} resamples" if interval.n_resamples else ""
    return f"{text(interval.method, longest=60)}{resamples}"


def failure(result: Result) -> str:
    """Why there is no score: code, message, and everything the details hold."""
    error = result.error
    if error is None:
        return ""
    details = dict(error.details)
    problems = details.pop("problems", None)
    log = details.pop("log", None)
    message = error.message
    if isinstance(problems, list) and message.startswith(f"{len(problems)} problems. "):
        message = f"{len(problems)} problems:"  # each stands in the list below
    out = [
        '<section class="card failed" aria-labelledby="failed"><h2 id="failed">No score</h2>',
        f'<p class="code">{label(error.code)}</p>',
        f'<p class="message">{text(message, longest=5000, keep=chr(10))}</p>',
    ]
    if isinstance(problems, list) and problems:
        out.append(f'<ul class="problems">{"".join(map(_problem, problems[:50]))}</ul>')
    pairs = [("Stage", label(error.stage))]
    if error.code in ErrorCode.__members__:
        pairs.append(("Cause", _CAUSES[CATALOGUE[ErrorCode(error.code)].fault]))
    pairs += [(str(key), value(item)) for key, item in list(details.items())[:50]]
    if isinstance(log, list) and log:
        pairs.append(("Last lines of the log", lines([str(line) for line in log])))
    elif log:
        pairs.append(("Log", value(log)))
    out.append(definitions(pairs))
    out.append("</section>")
    return "".join(out)


def _problem(problem: Any) -> str:
    if isinstance(problem, Mapping) and "message" in problem:
        return f"<li><code>{text(problem.get('code', ''))}</code> {text(problem['message'], longest=1000)}</li>"
    return f"<li>{text(problem, longest=1000)}</li>"


def notes(result: Result) -> str:
    """What a reader must know."""
    if not result.notes:
        return ""
    items = "".join(f"<li>{text(note, longest=1000)}</li>" for note in result.notes[:100])
    more = len(result.notes) - 100
    if more > 0:
        items += f"<li>{more:,} more in result.json.</li>"
    return f'<section class="card"><h2>Notes</h2><ul class="notes">{items}</ul></section>'


def metrics(result: Result) -> str:
    """The metrics, the main one first; what comes by class in a table that folds away."""
    if not result.metrics and not result.intervals:
        return ""
    main = main_metric(result)
    plain, grouped = _split(result.metrics, main)
    for name in result.intervals:
        if name not in result.metrics:
            plain.append(name)
    plain.sort(key=lambda name: name != main)
    levels = {interval.level for interval in result.intervals.values()}
    head = [("Metric", False), ("Value", True)]
    if levels:
        head += [(f"{_level(levels.pop())} interval" if len(levels) == 1 else "Interval", True), ("Method", False)]
    rows = []
    for name in plain:
        tag = ' <span class="tag">main</span>' if name == main else ""
        row = [label(name) + tag, data(result.metrics.get(name))]
        if result.intervals:
            row += _interval_cells(result.intervals.get(name), with_level=head[2][0] == "Interval")
        rows.append(row)
    body = table(head, rows, name="Metrics", main=bool(plain) and plain[0] == main) if rows else ""
    return f'<section class="card"><h2>Metrics</h2>{body}{"".join(map(_by_class, grouped))}</section>'


def _interval_cells(interval: Interval | None, *, with_level: bool) -> list[str]:
    if interval is None:
        return ["", ""]
    level = f' <span class="muted">({_level(interval.level)})</span>' if with_level else ""
    return [f"{number(interval.low)} to {number(interval.high)}{level}", _method(interval)]


# Metric prefixes that share their classes → class → prefix → value.
_Group = tuple[list[str], dict[str, dict[str, float | None]]]


def _split(values: Mapping[str, float | None], main: str) -> tuple[list[str], list[_Group]]:
    """Tell plain metrics from those by class (``f1/cat``), and join the prefixes that have the same classes."""
    plain: list[str] = []
    families: dict[str, dict[str, float | None]] = {}
    for name, number_ in values.items():
        prefix, slash, rest = name.partition("/")
        if slash and prefix and name != main:
            families.setdefault(prefix, {})[rest] = number_
        else:
            plain.append(name)
    groups: dict[frozenset[str], _Group] = {}
    for prefix, by_class in families.items():
        if len(by_class) == 1 and len(families) == 1:
            plain += [f"{prefix}/{rest}" for rest in by_class]
            continue
        names, rows = groups.setdefault(frozenset(by_class), ([], {rest: {} for rest in by_class}))
        names.append(prefix)
        for rest, number_ in by_class.items():
            rows[rest][prefix] = number_
    return plain, list(groups.values())


def _by_class(group: _Group) -> str:
    prefixes, rows = group
    shown = list(rows.items())[:MAX_CLASS_ROWS]
    left_out = (
        f"The first {len(shown):,} of {len(rows):,}; the rest is in result.json." if len(shown) < len(rows) else ""
    )
    body = table(
        [("Class", False), *((label(prefix, longest=60), True) for prefix in prefixes)],
        ([label(name), *(data(by_prefix[prefix]) for prefix in prefixes)] for name, by_prefix in shown),
        name="Metrics by class",
        tall=len(shown) > 14,
        caption=left_out,
    )
    count = f"{len(rows):,} {'class' if len(rows) == 1 else 'classes'}"
    what = ", ".join(label(prefix, longest=60) for prefix in prefixes[:12])
    summary = f'<summary>By class <span class="muted">{count}: {what}</span></summary>'
    return f"<details{' open' if len(rows) <= 12 else ''}>{summary}{body}</details>"


def timing(result: Result) -> str:
    """Seconds of each stage as one stacked bar with its key."""
    given = result.timing.model_dump(by_alias=True)
    spent = [(k, name, given[name]) for k, name in enumerate(_STAGES) if given[name] is not None and given[name] >= 0]
    total = given["total"]
    if not spent and total is None:
        return ""
    known = sum(seconds for _, _, seconds in spent)
    whole = max(total or 0.0, known)
    # What no stage claims: starting up, waiting for the disk.
    if spent and whole - known > 0.02 * whole:
        spent.append((len(_STAGES), "other", whole - known))
    bar = "".join(
        f'<span class="t{k}" style="flex:{100 * seconds / whole:.2f} 0 0"></span>'
        for k, _, seconds in spent
        if whole > 0 and seconds > 0
    )
    key = "".join(
        f'<li><span class="swatch t{k}"></span><span>{name.capitalize()}</span><span>{duration(seconds)}</span></li>'
        for k, name, seconds in spent
    )
    if total is not None:
        key += f'<li class="total"><span>Total</span><span>{duration(total)}</span></li>'
    drawn = f'<div class="stack" aria-hidden="true">{bar}</div>' if bar else ""
    return f'<section class="card"><h2>Timing</h2>{drawn}<ul class="key">{key}</ul></section>'


def resources(result: Result) -> str:
    """What the container used."""
    used = result.resources
    pairs: list[tuple[str, str]] = []
    if used.backend is not None:
        pairs.append(("Backend", label(used.backend)))
    if used.exit_code is not None:
        pairs.append(("Exit code", str(used.exit_code)))
    if used.peak_memory_bytes is not None:
        pairs.append(("Peak memory", size(used.peak_memory_bytes)))
    if used.cpu_seconds is not None:
        pairs.append(("CPU time", duration(used.cpu_seconds)))
    if used.output_bytes is not None:
        files = (
            f" in {used.output_files:,} {'file' if used.output_files == 1 else 'files'}" if used.output_files else ""
        )
        pairs.append(("Output", f"{size(used.output_bytes)}{files}"))
    return f'<section class="card"><h2>Resources</h2>{definitions(pairs)}</section>' if pairs else ""


def provenance(result: Result) -> str:
    """What it takes to compute the number again."""
    ids = result.versioning
    scorer = " ".join(filter(None, (ids.scorer, ids.scorer_version)))
    plain = (
        ("AutoScorer", ids.autoscorer),
        ("Scorer", scorer or None),
        ("Scored at", ids.timestamp),
        ("Host", ids.hostname),
    )
    hashes = (
        ("Scorer source", ids.scorer_sha256),
        ("Ground truth", ids.ground_truth_sha256),
        ("Predictions", ids.predictions_sha256),
        ("Input", ids.input_sha256),
    )
    pairs = [(name, label(shown)) for name, shown in plain if shown]
    pairs += [
        (name, f'<span class="mono">{label(shown)}</span>')
        for name, shown in (("Image", ids.image), ("Image digest", ids.image_digest))
        if shown
    ]
    pairs += [(f"{name}, sha256", f'<span class="mono">{label(shown)}</span>') for name, shown in hashes if shown]
    if ids.params:
        pairs.append(("Params", definitions((str(key), value(item)) for key, item in ids.params.items())))
    return f'<section class="card"><h2>Provenance</h2>{definitions(pairs)}</section>' if pairs else ""
