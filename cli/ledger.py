"""``autoscorer ledger``: the database of accepted tasks, brought up to date or moved to another one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .arguments import add_common

__all__ = ["add_arguments", "render", "run"]

ACTIONS = {
    "upgrade": "make the tables, or bring them up to date, after a new AutoScorer was installed",
    "export": "write every task to a file, to be imported into another ledger; stop the APIs first",
    "import": "read a file that export wrote into an empty ledger",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name != "upgrade":
            action.add_argument("file", metavar="FILE", type=Path, help="JSON Lines, readable by its owner alone")
        add_common(action, of_action=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    import asyncio

    from ..service.ledger import maintenance

    if args.action == "upgrade":
        return asyncio.run(maintenance.upgrade_ledger(args.settings))
    try:
        if args.action == "import":
            with args.file.open(encoding="ascii") as file:
                return asyncio.run(maintenance.import_ledger(args.settings, file))
        # Whole or not at all: under another name until it is.
        part = args.file.with_name(args.file.name + ".part")
        with open(part, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            written = asyncio.run(maintenance.export_ledger(args.settings, file))
            file.flush()
            os.fsync(file.fileno())
        part.replace(args.file)
        return written
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{str(args.file)!r} can't be used: {why}.") from None


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    if args.action == "upgrade":
        if data["from"] == data["to"]:
            print(f"The ledger is of revision {data['to']} already.")
        else:
            print(f"The ledger is of revision {data['to']} now; it was of {data['from'] or 'none'}.")
        return
    rows = ", ".join(f"{number:,} {name}" for name, number in data.items())
    print(f"{'Read' if args.action == 'import' else 'Wrote'} {rows}.")
