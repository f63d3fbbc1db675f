"""Tasks and leaderboards of the API for a person at a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .output import number, print_result, printable

__all__ = ["print_leaderboard", "print_task", "task_table"]

Json = dict[str, Any]

_STYLES = {
    "queued": "dim",
    "running": "cyan",
    "cancelling": "yellow",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
}


def print_task(task: Json) -> None:
    """One task: what it is, how it went, and its Result when it has one."""
    console = Console(highlight=False)
    heading = Text.assemble((task["id"], "bold"), f"  {task['action']}  ", _state(task))
    console.print(heading)
    for name, value in _facts(task):
        console.print(Text.assemble((f"{name:<9} ", "dim"), printable(value)))
    error, result = task["error"], task["result"]
    if error is not None:
        console.print(Text.assemble((error["code"], "bold red"), f" ({error['stage']})  ", printable(error["message"])))
        for line in error["details"].get("log") or []:
            console.print(Text("    │ " + printable(str(line)), style="dim"))
    elif task["action"] in ("pipeline", "score") and result is not None:
        print_result(result, task["workspace"] or "")


def task_table(tasks: list[Json], total: int) -> Table:
    """A list of tasks."""
    shown = f"{len(tasks)} of {total} tasks" if total > len(tasks) else f"{total} tasks"
    table = Table(box=None, pad_edge=False, header_style="dim", caption=shown, caption_justify="left")
    for name in ("task", "action", "workspace", "state", "stage", "tries", "created", "took"):
        table.add_column(name, justify="right" if name in ("tries", "took") else "left", no_wrap=name == "task")
    for task in tasks:
        done = task["progress"]
        stage = f"{done['done']}/{done['total']}" if done else (task["error"] or {}).get("code") or task["stage"] or ""
        table.add_row(
            task["id"],
            task["action"],
            Text(_workspace(task)),
            _state(task),
            Text(printable(stage)),
            str(task["attempts"]) if task["attempts"] > 1 else "",
            task["created_at"],
            _took(task["run_seconds"]),
        )
    return table


def print_leaderboard(batch: Json) -> None:
    """A batch: its counts, and its workspaces, best first."""
    console = Console(highlight=False)
    summary = batch["summary"]
    counts = ", ".join(f"{summary[name]} {name}" for name in ("completed", "failed", "cancelled") if summary[name])
    seconds = f" in {_took(summary['seconds'])}" if summary["seconds"] is not None else ""
    console.print(Text.assemble((f"{summary['done']} workspaces{seconds}", "bold"), f": {counts or 'nothing done'}"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "workspace", "metric", "score", "interval", "pass", "rank", "took", "error"):
        table.add_column(name, justify="right" if name in ("", "score", "took") else "left")
    for row in batch["leaderboard"]:
        low, high = row.get("low"), row.get("high")
        table.add_row(
            "" if row["place"] is None else str(row["place"]),
            Text(printable(row["workspace"])),
            Text(printable(row.get("metric") or "")),
            number(row["score"]) if row["state"] == "completed" else "",
            Text("" if low is None or high is None else f"[{number(low)}, {number(high)}]", style="dim"),
            {True: "pass", False: "fail", None: ""}[row["pass"]],
            Text(printable(row["rank"] or "")),
            _took(row["seconds"]),
            Text(printable(row["error"] or ""), style="red"),
        )
    console.print(table)


def _facts(task: Json) -> list[tuple[str, str]]:
    callback, done = task["callback"], task["progress"]
    delivery = ""
    if callback is not None:
        attempts = f" after {callback['attempts']} attempts" if callback["attempts"] > 1 else ""
        delivery = f"{callback['state']}{attempts}" + (f": {callback['last_error']}" if callback["last_error"] else "")
    facts = {
        "workspace": _workspace(task),
        "stage": task["stage"] or "",
        "progress": f"{done['done']} of {done['total']}" if done else "",
        "attempts": str(task["attempts"]) if task["attempts"] > 1 else "",
        "reason": task["reason"] or "",
        "created": task["created_at"],
        "took": _took(task["run_seconds"]),
        "flow run": task["flow_run_id"] or "",
        "callback": delivery,
    }
    return [(name, value) for name, value in facts.items() if value]


def _workspace(task: Json) -> str:
    if task["workspace"] is not None:
        return printable(task["workspace"])
    several = task["workspaces"] or []
    more = f" and {len(several) - 1} more" if len(several) > 1 else ""
    return printable(several[0]) + more if several else ""


def _state(task: Json) -> Text:
    return Text(task["state"], style=_STYLES.get(task["state"], ""))


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
