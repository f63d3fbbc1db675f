"""The sections of the report that come from the Result alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.disclosed import WITHHELD_ERROR
from ...core.errors import CATALOGUE, ErrorCode, Fault
from ...schemas.result import Interval, Result
from ..translation.words import ENGLISH, Language
from .html import data, definitions, duration, label, lines, number, scale_of, size, table, text, value

__all__ = ["chips", "failure", "hero", "metrics", "notes", "page_title", "provenance", "resources", "timing"]

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


def page_title(result: Result, say: Language = ENGLISH) -> str:
    """The result in a few words, for the window's title."""
    if result.error:
        return result.error.code
    score = result.summary.score
    return f"{main_metric(result)} {number(score) if score is not None else say('undefined')}"


def chips(result: Result, say: Language) -> str:
    """Task type, scorer and time, below the title."""
    ids = result.versioning
    scorer = f"{ids.scorer} {ids.scorer_version or ''}".strip() if ids.scorer else None
    pairs = (("Task", result.task_type), ("Scorer", scorer), ("Scored", _when(ids.timestamp)))
    items = "".join(f"<li>{say(name)} <b>{label(shown, longest=80)}</b></li>" for name, shown in pairs if shown)
    return f'<ul class="chips">{items}</ul>\n' if items else ""


def _when(timestamp: str | None) -> str | None:
    if timestamp and timestamp.endswith("Z") and "T" in timestamp:
        return f"{timestamp[:-1].replace('T', ' ')} UTC"
    return timestamp


def hero(result: Result, say: Language) -> str:
    """The score, large, with its interval on the metric's scale, and what it means."""
    name, summary = main_metric(result), result.summary
    score, interval = summary.score, result.intervals.get(name)
    shown = data(score, say)
    better = say("Higher is better" if summary.higher_is_better else "Lower is better")
    badges = ""
    if summary.passed is not None:
        kind, word = ("good", "✓ Pass") if summary.passed else ("bad", "✗ Fail")
        badges += f'<span class="badge {kind}">{say(word)}</span>'
    if summary.rank:
        badges += f'<span class="badge">{say("Rank {rank}", rank=text(summary.rank, longest=12))}</span>'
    goal = _goal(result)
    facts = []
    if interval is not None:
        ends = {"low": number(interval.low), "high": number(interval.high)}
        said = say("{level} interval {low} to {high}", level=_level(interval.level), **ends)
        facts.append(f'<p>{said} <span class="muted">({_method(interval, say)})</span></p>')
    if goal is not None:
        need = "To pass: at least {goal}" if summary.higher_is_better else "To pass: at most {goal}"
        facts.append(f'<p class="muted">{say(need, goal=_short(goal))}</p>')
    drawn = _scale(name, score, interval, goal, say) if score is not None else ""
    context = (
        (f'<div class="badges">{badges}</div>' if badges else "")
        + drawn
        + (f'<div class="facts">{"".join(facts)}</div>' if facts else "")
    )
    return (
        f'<section class="card hero" aria-labelledby="score-{say.code}"><div>'
        f'<h2 id="score-{say.code}">{label(name, longest=80)}</h2>'
        f'<p class="score">{shown}</p><p class="muted small">{better}</p></div><div>{context}</div></section>'
    )


def _goal(result: Result) -> float | None:
    goal = result.versioning.params.get("pass_threshold")
    return float(goal) if isinstance(goal, (int, float)) and not isinstance(goal, bool) else None


def _scale(name: str, score: float, interval: Interval | None, goal: float | None, say: Language) -> str:
    """The score (bar and mark), its interval (band) and the goal (dashed) on a bounded scale; nothing otherwise."""
    ends = [score] if interval is None else [score, interval.low, interval.high]
    limits = scale_of(name, ends)
    if limits is None:
        return ""
    low, high = limits

    def at(position: float) -> str:
        return f"{100 * (position - low) / (high - low):.2f}%"

    scale = {"low": f"{low:g}", "high": f"{high:g}"}
    said = say("{score} on a scale from {low} to {high}", score=number(score), **scale)
    parts = [f'<span class="reach" style="width:{at(score)}"></span>']
    if interval is not None:
        width = f"{100 * (interval.high - interval.low) / (high - low):.2f}%"
        parts.append(f'<span class="band" style="left:{at(interval.low)};width:{width}"></span>')
        said += say("; interval {low} to {high}", low=number(interval.low), high=number(interval.high))
    parts.append(f'<span class="dot" style="left:{at(score)}"></span>')
    if goal is not None and low <= goal <= high:
        parts.append(f'<span class="goal" style="left:{at(goal)}"></span>')
        said += say("; {goal} needed to pass", goal=_short(goal))
    ends_ = "".join(f"<span>{shown}</span>" for shown in (f"{low:g}".replace("-", "−"), f"{high:g}"))
    return (
        f'<div class="scale" role="img" aria-label="{text(said)}">{"".join(parts)}</div>'
        f'<div class="ends" aria-hidden="true">{ends_}</div>'
    )


