"""The tokens of the configuration: who may ask the API, for which team or for which benchmarks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import get_args

from ..schemas.benchmark import NAME
from ..schemas.task import Role

__all__ = ["FORMS", "ROLES", "TEAM", "ApiToken", "benchmark_name", "parse_tokens"]

ROLES: tuple[Role, ...] = get_args(Role)
# How an entry may look, for messages.
FORMS = "submit:TOKEN, submit:TOKEN@TEAM, organiser:TOKEN@BENCHMARK+BENCHMARK, admin:TOKEN"
TEAM = re.compile(NAME, re.ASCII)
_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token, and what whoever shows it may do.

    Args:
        role: What it may do.
        token: What is shown to the API.
        team: Of a submitter: the team that it submits for; None for one who does so for no benchmark.
        benchmarks: Of an organiser: the benchmarks, by their names under the workspace roots.
    """

    role: Role
    token: str = field(repr=False)
    team: str | None = None
    benchmarks: frozenset[str] = frozenset()


def parse_tokens(text: str) -> tuple[ApiToken, ...]:
    """Read ``role:token@…`` entries, separated by commas.

    What follows the last ``@`` of a submitter's or an organiser's entry is the team or the benchmarks; nothing follows
    it where the token itself holds an ``@`` and is of no team. An admin's token is all that follows the colon.

    Raises:
        ValueError: An entry is not of that form, or two give one token to different people. Without what stands there:
            it is a secret, in the wrong form or not.
    """
    found: dict[str, tuple[int, ApiToken]] = {}
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for number, entry in enumerate(entries, 1):
        token = _parse(entry, number)
        first, before = found.get(token.token, (number, token))
        if "admin" in (before.role, token.role):  # who has the stronger role as well has that
            token = before if before.role == "admin" else token
        elif before != token:
            raise ValueError(
                f"the entries {first} and {number} give the same token to different teams or roles; give each a token "
                "of its own"
            )
        found[token.token] = (first, token)
    return tuple(token for _, token in found.values())


def benchmark_name(text: str) -> bool:
    """Whether a text can be the name of a benchmark: a path below a workspace root."""
    parts = text.split("/")
    return len(text) <= _LONGEST_NAME and text.isprintable() and not {"", ".", ".."} & set(parts)


def _parse(entry: str, number: int) -> ApiToken:
    name, colon, rest = entry.partition(":")
    role = next((each for each in ROLES if each == name), None)
    if not colon or role is None or not rest:
        raise ValueError(
            f"entry {number} is not of the form role:token with a role of {', '.join(ROLES)}; entries are separated by "
            f"commas, each as one of {FORMS}"
        )
    if role == "admin":
        return ApiToken(role, rest)
    token, at, of = rest.rpartition("@")
    if role == "organiser":
        names = of.split("+")
        if not at or not token or not all(map(benchmark_name, names)):
            raise ValueError(
                f"entry {number} names no benchmarks: an organiser's is organiser:TOKEN@BENCHMARK, several joined by +,"
                " each by its path below the workspace root"
            )
        return ApiToken(role, token, benchmarks=frozenset(names))
    if not at or (token and not of):
        return ApiToken(role, token or rest)
    if not token or TEAM.fullmatch(of) is None:
        raise ValueError(
            f"entry {number} has no team after its last @: a team has 1 to 64 of a-z, 0-9, _ and -, and begins with a "
            "letter or digit. Of a token that holds an @ itself and is of no team, the entry ends in @"
        )
    return ApiToken(role, token, of)
