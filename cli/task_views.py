"""Tasks and leaderboards of the API for a person at a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from . import terminal
from .output import bounds, number, print_model_log, print_result, printable

__all__ = ["counts", "leaderboard_table", "print_leaderboard", "print_task", "task_table", "workspace_table"]

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
    console = terminal.console()
    heading = Text.assemble((task["id"], "bold"), f"  {task['action']}  ", _state(task))
    console.print(heading)
    for name, value in _facts(task):
        console.print(Text.assemble((f"{name:<9} ", "dim"), printable(value)))
    error, result = task["error"], task["result"]
    if error is not None:
        console.print(Text.assemble((error["code"], "bold red"), f" ({error['stage']})  ", printable(error["message"])))
        print_model_log(console, error)
    elif task["action"] in ("pipeline", "score") and result is not None:
        print_result(result, task["workspace"] or "")


def task_table(tasks: list[Json], total: int) -> Table:
    """A list of tasks."""
    shown = f"{len(tasks)} of {total} tasks" if total > len(tasks) else f"{total} tasks"
    columns = ("task", "action", "workspace", "state", "score or stage", "scorer", "tries", "created", "took")
    table = terminal.table(*columns, right=("tries", "took"), caption=shown, caption_justify="left")
    table.columns[0].no_wrap = True
    for task in tasks:
        table.add_row(
            task["id"],
            task["action"],
            Text(_workspace(task)),
            _state(task),
            _how(task),
            Text(printable(task["scorer"] or "")),
            str(task["attempts"]) if task["attempts"] > 1 else "",
            _when(task["created_at"])[:-3],
            _took(task["run_seconds"]),
        )
    return table


def print_leaderboard(batch: Json, *, to_stderr: bool = False) -> None:
    """A batch: its counts, and its workspaces, best first."""
    console = terminal.console(stderr=to_stderr)
    summary = batch["summary"]
    total, done = summary["total"], summary["done"]
    so_far = f"{done} of {total} workspaces" if total is not None and total > done else f"{done} workspaces"
    seconds = f" in {_took(summary['seconds'])}" if summary["seconds"] is not None else ""
    console.print(Text.assemble((f"{so_far}{seconds}", "bold"), f": {counts(summary) or 'nothing done'}"))
    if batch["leaderboard"]:
        console.print(leaderboard_table(batch["leaderboard"]))


def counts(summary: Json) -> str:
    """How many workspaces of a batch ended how."""
    names = ("completed", "failed", "cancelled", "duplicates")
    return ", ".join(f"{summary[name]} {name}" for name in names if summary.get(name))


def leaderboard_table(rows: list[Json], *, first: int | None = None) -> Table:
    """A leaderboard.

    Args:
        rows: All of it.
        first: Only so many rows, and how many more there are.
    """
    left = 0 if first is None else max(len(rows) - first, 0)
    more = {"caption": f"and {left} more", "caption_justify": "left"} if left else {}
    columns = ("", "workspace", "metric", "score", "interval", "pass", "rank", "took", "error")
    table = terminal.table(*columns, right=("", "score", "took"), **more)
    for row in rows[:first]:
        table.add_row(
            "" if row["place"] is None else str(row["place"]),
            Text(printable(row["workspace"])),
            Text(printable(row.get("metric") or "")),
            number(row["score"]) if row["state"] == "completed" else "",
            Text(bounds(row), style="dim"),
            terminal.VERDICT[row["pass"]],
            Text(printable(row["rank"] or "")),
            _took(row["seconds"]),
            Text(printable(row["error"] or ""), style="red"),
        )
    return table


def _facts(task: Json) -> list[tuple[str, str]]:
    callback, done = task["callback"], task["progress"]
    delivery = ""
    if callback is not None:
        attempts = f" after {callback['attempts']} attempts" if callback["attempts"] > 1 else ""
        delivery = f"{callback['state']}{attempts}" + (f": {callback['last_error']}" if callback["last_error"] else "")
    facts = {
        "workspace": _workspace(task),
        "batch": task["parent"] or "",
        "scorer": task["scorer"] or "",
        "score": _score(task["outcome"], interval=True).plain,
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


def _how(task: Json) -> Text:
    """How it ended, or how far it is."""
    if task["error"] is not None:
        return Text(printable(task["error"]["code"]), style="red")
    done = task["progress"]
    stage = f"{done['done']}/{done['total']}" if done else task["stage"] or ""
    return _score(task["outcome"]) if task["outcome"] is not None else Text(printable(stage))


def _score(outcome: Json | None, *, interval: bool = False) -> Text:
    """The main metric by its name, and whether it passed."""
    if outcome is None:
        return Text("")
    shown = f"{printable(outcome['metric'] or 'score')} {number(outcome['score'])}"
    if interval and outcome["interval"] is not None:
        shown += f" {bounds(outcome['interval'])}"
    text = Text(shown)
    if outcome["pass"] is not None:
        text.append("  pass" if outcome["pass"] else "  fail", "green" if outcome["pass"] else "bold red")
    return text


def _when(moment: str) -> str:
    """To the second: a list is read, not computed with."""
    return f"{moment[:10]} {moment[11:19]}"


def _state(task: Json) -> Text:
    return Text(task["state"], style=_STYLES.get(task["state"], ""))


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def workspace_table(workspaces: list[Json]) -> Table:
    """Workspaces of the API, each with what its last Result says."""
    table = terminal.table("workspace", "scorer", "score", "pass", "rank", "scored", "error", right=("score",))
    for each in workspaces:
        table.add_row(
            Text(printable(each["name"])),
            Text(printable(each["scorer"] or "")),
            "" if each["score"] is None else number(each["score"]),
            terminal.VERDICT[each["pass"]],
            Text(printable(each["rank"] or "")),
            _when(each["scored_at"]) if each["scored_at"] else "",
            Text(printable(each["error"] or ""), style="red"),
        )
    return table
