"""The user that models run as, as the sections of executors have it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

__all__ = ["MOST_UID", "ModelUser"]

MOST_UID = 2**31 - 1


def _never_root(value: str) -> str:
    numbers = [int(part) for part in value.split(":")]
    if 0 in numbers:
        raise ValueError("the model must not run as uid or gid 0")
    if any(number > MOST_UID for number in numbers):
        raise ValueError(f"a uid or gid goes up to {MOST_UID}")
    return value


# ``uid:gid``, neither of them 0.
ModelUser = Annotated[str, StringConstraints(pattern=r"^[0-9]+:[0-9]+$"), AfterValidator(_never_root)]
