"""``autoscorer config show``."""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show",), help="show: print the effective configuration, secrets masked")


def run(args: argparse.Namespace) -> dict[str, Any]:
    shown: dict[str, Any] = args.settings.to_dict()
    return shown


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    import yaml

    print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
