"""``autoscorer tokens``: who may ask the API; made, listed and revoked while it runs."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.config_tokens import ROLES
from .arguments import add_common

__all__ = ["add_arguments", "render", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    texts = {
        "new": "make a token and show it, this once",
        "list": "list the tokens of the home, without what they are",
        "revoke": "refuse a token from now on",
    }
    parsers = {}
    for name, text in texts.items():
        parsers[name] = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    new = parsers["new"]
    new.add_argument("--role", choices=ROLES, required=True, help="what it may do")
    new.add_argument("--team", metavar="TEAM", help="with the role submit: the team that submits with it")
    new.add_argument(
        "--benchmark",
        metavar="NAME",
        action="append",
        default=[],
        help="with the role organiser: a benchmark, by its path below the workspace root; may be given several times",
    )
    new.add_argument("--note", metavar="TEXT", default="", help="whose it is, for the list")
    parsers["revoke"].add_argument("id", metavar="ID", help="its id in the list")
    for action in parsers.values():
        add_common(action, of_action=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..core.tokens import TokenFile

    file = TokenFile(args.settings.home)
    if args.action == "new":
        token, record = file.add(args.role, team=args.team, benchmarks=args.benchmark, note=args.note)
        return {"token": token, **_shown(record)}
    if args.action == "revoke":
        return _shown(file.revoke(args.id))
    return {"tokens": [_shown(record) for record in file.records()]}


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    if args.action == "new":
        print(data["token"])
        print(
            f"{data['id']}: {_whose(data)}. It is shown this once; an API of this home that asks for tokens takes it."
        )
    elif args.action == "revoke":
        print(f"Revoked {data['id']}: {_whose(data)}.")
    elif not data["tokens"]:
        print("There are no tokens in the home. `autoscorer tokens new` makes one.")
    for each in data.get("tokens", ()):
        print(f"{each['id']}  {each['created_at']}  {_whose(each)}{'  ' + each['note'] if each['note'] else ''}")


def _shown(record: Any) -> dict[str, Any]:
    shown: dict[str, Any] = record.model_dump(mode="json", exclude={"sha256"})
    return shown


def _whose(data: dict[str, Any]) -> str:
    if data["team"] is not None:
        return f"team {data['team']}"
    return f"{data['role']} of {', '.join(data['benchmarks'])}" if data["benchmarks"] else str(data["role"])
