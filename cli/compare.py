"""``autoscorer compare``: two tasks side by side, and the samples of which they say something else."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, as_json, connect
from .arguments import positive
from .output import bounds, number, printable

Json = dict[str, Any]

# The samples that a person is shown; the rest can be asked for.
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a task, as status shows it")
    parser.add_argument("b", metavar="B", help="the task to hold against it")
    parser.add_argument(
        "--change",
        choices=("gained", "lost", "other"),
        help="of the samples only those: wrong then right, right then wrong, another prediction",
    )
    parser.add_argument(
        "--limit", metavar="N", type=positive, default=_SHOWN, help=f"most samples, up to 500 (default: {_SHOWN})"
    )
    add_api(parser)
    parser.epilog = "Examples: autoscorer compare TASK_A TASK_B; autoscorer compare TASK_A TASK_B --change lost"


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client:
        return as_json(client.compare(args.a, args.b, change=args.change, limit=args.limit))


def render(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    for name in ("a", "b"):
        side = data[name]
        where = "  ".join(str(each) for each in (side["workspace"], side["scorer"], side["error"]) if each)
        better = "  better" if data["better"] == name else ""
        console.print(Text.assemble((f"{name} ", "dim"), (side["task_id"], "bold"), f"  {printable(where)}{better}"))
    metrics = terminal.table("metric", "a", "b", "b − a", "interval of a", "interval of b", right=("a", "b", "b − a"))
    shown = [each for each in data["metrics"] if "/" not in each["name"]]
    for each in shown:
        metrics.add_row(
            Text(printable(each["name"])),
            number(each["a"]),
            number(each["b"]),
            _signed(each["difference"]),
            *(Text(bounds(each[side]), style="dim") for side in ("interval_a", "interval_b")),
        )
    console.print(metrics)
    if len(shown) < len(data["metrics"]):
        console.print(Text(f"and {len(data['metrics']) - len(shown)} per-class metrics", style="dim"))
    differing = [*data["params"], *data["provenance"]]
    if differing:
        table = terminal.table("differs", "a", "b")
        for each in differing:
            table.add_row(*(Text(cell(each[key])) for key in ("name", "a", "b")))
        console.print(table)
    if data["samples"] is not None:
        _print_samples(console, data["samples"])
    for note in data["notes"]:
        console.print(Text("note: " + printable(note["text"]), style="yellow"), soft_wrap=True)


def _print_samples(console: Any, samples: Json) -> None:
    from rich.text import Text

    from . import terminal

    counts = ", ".join(f"{samples[name]:,} {name}" for name in ("lost", "gained", "other"))
    console.print(Text(f"{samples['compared']:,} samples compared: {counts}"))
    if not samples["samples"]:
        return
    left = samples["found"] - len(samples["samples"])
    more = {"caption": f"and {left:,} more", "caption_justify": "left"} if left else {}
    table = terminal.table("sample", "", "expected", "a", "b", **more)
    for each in samples["samples"]:
        values = (each["id"], each["change"], each["a"]["expected"], each["a"]["predicted"], each["b"]["predicted"])
        table.add_row(*(Text(cell(value)) for value in values))
    console.print(table)


def _signed(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:+.6g}"


def cell(value: Any) -> str:
    """Of anything that a Result holds, what fits into a cell."""
    text = "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    text = printable(text).replace("\n", " ")
    return text if len(text) <= 60 else text[:59] + "…"
