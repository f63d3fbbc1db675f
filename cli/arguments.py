"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.result import Result

if TYPE_CHECKING:
    from ..core.config import Settings

__all__ = [
    "add_backend",
    "add_common",
    "add_params",
    "add_scorer",
    "add_workspace",
    "given_params",
    "parse_params",
    "positive",
    "raise_failure",
    "tell_notes",
]


def add_workspace(parser: argparse.ArgumentParser) -> None:
    """The workspace's folder."""
    parser.add_argument("workspace", metavar="WORKSPACE", help="folder with meta.json and input/")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Which backend runs the model."""
    parser.add_argument(
        "--backend",
        choices=("auto", "bubblewrap", "docker", "kubernetes", "process"),
        help="docker, kubernetes, bubblewrap: sealed; process: unsealed, for code you trust; auto: docker, or "
        "bubblewrap where there is none (default: configuration)",
    )


def add_scorer(parser: argparse.ArgumentParser) -> None:
    """Which scorer, with which params."""
    parser.add_argument("--scorer", metavar="ID", help="scorer instead of meta.json's")
    add_params(parser)


def add_params(parser: argparse.ArgumentParser) -> None:
    """Params of a scorer."""
    parser.add_argument(
        "--param",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="scorer param over meta.json's; the value is JSON where it is valid JSON, else text",
    )
    parser.add_argument("--params", metavar="JSON", help="scorer params as one JSON object, beside those of --param")


def add_common(parser: argparse.ArgumentParser, *, of_action: bool = False) -> None:
    """The common options of a command; and of its actions, because people write them behind the action as well."""

    def default(value: Any) -> Any:  # what stands before the action counts where nothing stands behind it
        return argparse.SUPPRESS if of_action else value

    common = parser.add_argument_group("common options")
    common.add_argument("--config", metavar="FILE", default=default(None), help="configuration file (YAML)")
    common.add_argument(
        "--json", action="store_true", default=default(False), help="print the JSON envelope, also on a terminal"
    )
    common.add_argument(
        "--scorers",
        metavar="DIR",
        action="append",
        default=default([]),
        dest="scorers_dirs",
        help="folder of custom scorers; may be given several times",
    )


def given_params(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--param`` and ``--params`` say together.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when one of them can't be read, or they differ about a key.
    """
    params = parse_params(args.param)
    if args.params is None:
        return params
    try:
        whole = json.loads(args.params)
    except (ValueError, RecursionError) as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f'--params expects a JSON object such as \'{{"average": "micro"}}\': {error}.'
        ) from None
    if not isinstance(whole, dict):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f'--params expects a JSON object such as \'{{"average": "micro"}}\', got {args.params!r}.',
        )
    for key in params.keys() & whole.keys():
        if params[key] != whole[key]:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST, f"--param and --params differ about {key!r}; give it in one of them."
            )
    return {**whole, **params}


def parse_params(items: list[str], *, option: str = "--param") -> dict[str, Any]:
    """Read ``--param k=v``, or another option of that form.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when there is no ``=`` or a key appears twice.
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


def tell_notes(settings: Settings) -> None:
    """Say on stderr what of the configuration is not read."""
    for note in settings.notes:
        print(f"note: {note}", file=sys.stderr)


def positive(text: str) -> int:
    """A number of things, as argparse takes it."""
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 10):
        raise argparse.ArgumentTypeError(f"expects a number from 1 on, got {text!r}")
    return int(text)
