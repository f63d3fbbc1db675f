"""``autoscorer doctor --prove``: the matrix of attacks and backends."""

from __future__ import annotations

import argparse
from typing import Any

from .output import printable, say

__all__ = ["render_proof", "run_proof"]

_STYLES = {"held": "green", "not held": "bold red", "not tried": "yellow"}


def run_proof(args: argparse.Namespace) -> dict[str, Any]:
    """Attack the backends, and give the matrix."""
    from ..tasks.prove.matrix import prove

    return prove(args.settings, backends=args.backend, image=args.image, tell=say).to_dict()


def render_proof(data: dict[str, Any]) -> None:
    """Print the matrix for a person, and below it what did not hold and what was not tried."""
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    columns = [backend["backend"] for backend in data["backends"] if backend["tried"]]
    table = terminal.table("attack", *columns)
    for row in data["attacks"]:
        cells = [row["outcomes"].get(name) for name in columns]
        table.add_row(row["attack"], *(_cell(cell) for cell in cells))
    console.print(table)
    empty = {name: why for name in columns if (why := _why_nothing(data, name)) is not None}
    for name, why in empty.items():
        console.print(Text.assemble((f"{name}: not tried", "yellow"), "  ", printable(why)), soft_wrap=True)
    for row in data["attacks"]:
        for name in columns:
            cell = row["outcomes"].get(name)
            if cell is not None and cell["why"] and name not in empty:
                style = _STYLES[cell["state"]] if cell["promised"] else "dim"
                console.print(
                    Text.assemble((f"{row['attack']}, {name}: {cell['state']}", style), "  ", printable(cell["why"])),
                    soft_wrap=True,
                )
                if cell["state"] == "not held" and cell["promised"]:
                    console.print(Text(f"    promised: {row['promise']}", style="dim"), soft_wrap=True)
    for backend in data["backends"]:
        console.print(Text(printable(_described(backend)), style="dim"), soft_wrap=True)
    for backend in data["backends"]:
        if backend["tried"] and not backend["promises"]:
            console.print(Text("process promises limits of time and nothing else.", style="yellow"), soft_wrap=True)
    console.print(_verdict(data), soft_wrap=True)


def _cell(cell: dict[str, Any] | None) -> Any:
    from rich.text import Text

    if cell is None:
        return Text("–", style="dim")
    promised = cell["promised"] or cell["state"] == "held"
    return Text(cell["state"], style=_STYLES[cell["state"]]) if promised else Text(f"({cell['state']})", style="dim")


def _why_nothing(data: dict[str, Any], name: str) -> str | None:
    """Why nothing of a column could be tried, where that has one reason."""
    cells = [row["outcomes"][name] for row in data["attacks"] if name in row["outcomes"]]
    whys = {cell["why"] for cell in cells}
    return whys.pop() if len(whys) == 1 and {cell["state"] for cell in cells} == {"not tried"} else None


def _described(backend: dict[str, Any]) -> str:
    if not backend["tried"]:
        return f"{backend['backend']}: not tried. {backend['detail']}"
    told = f"{backend['backend']}: {backend['detail']}"
    if backend["runtime"] is not None:
        told += f"; runtime {backend['runtime']}"
    if backend["image"] is not None:
        told += f"; image: {backend['image']}"
    return f"{told}; {backend['seconds']:.0f} s"


def _verdict(data: dict[str, Any]) -> Any:
    from rich.text import Text

    if not data["holds"]:
        return Text("Something that is promised does not hold here.", style="bold red")
    if not data["ok"]:
        return Text("What was tried holds; something that was asked for could not be tried.", style="bold yellow")
    return Text("Everything that is promised and was tried holds.", style="bold green")
