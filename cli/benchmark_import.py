"""``autoscorer benchmark import``: a competition of another platform as a benchmark."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .output import printable

__all__ = ["add_arguments", "render", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("platform", metavar="PLATFORM", choices=("codabench", "evalai"), help="codabench or evalai")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="folder or archive with competition.yaml (codabench) or challenge_config.yaml (evalai)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the benchmark's folder; made")
    parser.add_argument("--task", metavar="INDEX", type=int, help="which task of codabench, where phases have several")
    parser.add_argument("--phase", metavar="CODENAME", help="which phase of evalai, where there are several")
    parser.add_argument(
        "--shared", action="store_true", help="files of the input data that are reference data, too, are meant to be"
    )
    parser.add_argument("--image", metavar="IMAGE", help="image that the scoring program is run in")
    parser.add_argument(
        "--predictions-as",
        metavar="NAME",
        help="name under which the scoring program finds a submission's only file (default: its own)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..tasks.importers import import_codabench, import_evalai

    given: dict[str, Any] = {"image": args.image, "predictions_as": args.predictions_as}
    if args.platform == "codabench":
        _refuse("--phase", args.phase, "codabench has tasks: --task INDEX")
        report = import_codabench(args.source, args.out, task=args.task, shared=args.shared, **given)
    else:
        _refuse("--task", args.task, "evalai has phases: --phase CODENAME")
        _refuse("--shared", args.shared or None, "evalai has no input data")
        report = import_evalai(args.source, args.out, phase=args.phase, **given)
    scorer = args.out / report.scorer_file.relative_to(report.benchmark)
    return {
        **report.to_dict(),
        "next": [
            {"command": f"autoscorer scorers load {shlex.quote(str(scorer))}", "does": "makes its scorer known"},
            {"command": f"autoscorer benchmark validate {shlex.quote(str(args.out))}", "does": "checks it"},
        ],
    }


def _refuse(option: str, value: object, why: str) -> None:
    if value is not None:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{option}: {why}.")


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
