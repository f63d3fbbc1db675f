"""``autoscorer benchmark``: write, check, list and show benchmarks, and their leaderboards."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .arguments import add_common, positive
from .output import bounds, number, printable

__all__ = ["add_arguments", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, *, of_one: bool = True) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if of_one:
            added.add_argument("benchmark", metavar="BENCHMARK", help="folder with benchmark.json and input/")
        add_common(added, of_action=True)
        return added

    new = action("new", "write a benchmark that works as it is, with a submission to try", of_one=False)
    new.add_argument("directory", metavar="DIR", help="where to write; its name becomes the benchmark's")
    new.add_argument("--task", choices=("classification", "regression", "detection"), help="kind of example")
    new.add_argument("--from", dest="workspace", metavar="WORKSPACE", help="take data, truth and scorer of a workspace")
    action("validate", "check a benchmark; every problem at once")
    listed = action("list", "list the benchmarks below a folder", of_one=False)
    listed.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="where to look (default: here)")
    action("show", "show a benchmark, its versions and its submissions")
    board = action("leaderboard", "show who is best")
    board.add_argument("--private", action="store_true", help="of the withheld part")
    board.add_argument("--as-team", action="store_true", help="as teams see it: frozen, rounded, by the Ladder")
    board.add_argument("--team", metavar="TEAM", help="every submission of one team instead")
    board.add_argument("--csv", metavar="FILE", help="write it there, too")
    board.add_argument("--markdown", metavar="FILE", help="write it there as a table of Markdown, too")
    chosen = action("choose", "have a submission of a team count, where the leaderboard goes by that")
    chosen.add_argument("team", metavar="TEAM")
    chosen.add_argument("number", metavar="NUMBER", type=positive)
    action("release", "let teams see the scores of the withheld part")
    schema = action("schema", "print the JSON schema of benchmark.json", of_one=False)
    schema.set_defaults(json=True)


def run(args: argparse.Namespace) -> Json:
    return _ACTIONS[args.action](args)


def render(data: Json, args: argparse.Namespace) -> None:
    _VIEWS[args.action](data, args)


def _new(args: argparse.Namespace) -> Json:
    from .benchmark_templates import from_workspace, write_benchmark

    if args.workspace is not None:
        if args.task is not None:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, "Give --task or --from; a workspace has its own.")
        return from_workspace(args.workspace, args.directory)
    return write_benchmark(args.directory, args.task or "classification")


def _validate(args: argparse.Namespace) -> Json:
    from ..core.benchmark import BenchmarkFolder
    from ..tasks.benchmarks.check import validate_benchmark

    _load_scorers(args)
    return validate_benchmark(BenchmarkFolder(args.benchmark), args.settings)


def _list(args: argparse.Namespace) -> Json:
    from ..core.benchmark import find_benchmarks

    found = []
    for folder in find_benchmarks(Path(args.folder)):
        row: Json = {"benchmark": str(folder.root), "name": folder.root.name}
        try:
            spec = folder.read()
            row |= {"title": spec.title, "scorer": spec.scorer, "error": None}
        except AutoScorerError as error:
            row |= {"title": None, "scorer": None, "error": error.code.value}
        found.append({**row, "submissions": sum(1 for _ in folder.submissions())})
    return {"benchmarks": found}


def _show(args: argparse.Namespace) -> Json:
    from dataclasses import asdict

    from ..core.benchmark import BenchmarkFolder
    from ..tasks.benchmarks.listing import list_submissions
    from ..tasks.benchmarks.release import is_released
    from ..tasks.submissions.version import known_versions

    folder = BenchmarkFolder(args.benchmark)
    spec = folder.read()
    return {
        "benchmark": str(folder.root),
        "spec": spec.model_dump(mode="json"),
        "versions": [asdict(version) for version in known_versions(folder)],
        "released": is_released(folder, spec),
        "submissions": list_submissions(folder),
    }


def _leaderboard(args: argparse.Namespace) -> Json:
    from ..core.benchmark import BenchmarkFolder
    from ..core.scores import read_scores
    from ..tasks.benchmarks.leaderboard import board_of, history, to_csv, to_markdown
    from ..tasks.submissions.version import known_versions
    from .batch import check_writable

    for path in (args.csv, args.markdown):
        if path is not None:
            check_writable(path)
    folder = BenchmarkFolder(args.benchmark)
    spec = folder.read()
    if args.private and spec.withheld is None:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{spec.name} withholds no part of its ground truth.")
    if args.team is not None:
        rows = history(read_scores(folder, private=args.private), args.team)
        return {"benchmark": spec.name, "team": args.team, "submissions": rows}
    versions = known_versions(folder)
    rows = board_of(
        folder,
        spec,
        private=args.private,
        as_team=args.as_team,
        version=versions[-1].number if versions else None,
    )
    if args.csv is not None:
        Path(args.csv).write_text(to_csv(rows), encoding="utf-8", newline="")
    if args.markdown is not None:
        Path(args.markdown).write_text(to_markdown(rows), encoding="utf-8")
    return {"benchmark": spec.name, "part": "private" if args.private else "public", "leaderboard": rows}


def _choose(args: argparse.Namespace) -> Json:
    from ..core.benchmark import BenchmarkFolder
    from ..tasks.benchmarks.choice import choose

    choose(BenchmarkFolder(args.benchmark), args.team, args.number)
    return {"team": args.team, "number": args.number}


def _release(args: argparse.Namespace) -> Json:
    from ..core.benchmark import BenchmarkFolder
    from ..tasks.benchmarks.release import release

    folder = BenchmarkFolder(args.benchmark)
    release(folder)
    return {"benchmark": str(folder.root), "released": True}


def _schema(args: argparse.Namespace) -> Json:
    from ..schemas.benchmark import Benchmark

    return Benchmark.model_json_schema()


def _load_scorers(args: argparse.Namespace) -> None:
    from .custom import load_custom_scorers

    load_custom_scorers(args.settings, args.scorers_dirs)


_ACTIONS: dict[str, Callable[[argparse.Namespace], Json]] = {
    "new": _new,
    "validate": _validate,
    "list": _list,
    "show": _show,
    "leaderboard": _leaderboard,
    "choose": _choose,
    "release": _release,
    "schema": _schema,
}


# --- for a person ---------------------------------------------------------------------------------------------------


def _print_new(data: Json, args: argparse.Namespace) -> None:
    from .benchmark_templates import print_new

    print_new(data)


def _print_valid(data: Json, args: argparse.Namespace) -> None:
    print(f"{printable(data['name'])} is valid: version {data['version']}, {data['submissions']} submissions")
    if data["withheld"]:
        print("rows: " + ", ".join(f"{count} {part}" for part, count in sorted(data["withheld"].items())))
    for note in data["notes"]:
        print("note: " + printable(note))


def _print_list(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    table = terminal.table("benchmark", "title", "scorer", "submissions", "error", right=("submissions",))
    for row in data["benchmarks"]:
        cells = (row["benchmark"], row["title"] or "", row["scorer"] or "", str(row["submissions"]), row["error"] or "")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    terminal.console().print(table)


def _print_shown(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    spec, console = data["spec"], terminal.console()
    console.print(Text.assemble((printable(spec["name"]), "bold"), ("  " + printable(spec["scorer"]), "dim")))
    if spec["title"]:
        console.print(Text(printable(spec["title"])))
    for version in data["versions"]:
        console.print(Text(f"version {version['number']}  since {version['since']}  {version['digest'][:12]}"))
    if spec["withheld"] is not None:
        console.print(Text("withheld part: " + ("released" if data["released"] else "not released")))
    table = terminal.table("team", "number", "kind", "score", "version", "error", "label", right=("number", "score"))
    for row in data["submissions"]:
        cells = (
            row["team"],
            str(row["number"]),
            row["kind"] or "",
            number(row["score"]) if row["score"] is not None else "",
            str(row["version"] or ""),
            row["error"] or "",
            row["label"] or "",
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)


def _print_board(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    rows = data.get("leaderboard")
    if rows is None:
        rows = [{**row, "place": row["number"], "submissions": None} for row in data["submissions"]]
    head = "place" if "leaderboard" in data else "number"
    table = terminal.table(head, "team", "score", "interval", "label", "submissions", right=(head, "score"))
    for row in rows:
        spread = bounds(row) if row["low"] is not None else ""
        cells = (
            str(row["place"]),
            row["team"],
            number(row["score"]) if row["score"] is not None else (row.get("error") or ""),
            spread,
            row["label"] or "",
            "" if row["submissions"] is None else str(row["submissions"]),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    terminal.console().print(table)
    if any(row.get("outdated") for row in rows):
        print(f"Scores of an older version of the benchmark are among these: `autoscorer rescore {args.benchmark}`.")


def _print_done(data: Json, args: argparse.Namespace) -> None:
    print("; ".join(f"{key}: {printable(str(value))}" for key, value in data.items()))


def _print_schema(data: Json, args: argparse.Namespace) -> None:
    import json

    print(json.dumps(data, indent=2))


_VIEWS: dict[str, Callable[[Json, argparse.Namespace], None]] = {
    "new": _print_new,
    "validate": _print_valid,
    "list": _print_list,
    "show": _print_shown,
    "leaderboard": _print_board,
    "choose": _print_done,
    "release": _print_done,
    "schema": _print_schema,
}
