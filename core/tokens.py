"""Tokens of a home: made and revoked by a command, kept as digests in ``tokens.json``, heeded without a restart.

A token is 256 random bits, so nobody finds it from its sha256: a slow digest protects what people think up, and would
be paid at every request here.

The file is of one home. Several homes with one ledger each have their own, or all the same copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from ..schemas.task import Role
from .config import Settings
from .config_tokens import TEAM, benchmark_name
from .errors import AutoScorerError, ErrorCode, Stage
from .locks import held
from .provenance import utc_now
from .workspace import write_atomic

__all__ = ["TOKENS_FILE", "TokenFile", "TokenRecord", "needs_tokens"]

TOKENS_FILE = "tokens.json"
# Told apart from other secrets by whoever finds one, and by programs that look for them.
_PREFIX = "as_"
_MOST = 16 * 1024**2
# Others could add a token of theirs to a file that they may write.
_OTHERS = stat.S_IWGRP | stat.S_IRWXO


class TokenRecord(BaseModel):
    """What is kept of a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}$", description="What it is revoked by; in logs behind its role.")
    role: Role
    team: str | None = Field(None, description="Of a submitter: the team that it submits for.")
    benchmarks: tuple[str, ...] = Field((), description="Of an organiser: the benchmarks' names.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    created_at: str = Field(max_length=100)
    note: str = Field("", max_length=200)

    @field_validator("team")
    @classmethod
    def _team(cls, value: str | None) -> str | None:
        if value is not None and TEAM.fullmatch(value) is None:
            raise ValueError("a team has 1 to 64 of a-z, 0-9, _ and -, and begins with a letter or digit")
        return value

    @field_validator("benchmarks")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(benchmark_name, value)):
            raise ValueError("a benchmark is named by its path below the workspace root, such as round-1/cats")
        return tuple(dict.fromkeys(value))

    @field_validator("note")
    @classmethod
    def _in_one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("a note is one line of text")
        return value

    @model_validator(mode="after")
    def _of_its_role(self) -> Self:
        if self.team is not None and self.role != "submit":
            raise ValueError(f"a team goes with the role submit, not with {self.role}")
        if bool(self.benchmarks) != (self.role == "organiser"):
            raise ValueError("benchmarks go with the role organiser, which needs at least one")
        return self

    @property
    def digest(self) -> bytes:
        """Of the token, as ``sha256`` gives it."""
        return bytes.fromhex(self.sha256)


_RECORDS = TypeAdapter(list[TokenRecord])
_Seen = tuple[int, int, int, int]


class TokenFile:
    """The tokens of a home.

    Args:
        home: The home.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / TOKENS_FILE
        self._seen: _Seen | None = None
        self._records: tuple[TokenRecord, ...] = ()

    def exists(self) -> bool:
        """Whether there is a file, with tokens or without."""
        return os.path.lexists(self.path)

    def changed(self) -> bool:
        """Whether the file is another one than ``records`` has read; one look at it, at every request."""
        return self._look() != self._seen

    def records(self) -> tuple[TokenRecord, ...]:
        """The tokens, read again where the file has changed; none where there is no file.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` where it can't be used. It counts as read then:
                no token of it is valid, and it is told once.
        """
        # Before it is read: what is written meanwhile is read the next time.
        looked = self._look()
        if looked != self._seen:
            self._seen, self._records = looked, ()
            if looked is not None:
                self._records = self._read()
        return self._records

    def add(
        self, role: Role, *, team: str | None = None, benchmarks: Sequence[str] = (), note: str = ""
    ) -> tuple[str, TokenRecord]:
        """Make a token.

        Args:
            role: What it may do.
            team: Of a submitter: the team that it submits for.
            benchmarks: Of an organiser: the benchmarks' names.
            note: Whose it is, for people.

        Returns:
            The token, which is kept nowhere, and what is kept of it.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for what does not go together, and as ``records``.
        """
        token = _PREFIX + secrets.token_urlsafe(32)
        try:
            record = TokenRecord(
                id=secrets.token_hex(6),
                role=role,
                team=team,
                benchmarks=tuple(benchmarks),
                sha256=hashlib.sha256(token.encode()).hexdigest(),
                created_at=utc_now(),
                note=note,
            )
        except ValidationError as error:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"No token was made: {_why(error)}.") from None
        self._change(lambda records: [*records, record])
        return token, record

    def revoke(self, token_id: str) -> TokenRecord:
        """Forget a token: whoever shows it from now on is refused.

        Raises:
            AutoScorerError: ``NOT_FOUND``, and as ``records``.
        """
        gone: list[TokenRecord] = []

        def without(records: Sequence[TokenRecord]) -> list[TokenRecord]:
            gone.extend(each for each in records if each.id == token_id)
            if not gone:
                raise AutoScorerError(
                    ErrorCode.NOT_FOUND,
                    f"There is no token {token_id[:100]!r}; `autoscorer tokens list` has their ids.",
                )
            return [each for each in records if each.id != token_id]

        self._change(without)
        return gone[0]

    def _change(self, change: Callable[[Sequence[TokenRecord]], Sequence[TokenRecord]]) -> None:
        try:
            with held(self.path.with_suffix(".lock")):
                # As it is now, whatever was read of it before.
                records = change(self._read())
                data = json.dumps([each.model_dump(mode="json") for each in records], indent=1) + "\n"
                write_atomic(self.path, data.encode(), mode=0o600)
        except OSError as error:
            raise _unusable(f"can't be written ({error.strerror})") from None

    def _look(self) -> _Seen | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0, 0)  # reading it says why
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read(self) -> tuple[TokenRecord, ...]:
        try:
            with open(self.path, "rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _OTHERS:
                    raise _unusable("may be read or written by others: chmod 600 it, and make its tokens anew")
                data = file.read(_MOST)
            records = _RECORDS.validate_json(data)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unusable(f"can't be read ({error.strerror})") from None
        except ValidationError as error:
            raise _unusable(f"is not a list of tokens: {_why(error)}") from None
        ids = [each.id for each in records]
        if len(set(ids)) != len(ids):
            raise _unusable("has an id that appears twice")
        return tuple(records)


def needs_tokens(settings: Settings) -> bool:
    """Whether whoever asks the API must show a token: some are configured, or the home has a file of them.

    A file whose last token was revoked still says so: nobody gets in by that.
    """
    return bool(settings.tokens) or TokenFile(settings.home).exists()


def _why(error: ValidationError) -> str:
    """The first problem, without what stands there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _unusable(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"{TOKENS_FILE} in the home {why}. Repair it, or move it away and make tokens with `autoscorer tokens new`.",
        stage=Stage.CONFIG,
    )
