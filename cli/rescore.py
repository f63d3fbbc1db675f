"""``autoscorer rescore``: score all kept predictions of a benchmark again, without running a model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .output import number, printable

__all__ = ["add_arguments", "exit_code", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="folder with benchmark.json and input/")
    parser.add_argument("--team", metavar="TEAM", help="of this team alone")
    parser.add_argument(
        "--all", action="store_true", dest="everything", help="also what is scored by the version of now already"
    )


def run(args: argparse.Namespace) -> Json:
    from ..core.benchmark import BenchmarkFolder
    from ..tasks.benchmarks.leaderboard import board_of
    from ..tasks.benchmarks.rescore import rescore
    from .custom import command_scoring, load_custom_scorers
    from .terminal import console, counting_bar, is_watched

    folder = BenchmarkFolder(args.benchmark)
    spec = folder.read()
    load_custom_scorers(args.settings, args.scorers_dirs)
    places = _places(board_of(folder, spec))
    total = sum(1 for _ in folder.submissions(args.team))
    done = []
    with (
        counting_bar(console=console(stderr=True), disable=not is_watched(args)) as bar,
        command_scoring(args) as scoring,
    ):
        row = bar.add_task("rescore", total=total, counts="")
        for each in rescore(folder, args.settings, scoring, team=args.team, everything=args.everything):
            done.append({**asdict(each), "moved": each.moved})
            bar.advance(row)
    now = _places(board_of(folder, spec))
    return {
        "benchmark": spec.name,
        "submissions": done,
        "counts": {state: sum(each["state"] == state for each in done) for state in _STATES},
        "places": [
            {"team": team, "before": places.get(team), "after": place}
            for team, place in now.items()
            if places.get(team) != place
        ],
    }


_STATES = ("scored", "current", "failed", "skipped")


def exit_code(data: Json) -> int:
    return 1 if data["counts"]["failed"] else 0


def render(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    print(f"{printable(data['benchmark'])}: " + ", ".join(f"{n} {state}" for state, n in data["counts"].items() if n))
    moved = [each for each in data["submissions"] if each["moved"] or each["state"] == "failed"]
    if moved:
        table = terminal.table("team", "number", "before", "after", "error", right=("number", "before", "after"))
        for each in moved:
            scores = (number(each[key]) if each[key] is not None else "" for key in ("before", "after"))
            error = each["error"]["code"] if each["error"] else ""
            table.add_row(*(Text(printable(cell)) for cell in (each["team"], str(each["number"]), *scores, error)))
        terminal.console().print(table)
    for each in data["places"]:
        print(f"{printable(each['team'])}: place {each['before'] or 'none'} → {each['after']}")


def _places(rows: list[Json]) -> dict[str, int]:
    return {row["team"]: row["place"] for row in rows}
