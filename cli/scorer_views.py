"""What ``autoscorer scorers`` shows on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.text import Text

from . import terminal
from .output import bounds, number, printable

__all__ = ["VIEWS"]


def _say(text: str, style: str = "") -> None:
    terminal.console().print(Text(printable(text), style=style), soft_wrap=True)


def _show_list(data: Mapping[str, Any]) -> None:
    table = terminal.table("id", "version", "metric", "origin", "description")
    for item in data["scorers"]:
        arrow = "↑" if item["higher_is_better"] else "↓"
        origin = item["origin"] if item["status"] == "ok" else f"{item['origin']}, stale"
        cells = (item["id"], item["version"], f"{item['metric']} {arrow}", origin, item["description"])
        style = "" if item["status"] == "ok" else "yellow"
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    terminal.console().print(table)
    for failure in data["errors"]:
        _say(f"does not load: {failure['error']['message']}", "red")


def _show_one(data: Mapping[str, Any]) -> None:
    _say(f"{data['id']} {data['version']}", "bold")
    if data["description"]:
        _say(data["description"])
    table = terminal.table("", "", show_header=False)
    facts = {
        "task type": data["task_type"],
        "metric": f"{data['metric']}, {'higher' if data['higher_is_better'] else 'lower'} is better",
        "origin": data["origin"],
        "source": f"{data['source']}:{data['line']}" if data["source"] else "–",
        "sha256": data["sha256"] or "–",
        **{f"imports {name}": sha256 for name, sha256 in data["siblings"].items()},
        "loaded at": data["loaded_at"],
        "status": data["status"] if data["error"] is None else f"{data['status']}: {data['error']}",
    }
    for name, value in facts.items():
        table.add_row(Text(printable(name), style="dim"), Text(printable(str(value))))
    terminal.console().print(table)
    params = terminal.table("param", "type", "default", "description")
    for name, schema in data["params_schema"].get("properties", {}).items():
        default = "required" if name in data["params_schema"].get("required", ()) else repr(schema.get("default"))
        cells = (name, _type_of(schema), default, schema.get("description", ""))
        params.add_row(*(Text(printable(cell)) for cell in cells))
    terminal.console().print(params)


def _type_of(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_of(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(repr(value) for value in schema["enum"])
    return str(schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])


def _show_loaded(data: Mapping[str, Any]) -> None:
    for item in data["scorers"]:
        _say(f"{item['id']} {item['version']}  {data['file']}:{item['line']}")
    _say(f"Recorded in {data['recorded_in']}: every command and server of this home knows it now.", "dim")


def _show_reloaded(data: Mapping[str, Any]) -> None:
    if data["changes"] is None:
        for item in data["scorers"]:
            _say(f"{item['id']} {item['version']}")
        return
    for item in data["changes"]:
        versions = dict.fromkeys(v for v in (item["version_before"], item["version"]) if v is not None)
        _say(f"{item['id']} {' → '.join(versions)}  {item['change']}")


def _show_unloaded(data: Mapping[str, Any]) -> None:
    _say(f"{data['file']} is forgotten, and with it {', '.join(data['unloaded'])}. The file itself stays.")


def _show_test(data: Mapping[str, Any]) -> None:
    scorer, summary = data["scorer"], data["summary"]
    verdict = terminal.VERDICT[summary["pass"]].upper()
    heading = f"{scorer['id']} {scorer['version']}  score {number(summary['score'])}  {verdict}"
    _say(heading.rstrip(), "bold")
    table = terminal.table("metric", "value", "interval")
    for name, value in data["metrics"].items():
        spread = bounds(data["intervals"].get(name))
        table.add_row(Text(printable(name)), Text(number(value)), Text(spread, style="dim"))
    terminal.console().print(table)
    for note in data["notes"]:
        _say(f"note: {note}", "yellow")
    seconds = data["seconds"]
    _say(f"validate {seconds['validate']:.3f} s, score {seconds['score']:.3f} s; the workspace is unchanged", "dim")


def _show_new(data: Mapping[str, Any]) -> None:
    for path in data["files"]:
        _say(f"wrote {path}")
    _say(f"Test it:  python -m pytest {data['test']}", "dim")
    _say(f"Use it:   autoscorer scorers load {data['scorer']}", "dim")


VIEWS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "list": _show_list,
    "show": _show_one,
    "load": _show_loaded,
    "reload": _show_reloaded,
    "unload": _show_unloaded,
    "test": _show_test,
    "new": _show_new,
}
