"""``autoscorer benchmark import``: a competition of another platform as a benchmark."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_common
from .output import printable

if TYPE_CHECKING:
    from ..tasks.importers import ImportReport

__all__ = ["add_arguments", "render", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    platforms = parser.add_subparsers(dest="platform", metavar="PLATFORM", required=True)
    for name, source, text in (
        ("codabench", "BUNDLE", "a bundle of Codabench: a folder or an archive with competition.yaml"),
        ("evalai", "CHALLENGE", "a challenge of EvalAI: a folder or an archive with challenge_config.yaml"),
    ):
        added = platforms.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.add_argument("source", metavar=source, type=Path, help=text)
        added.add_argument("--out", metavar="DIR", type=Path, required=True, help="the benchmark's folder; made")
        added.add_argument("--image", metavar="IMAGE", help="image that the scoring program is run in")
        added.add_argument(
            "--predictions-as",
            metavar="NAME",
            help="name under which the scoring program finds a submission's only file (default: its own)",
        )
        if name == "codabench":
            added.add_argument("--task", metavar="INDEX", type=int, help="which task, where phases have several")
        else:
            added.add_argument("--phase", metavar="CODENAME", help="which phase, where there are several")
        add_common(added, of_action=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..tasks.importers import import_codabench, import_evalai

    given: dict[str, Any] = {"image": args.image, "predictions_as": args.predictions_as}
    if args.platform == "codabench":
        report = import_codabench(args.source, args.out, task=args.task, **given)
    else:
        report = import_evalai(args.source, args.out, phase=args.phase, **given)
    return {**report.to_dict(), "next": _next(report)}


def _next(report: ImportReport) -> list[dict[str, str]]:
    scorer, benchmark = shlex.quote(str(report.scorer_file)), shlex.quote(str(report.benchmark))
    return [
        {"command": f"autoscorer scorers load {scorer}", "does": "makes its scorer known"},
        {"command": f"autoscorer benchmark validate {benchmark}", "does": "checks it"},
    ]


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    better = "larger" if data["higher_is_better"] else "smaller"
    print(printable(f"{data['benchmark']} is a benchmark: {data['main']} ranks, and {better} is better"))
    for note in data["notes"]:
        print("note: " + printable(note))
    for what in data["left_out"]:
        print("not carried over: " + printable(what))
    print("\nNext:")
    for step in data["next"]:
        print(f"  {printable(step['command'])}    {step['does']}")
