"""The commands' client of the REST API: ``autoscorer.Client``, as the arguments and the configuration name it."""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import BaseModel

from ..client import Client

__all__ = ["add_api", "as_json", "connect"]


def add_api(parser: argparse.ArgumentParser) -> None:
    """Which API."""
    parser.add_argument(
        "--api",
        metavar="URL",
        help="address of the API (default: api_url of the configuration, else this machine's); the token comes from "
        "AUTOSCORER_API_TOKEN or the configuration, for this machine's API also from the home",
    )


def connect(args: argparse.Namespace) -> Client:
    """The API that the arguments and the configuration name."""
    from .waiting import away

    return Client(args.api, settings=args.settings, on_away=away)


def as_json(model: BaseModel) -> dict[str, Any]:
    """What the API answered, as it was."""
    return model.model_dump(mode="json", by_alias=True)
