"""What the command prints: one JSON envelope for programs, a readable view for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import AutoScorerError
from ..core.provenance import utc_now
from ..core.text import replace

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["bounds", "failure", "number", "print_model_log", "print_result", "printable", "say", "success"]


def success(data: Any, seconds: float) -> None:
    """Print the success envelope on stdout."""
    _print({"status": "success", "data": data, "execution_time": round(seconds, 4), "timestamp": utc_now()})


def failure(error: AutoScorerError, as_json: bool) -> None:
    """Print the error envelope on stdout, or the error in words on stderr."""
    if as_json:
        _print({"status": "error", "error": error.to_dict(), "timestamp": utc_now()})
        return
    from rich.text import Text

    from . import terminal

    console = terminal.console(stderr=True)
    told = error.to_dict()
    problems = error.details.get("problems") or [told]
    if isinstance(problems[0], str):
        # Of one thing, such as the configuration: what is wrong, and below it a line for each; the message has both.
        _print_problem(console, {**told, "message": error.message.partition(": " + problems[0])[0]})
        for text in problems:
            console.print(Text("  • " + printable(text)), soft_wrap=True)
        return
    for problem in problems:
        _print_problem(console, problem)


def _print_problem(console: Console, problem: dict[str, Any]) -> None:
    from rich.text import Text

    console.print(Text.assemble((problem["code"], "bold red"), " ", (f"({problem['stage']})", "dim"), "  "), end="")
    console.print(Text(printable(problem["message"])), soft_wrap=True)
    print_model_log(console, problem)


def print_result(data: dict[str, Any], workspace: str) -> None:
    """Print a Result for a person: score, interval, metrics, notes, where the report is."""
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    summary, versioning = data["summary"], data["versioning"]
    heading = Text.assemble((printable(str(data["job_id"])), "bold"), ("  " + str(versioning["scorer"]), "dim"))
    if summary["pass"] is not None:
        heading.append("  PASS" if summary["pass"] else "  FAIL", "bold green" if summary["pass"] else "bold red")
    if summary["rank"]:
        heading.append(f"  rank {summary['rank']}", "bold")
    console.print(heading)
    table = terminal.table("metric", "value", "interval", right=("value",))
    shown = {name: value for name, value in data["metrics"].items() if "/" not in name}
    for name, value in shown.items():
        interval = data["intervals"].get(name)
        spread = ""
        if interval:
            spread = f"{bounds(interval)}  {interval['level']:.0%}, {interval['method']}"
        main = value is not None and value == summary["score"] and name in summary
        table.add_row(
            Text(printable(name), style="bold" if main else ""), Text(number(value)), Text(spread, style="dim")
        )
    console.print(table)
    if len(shown) < len(data["metrics"]):
        console.print(Text(f"and {len(data['metrics']) - len(shown)} per-class metrics in the Result", style="dim"))
    for note in data["notes"]:
        console.print(Text("note: " + printable(note), style="yellow"))
    report = data["artifacts"].get("report")
    if report:
        # As it can be opened from here.
        print("report: " + printable(os.path.join(workspace, report["path"])))


def number(value: float | None) -> str:
    """A metric for a person: six significant digits, a dash where it is undefined."""
    return "–" if value is None else f"{value:.6g}"


def bounds(interval: Mapping[str, Any] | None) -> str:
    """``[low, high]``; empty where there is none."""
    if interval is None or interval.get("low") is None or interval.get("high") is None:
        return ""
    return f"[{number(interval['low'])}, {number(interval['high'])}]"


def print_model_log(where: Console, error: Mapping[str, Any]) -> None:
    """The last lines that the model wrote, where an error has them."""
    from rich.text import Text

    for line in error["details"].get("log") or []:
        where.print(Text("    │ " + printable(str(line)), style="dim"))


def printable(text: str) -> str:
    """Text of strangers without control characters, which a terminal would obey."""
    return replace(text, keep="\n")


def say(text: str) -> None:
    """One line for people, on stderr."""
    print(f"autoscorer: {printable(text)}", file=sys.stderr, flush=True)


def _print(envelope: dict[str, Any]) -> None:
    json.dump(envelope, sys.stdout, ensure_ascii=False, allow_nan=False, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()
