"""Who took a flow run, in the words of its PENDING state: Prefect keeps them, whatever is lost on the worker's host."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..core.provenance import Owner

__all__ = ["Taker", "taken_by", "taken_message"]

_MESSAGE = re.compile(r"Taken by (?P<name>.+) \((?P<owner>[^()]+)\)\.", re.DOTALL)


class Taker(NamedTuple):
    """A worker of ours: the name it has in Prefect, and its process."""

    name: str
    owner: Owner


def taken_message(taker: Taker) -> str:
    """What a worker proposes PENDING with."""
    return f"Taken by {taker.name} ({taker.owner.text})."


def taken_by(message: Any) -> Taker | None:
    """Which worker of ours wrote a state's message; None for another's."""
    found = _MESSAGE.fullmatch(message) if isinstance(message, str) else None
    return Taker(found["name"], Owner(found["owner"])) if found else None
