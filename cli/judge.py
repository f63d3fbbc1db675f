"""``autoscorer judge``: hold a judge against people's labels, and list what is known of judges."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .api_client import add_api, connect
from .arguments import add_common, positive
from .output import bounds, number, printable

__all__ = ["add_arguments", "render", "run"]

Json = dict[str, Any]

# Labels below which a note says how little they tell: of 30 that agree, the Wilson interval still begins at 0.89.
_FEW = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_common(added, of_action=True)
        return added

    calibrate = action("calibrate", "have a judge judge what people have labelled, and keep how far both agree")
    calibrate.add_argument(
        "labels", metavar="LABELS", type=Path, help="JSON lines, each with sample, metric and label (docs/judge.md)"
    )
    calibrate.add_argument(
        "--judge",
        metavar="NAME",
        action="append",
        help="profile or model of judge.profiles; given several times: a jury (default: judge.default)",
    )
    calibrate.add_argument(
        "--embeddings", metavar="NAME", help="profile or model of embeddings.profiles (default: embeddings.default)"
    )
    calibrate.add_argument(
        "--votes", metavar="N", type=positive, help="answers of each judge to every question (default: its profile's)"
    )
    calibrate.add_argument(
        "--repeats", metavar="N", type=positive, default=1, help="judge everything so often, to see whether it holds"
    )
    calibrate.add_argument(
        "--threshold", metavar="SCORE", type=_share, default=None, help="scores from here on are a yes (default: 0.5)"
    )
    calibrate.add_argument("--workspace", metavar="WORKSPACE", help="folder whose answers the labels name by their ids")
    labels = action("labels", "write what people said of a judge's verdicts in notes on a task, for calibrate to read")
    labels.add_argument("task_id", metavar="TASK_ID", help="a task of the scorer rag, as status shows it")
    labels.add_argument("file", metavar="FILE", help="JSON lines are written there")
    labels.add_argument(
        "--threshold", metavar="SCORE", type=_share, default=None, help="scores from here on are a yes (default: 0.5)"
    )
    add_api(labels)
    action("calibrations", "list the calibrations of this home, newest first")


def run(args: argparse.Namespace) -> Json:
    if args.action == "labels":
        return _write_labels(args)
    from ..scorers.rag.calibration import Calibrations

    kept = Calibrations(args.settings.home)
    if args.action == "calibrations":
        found, unreadable = kept.all()
        return {"calibrations": [_shown(each) for each in found], "unreadable": unreadable}
    import asyncio

    from ..scorers.judge.budget import Budget
    from ..scorers.rag.calibration import THRESHOLD, calibrate
    from ..scorers.rag.labels import read_labels

    labels = read_labels(args.labels, None if args.workspace is None else _dataset(args.workspace))
    budget = Budget.of(args.settings.judge.budget)
    with _bar(args, args.repeats * len(labels.asked)) as advance:
        made = asyncio.run(
            calibrate(
                labels,
                args.settings,
                judge=args.judge,
                embeddings=args.embeddings,
                votes=args.votes,
                repeats=args.repeats,
                threshold=THRESHOLD if args.threshold is None else args.threshold,
                budget=budget,
                on_answer=advance,
            )
        )
    spent = budget.spent
    return {
        "calibrations": [{**_shown(each), "file": str(kept.save(each))} for each in made],
        "notes": [note for each in made for note in _notes(each)],
        "spent": {"calls": spent.calls, "tokens": spent.tokens if spent.tokens_known else None, "cost": spent.cost},
    }


def _write_labels(args: argparse.Namespace) -> Json:
    import json

    from ..core.workspace import write_atomic

    with connect(args) as client:
        found = client.labels(args.task_id, threshold=0.5 if args.threshold is None else args.threshold)
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in found)
    try:
        write_atomic(Path(args.file).absolute(), text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{args.file!r} can't be written: {error.strerror}.") from None
    return {"task_id": args.task_id, "labels": len(found), "file": args.file}


@contextlib.contextmanager
def _bar(args: argparse.Namespace, total: int) -> Iterator[Callable[[], None]]:
    """What to call for each answer that is done; a person sees how many there are."""
    from . import terminal

    if not terminal.is_watched(args):
        yield lambda: None
        return
    with terminal.counting_bar(console=terminal.console(stderr=True)) as bar:
        task = bar.add_task("judging", total=total, counts="")
        yield lambda: bar.advance(task)


def _dataset(workspace: str) -> Any:
    from ..core.meta import load_job
    from ..core.workspace import Workspace
    from ..scorers.rag.dataset import read_dataset

    space = Workspace(workspace)
    return read_dataset(space, load_job(space).data.encodings)


def _shown(calibration: Any) -> Json:
    """All of it but the pairs, which are many."""
    data: Json = calibration.model_dump(mode="json", exclude={"pairs"})
    return data


def _notes(calibration: Any) -> list[str]:
    metric, agreement = calibration.holds_for.metric, calibration.agreement
    notes = []
    if agreement.n < _FEW:
        notes.append(
            f"{metric}: {agreement.n} labels say little of a judge; label {_FEW} answers at least, better 100."
        )
    if calibration.failed:
        notes.append(
            f"{metric}: {calibration.failed:,} answers could not be judged and do not count. Run it again: what was "
            "judged is known, and only the rest is asked for."
        )
    if calibration.undefined:
        notes.append(f"{metric}: {calibration.undefined:,} answers have no value of it and do not count.")
    for name, rate in (("yes", agreement.sensitivity), ("no", agreement.specificity)):
        if rate is not None and rate.value is None:
            notes.append(f"{metric}: no label says {name}, so means can't be corrected for how the judge errs.")
    return notes


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expects a number above 0 and up to 1, got {text!r}")
    return value


def render(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    if args.action == "labels":
        console.print(Text(printable(f"{data['labels']:,} labels were written to {data['file']}")), soft_wrap=True)
        return
    if args.action == "calibrations":
        if not data["calibrations"]:
            console.print(
                "No judge is calibrated. Label some answers: autoscorer judge calibrate LABELS", soft_wrap=True
            )
        else:
            table = terminal.table("metric", "judge", "votes", "labels", "agree", "κ", "α", "sens", "spec", "made")
            for each in data["calibrations"]:
                table.add_row(*(Text(printable(cell)) for cell in _row(each)))
            console.print(table)
        for name in data["unreadable"]:
            console.print(Text(f"can't be read, and counts as none: {printable(name)}", style="red"))
        return
    for each in data["calibrations"]:
        console.print(
            Text.assemble((printable(each["holds_for"]["metric"]), "bold"), ("  " + printable(_judges(each)), "dim"))
        )
        table = terminal.table("", "", "", show_header=False)
        for name, value, more in _facts(each):
            table.add_row(Text(name, style="dim"), Text(value), Text(more, style="dim"))
        console.print(table)
        console.print(Text("kept: " + printable(each["file"])), soft_wrap=True)
    spent = data["spent"]
    tokens, cost = (
        f"{'an unknown number of' if spent['tokens'] is None else format(spent['tokens'], ',')} tokens",
        "unknown" if spent["cost"] is None else number(spent["cost"]),
    )
    console.print(Text(f"asked {spent['calls']:,} times: {tokens}, cost {cost}", style="dim"))
    for note in data["notes"]:
        console.print(Text("note: " + printable(note), style="yellow"), soft_wrap=True)


def _judges(data: Json) -> str:
    return ", ".join(f"{judge['profile']}: {judge['model']}" for judge in data["holds_for"]["judges"])


def _row(data: Json) -> list[str]:
    agreement = data["agreement"]
    rates = [(agreement[name] or {}).get("value") for name in ("sensitivity", "specificity")]
    return [
        data["holds_for"]["metric"],
        _judges(data),
        ", ".join(str(judge["votes"]) for judge in data["holds_for"]["judges"]),
        str(agreement["n"]),
        f"{agreement['percent']:.1%}",
        *(_short(agreement[name]) for name in ("cohen_kappa", "krippendorff_alpha")),
        *(_short(rate) for rate in rates),
        data["made_at"],
    ]


def _facts(data: Json) -> list[tuple[str, str, str]]:
    agreement, stability = data["agreement"], data["stability"]
    facts = [
        ("labels", str(agreement["n"]), f"a score from {number(data['threshold'])} on is a yes"),
        ("same verdict", f"{agreement['percent']:.1%}", ""),
        ("Cohen's κ", _short(agreement["cohen_kappa"]), "0: as by chance, 1: always"),
        ("Krippendorff's α", _short(agreement["krippendorff_alpha"]), ""),
    ]
    for name, meaning in (("sensitivity", "that people accept"), ("specificity", "that people refuse")):
        if (rate := agreement[name]) is not None:
            facts.append((name, _short(rate["value"]), f"{bounds(rate['interval'])}  {rate['of']} {meaning}".strip()))
    if agreement["kind"] == "number":
        names = {"pearson": "Pearson's r", "spearman": "Spearman's ρ", "mean_absolute_error": "mean absolute error"}
        facts += [(text, _short(agreement[name]), "") for name, text in names.items()]
    if stability is not None:
        unchanged = "–" if stability["unchanged"] is None else f"{stability['unchanged']:.1%}"
        again = f"of {stability['n']} answers, judged {stability['repeats']} times"
        facts += [
            ("verdict unchanged", unchanged, again),
            ("α of the repeats", _short(stability["krippendorff_alpha"]), ""),
        ]
    return facts


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