def _level(level: float) -> str:
    return f"{100 * level:.4g} %"


def _short(goal: float) -> str:
    """A threshold as somebody chose it: 0.8 and not 0.8000, but no more digits than a metric has."""
    return min(f"{goal:g}".replace("-", "−", 1), number(goal), key=len)


def _method(interval: Interval, say: Language) -> str:
    method = text(interval.method, longest=60)
    if not interval.n_resamples:
        return method
    return say("{method}, {count} resamples", method=method, count=f"{interval.n_resamples:,}")


def failure(result: Result, say: Language) -> str:
    """Why there is no score: code, message, and everything the details hold."""
    error = result.error
    if error is None:
        return ""
    details = dict(error.details)
    problems = details.pop("problems", None)
    log = details.pop("log", None)
    message = error.message
    if isinstance(problems, list) and message.startswith(f"{len(problems)} problems. "):
        message = say("{count} problems:", count=len(problems))  # each stands in the list below
    out = [
        f'<section class="card failed" aria-labelledby="failed-{say.code}">',
        f'<h2 id="failed-{say.code}">{say("No score")}</h2>',
        f'<p class="code">{label(error.code)}</p>',
    ]
    # A message tells of this one case, and in English; in another language its code's meaning stands before it.
    known = CATALOGUE[ErrorCode(error.code)].meaning if error.code in ErrorCode.__members__ else None
    if known is not None and (say.words or message == WITHHELD_ERROR):
        meaning = say(known)
        out.append(f'<p class="message">{meaning[:1].upper()}{meaning[1:]}{"。" if say.words else "."}</p>')
    here = f' lang="{ENGLISH.code}"' if message == error.message and say.again(message) is None else ""
    out.append(f'<p class="message"{here}>{text(_again(message, say), longest=5000, keep=chr(10))}</p>')
    if isinstance(problems, list) and problems:
        out.append(f'<ul class="problems">{"".join(map(_problem, problems[:50]))}</ul>')
    pairs = [(say("Stage"), label(say(error.stage)))]
    if error.code in ErrorCode.__members__:
        pairs.append((say("Cause"), say(_CAUSES[CATALOGUE[ErrorCode(error.code)].fault])))
    known_details = {"workspace": say("Workspace"), "logs_path": say("Log file")}
    shown = {known_details.get(key, str(key)): item for key, item in details.items() if item is not None}
    pairs += [(key, value(item)) for key, item in list(shown.items())[:50]]
    if isinstance(log, list) and log:
        pairs.append((say("Last lines of the log"), lines([str(line) for line in log])))
    elif log:
        pairs.append((say("Log"), value(log)))
    out.append(definitions(pairs))
    out.append("</section>")
    return "".join(out)


def _problem(problem: Any) -> str:
    if isinstance(problem, Mapping) and "message" in problem:
        return f"<li><code>{text(problem.get('code', ''))}</code> {text(problem['message'], longest=1000)}</li>"
    return f"<li>{text(problem, longest=1000)}</li>"


def notes(result: Result, say: Language) -> str:
    """What a reader must know."""
    if not result.notes:
        return ""
    items = "".join(_note(note, say) for note in result.notes[:100])
    more = len(result.notes) - 100
    if more > 0:
        items += f"<li>{say('{count} more in result.json.', count=format(more, ','))}</li>"
    return f'<section class="card"><h2>{say("Notes")}</h2><ul class="notes">{items}</ul></section>'


def _note(note: str, say: Language) -> str:
    here = f' lang="{ENGLISH.code}"' if say.words and say.again(note) is None else ""
    return f"<li{here}>{text(_again(note, say), longest=1000)}</li>"


def _again(sentence: str, say: Language) -> str:
    """A sentence that stands in the Result in this language; as it is where the table does not have it."""
    return say.again(sentence) or sentence


