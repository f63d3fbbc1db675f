"""``autoscorer config``: the configuration that is in effect, where it comes from, and whether it is right."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from ..core.config import Settings, load_settings
from .arguments import add_common, tell_notes

__all__ = ["add_arguments", "render", "run"]

ACTIONS = {
    "show": "print the effective configuration, secrets masked",
    "dump": "print every value of it with what set it, secrets masked",
    "validate": "check the file and the environment; report everything that is wrong",
    "paths": "show which files are looked at, which exist, and which one is read",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        add_common(actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."), of_action=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    return _ACTIONS[args.action](args)


def _told(args: argparse.Namespace) -> Settings:
    settings = load_settings(args.config)
    tell_notes(settings)
    return settings


def _show(args: argparse.Namespace) -> dict[str, Any]:
    return _told(args).to_dict()


def _dump(args: argparse.Namespace) -> dict[str, Any]:
    from ..core.config_origins import origins

    return {
        key: {"value": origin.value, "from": origin.source, "name": origin.name}
        for key, origin in origins(_told(args)).items()
    }


def _validate(args: argparse.Namespace) -> dict[str, Any]:
    source = _told(args).source
    return {"valid": True, "file": None if source is None else str(source)}


def _paths(args: argparse.Namespace) -> dict[str, Any]:
    from ..core.config_origins import looked_at

    # Also of a configuration that is wrong: to mend it one has to find it.
    return {
        "paths": [
            {
                "named_by": place.named_by,
                "path": None if place.path is None else str(place.path),
                "exists": place.exists,
                "used": place.used,
            }
            for place in looked_at(args.config)
        ]
    }


_ACTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "show": _show,
    "dump": _dump,
    "validate": _validate,
    "paths": _paths,
}


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    from .output import printable

    match args.action:
        case "show":
            import yaml

            print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
        case "dump":
            for key, item in data.items():
                by = "default" if item["name"] is None else f"{item['from']}: {item['name']}"
                print(printable(f"{key}: {json.dumps(item['value'], ensure_ascii=False)}  # {by}"))
        case "validate":
            print("The configuration is valid: " + printable(data["file"] or "no file, the environment and defaults"))
        case _:
            for place in data["paths"]:
                there = "read" if place["used"] else "exists" if place["exists"] else "not there"
                named = place["path"] if place["path"] is not None else "–"
                print(printable(f"{place['named_by']:<18} {there if place['path'] else 'not given':<10} {named}"))
