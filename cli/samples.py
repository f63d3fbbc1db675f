"""``autoscorer samples``: the rows of a task, the wrong ones first."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, as_json, connect
from .arguments import positive
from .compare import cell

Json = dict[str, Any]

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", help="as submit and status show it")
    parser.add_argument("--verdict", choices=("right", "wrong"), help="only those")
    parser.add_argument(
        "--find", metavar="TEXT", help="only samples with this text in their id, prediction, truth or question"
    )
    parser.add_argument("--limit", metavar="N", type=positive, default=_SHOWN, help=f"most samples (default: {_SHOWN})")
    add_api(parser)
    parser.epilog = "Examples: autoscorer samples TASK_ID --verdict wrong; autoscorer samples TASK_ID --find cat"


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client:
        return as_json(client.samples(args.task_id, verdict=args.verdict, q=args.find, limit=args.limit))


def render(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    counts, measure = data["counts"], data["measure"]
    kept = "" if data["kept"] == data["total"] else f", {data['kept']:,} of them kept"
    told = f": {counts['right']:,} right, {counts['wrong']:,} wrong" if counts is not None else ""
    console.print(Text(f"{data['total']:,} samples{kept}{told}"))
    if not data["samples"]:
        return
    left = data["found"] - len(data["samples"])
    more = {"caption": f"and {left:,} more", "caption_justify": "left"} if left else {}
    columns = ["sample", "verdict", "expected", "predicted", *([cell(measure["name"])] if measure is not None else [])]
    table = terminal.table(*columns, **more)
    for each in data["samples"]:
        values = [each["id"], each["verdict"], each["expected"], each["predicted"], each["value"]]
        table.add_row(*(Text(cell(value)) for value in values[: len(columns)]))
    console.print(table)
