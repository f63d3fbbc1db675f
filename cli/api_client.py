"""The commands' client of the REST API: ``autoscorer.Client``, as the arguments and the configuration name it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ..client import Client
from ..core.errors import AutoScorerError, ErrorCode
from .output import say

__all__ = ["add_api", "as_json", "away", "connect"]


def add_api(parser: argparse.ArgumentParser) -> None:
    """Which API."""
    parser.add_argument(
        "--api",
        metavar="URL",
        help="address of the API (default: api_url of the configuration, else this machine's); the token comes from "
        "AUTOSCORER_API_TOKEN or the configuration, for this machine's API also from the home",
    )


@contextlib.contextmanager
def connect(args: argparse.Namespace) -> Iterator[Client]:
    """The API that the arguments and the configuration name, until the end of the block."""
    try:
        with Client(args.api, settings=args.settings, on_away=away) as client:
            yield client
    except AutoScorerError as error:
        if error.code is ErrorCode.UNAUTHORIZED:
            error.message += " This command takes the token from the variable AUTOSCORER_API_TOKEN, which " + (
                "holds another one." if error.details.get("token_was_given") else "is not set."
            )
        raise


def as_json(model: BaseModel) -> dict[str, Any]:
    """What the API answered, as it was."""
    return model.model_dump(mode="json", by_alias=True)


def away() -> None:
    """Say that the API is asked again."""
    say("the API does not answer; asking again")
