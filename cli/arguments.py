"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.result import Result

__all__ = ["add_backend", "add_scorer", "add_workspace", "parse_params", "raise_failure"]


def add_workspace(parser: argparse.ArgumentParser) -> None:
    """The workspace's folder."""
    parser.add_argument("workspace", metavar="WORKSPACE", help="folder with meta.json and input/")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Which backend runs the model."""
    parser.add_argument(
        "--backend",
        choices=("auto", "docker", "process"),
        help="docker: sealed; process: unsealed, for code you trust; auto: docker or nothing (default: configuration)",
    )


def add_scorer(parser: argparse.ArgumentParser) -> None:
    """Which scorer, with which params."""
    parser.add_argument("--scorer", metavar="ID", help="scorer instead of meta.json's")
    parser.add_argument(
        "--param",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="scorer param over meta.json's; the value is JSON where it is valid JSON, else text",
    )


def parse_params(items: list[str], *, option: str = "--param") -> dict[str, Any]:
    """Read ``--param k=v``, or another option of that form.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when there is no ``=`` or a key stands twice.
    """
    params: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{option} expects KEY=VALUE, got {item!r}.")
        if key in params:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{option} {key} was given twice.")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return params


def raise_failure(result: Result) -> None:
    """Raise a Result's error, so that the command fails as the Result says."""
    if result.error is not None:
        raise AutoScorerError.from_dict(result.error.model_dump())
