"""``autoscorer jobs``: the records of the first system, taken over."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_common
from .output import printable

__all__ = ["add_arguments", "exit_code", "render", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = (
        "list the first system's records DIR/*.json among the jobs, once however often it is done; stop the API first "
        "where the ledger is a file"
    )
    added = actions.add_parser("import", help=text, description=f"{text[0].upper()}{text[1:]}.")
    added.add_argument("dir", metavar="DIR", type=Path, help="folder with a JSON file for each job")
    add_common(added, of_action=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    import asyncio
    from dataclasses import asdict

    from ..service.job_import import import_jobs

    return asdict(asyncio.run(import_jobs(args.settings, args.dir)))


def exit_code(data: dict[str, Any]) -> int:
    return 1 if data["skipped"] else 0


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print(f"{data['imported']:,} jobs were imported, {data['known']:,} were there already.")
    if data["too_old"]:
        print(f"{data['too_old']:,} ended longer ago than api.keep_days says, and were left out.")
    for each in data["skipped"]:
        print(printable(f"{each['file']} was skipped: {each['why']}"))
