"""``autoscorer reap``."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..executors.reaper import reap

    done = reap(args.settings)
    if done.problems:
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            "Not everything could be reaped: " + "; ".join(done.problems),
            details=done.to_dict(),
        )
    return done.to_dict()


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    if not data["containers"] and not data["folders"]:
        print("Nothing was left behind.")
    for kind in ("containers", "folders"):
        for name in data[kind]:
            print(f"removed {kind[:-1]} {name}")
