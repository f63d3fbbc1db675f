"""``autoscorer benchmark import``: a competition of another platform as a benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

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


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..tasks.importers import import_codabench, import_evalai

    given: dict[str, Any] = {"image": args.image, "predictions_as": args.predictions_as}
    if args.platform == "codabench":
        return import_codabench(args.source, args.out, task=args.task, **given).to_dict()
    return import_evalai(args.source, args.out, phase=args.phase, **given).to_dict()


def render(data: dict[str, Any], args: argparse.Namespace) -> str:
    better = "larger" if data["higher_is_better"] else "smaller"
    lines = [
        f"{data['benchmark']} is a benchmark now, {data['name']}. It is ranked by {data['main']}; {better} is better.",
        "",
        *(f"- {note}" for note in data["notes"]),
    ]
    if data["left_out"]:
        lines += ["", "Not carried over:", *(f"- {what}" for what in data["left_out"])]
    lines += ["", "Next:", f"  autoscorer scorers load {data['scorer_file']}"]
    return "\n".join(lines)