def metrics(result: Result, say: Language) -> str:
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
    head = [(say("Metric"), False), (say("Value"), True)]
    many = len(levels) > 1
    if levels:
        title = say("Interval") if many else say("{level} interval", level=_level(levels.pop()))
        head += [(title, True), (say("Method"), False)]
    rows = []
    for name in plain:
        tag = ' <span class="tag">' + say("main") + "</span>" if name == main else ""
        row = [label(name, say=say) + tag, data(result.metrics.get(name), say)]
        if result.intervals:
            row += _interval_cells(result.intervals.get(name), say, with_level=many)
        rows.append(row)
    body = table(head, rows, name=say("Metrics"), main=bool(plain) and plain[0] == main) if rows else ""
    folded = "".join(_by_class(group, say) for group in grouped)
    return f'<section class="card"><h2>{say("Metrics")}</h2>{body}{folded}</section>'


def _interval_cells(interval: Interval | None, say: Language, *, with_level: bool) -> list[str]:
    if interval is None:
        return ["", ""]
    level = f' <span class="muted">({_level(interval.level)})</span>' if with_level else ""
    ends = say("{low} to {high}", low=number(interval.low), high=number(interval.high))
    return [f"{ends}{level}", _method(interval, say)]


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


def _by_class(group: _Group, say: Language) -> str:
    prefixes, rows = group
    shown = list(rows.items())[:MAX_CLASS_ROWS]
    left_out = (
        say(
            "The first {count} of {total}; the rest is in result.json.", count=f"{len(shown):,}", total=f"{len(rows):,}"
        )
        if len(shown) < len(rows)
        else ""
    )
    body = table(
        [(say("Class"), False), *((label(prefix, longest=60), True) for prefix in prefixes)],
        ([label(name, say=say), *(data(by_prefix[prefix], say) for prefix in prefixes)] for name, by_prefix in shown),
        name=say("Metrics by class"),
        tall=len(shown) > 14,
        caption=left_out,
    )
    what = ", ".join(label(prefix, longest=60) for prefix in prefixes[:12])
    counted = "{count} class: {names}" if len(rows) == 1 else "{count} classes: {names}"
    what = say(counted, count=f"{len(rows):,}", names=what)
    summary = f'<summary>{say("By class")} <span class="muted">{what}</span></summary>'
    return f"<details{' open' if len(rows) <= 12 else ''}>{summary}{body}</details>"


def timing(result: Result, say: Language) -> str:
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
        f'<li><span class="swatch t{k}"></span><span>{say(name.capitalize())}</span>'
        f"<span>{duration(seconds, say)}</span></li>"
        for k, name, seconds in spent
    )
    if total is not None:
        key += f'<li class="total"><span>{say("Total")}</span><span>{duration(total, say)}</span></li>'
    drawn = f'<div class="stack" aria-hidden="true">{bar}</div>' if bar else ""
    return f'<section class="card"><h2>{say("Timing")}</h2>{drawn}<ul class="key">{key}</ul></section>'


def resources(result: Result, say: Language) -> str:
    """What the container used."""
    used = result.resources
    pairs: list[tuple[str, str]] = []
    if used.backend is not None:
        pairs.append((say("Backend"), label(used.backend)))
    if used.exit_code is not None:
        pairs.append((say("Exit code"), str(used.exit_code)))
    if used.peak_memory_bytes is not None:
        pairs.append((say("Peak memory"), size(used.peak_memory_bytes)))
    if used.cpu_seconds is not None:
        pairs.append((say("CPU time"), duration(used.cpu_seconds, say)))
    if used.gpu_memory_bytes is not None:
        pairs.append((say("Peak GPU memory"), size(used.gpu_memory_bytes)))
    if used.gpu_seconds is not None:
        pairs.append((say("GPU time"), duration(used.gpu_seconds, say)))
    if used.output_bytes is not None:
        written = size(used.output_bytes)
        if used.output_files:
            counted = "{size} in {count} file" if used.output_files == 1 else "{size} in {count} files"
            written = say(counted, size=written, count=f"{used.output_files:,}")
        pairs.append((say("Output"), written))
    return f'<section class="card"><h2>{say("Resources")}</h2>{definitions(pairs)}</section>' if pairs else ""


def provenance(result: Result, say: Language) -> str:
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
    pairs = [(say(name), label(shown)) for name, shown in plain if shown]
    pairs += [
        (say(name), f'<span class="mono">{label(shown)}</span>')
        for name, shown in (("Image", ids.image), ("Image digest", ids.image_digest))
        if shown
    ]
    pairs += [(say(f"{name}, sha256"), f'<span class="mono">{label(shown)}</span>') for name, shown in hashes if shown]
    if ids.params:
        pairs.append((say("Params"), definitions((str(key), value(item)) for key, item in ids.params.items())))
    return f'<section class="card"><h2>{say("Provenance")}</h2>{definitions(pairs)}</section>' if pairs else ""
