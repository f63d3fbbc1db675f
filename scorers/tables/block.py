"""What every reader of a table gives, rows as positions in a buffer, and how it refuses a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from ...core.errors import AutoScorerError, ErrorCode
from .arrays import Bytes, Ints

__all__ = [
    "MAX_COLUMNS",
    "MAX_RECORD_BYTES",
    "MAX_TEXT_BYTES",
    "PAD",
    "Block",
    "Bytes",
    "Positions",
    "bad_format",
    "check_size",
]

# Bytes that may be read past the last field of a block (a word-wise load of a field of up to 64 bytes).
PAD = 80
MAX_RECORD_BYTES = 1 << 24
MAX_COLUMNS = 10_000
# An id, a label or a number longer than this is refused: whoever shows some of them can count on it.
MAX_TEXT_BYTES = 1 << 16

Positions = Ints


@dataclass(slots=True)
class Block:
    """Some rows of a table as positions in a buffer; valid until the next block is asked for.

    Attributes:
        data: Bytes, at least ``PAD`` of them after the last field.
        starts: Per wanted column, the position of each row's field, shape (rows,).
        lengths: Per wanted column, the bytes of each row's field, shape (rows,).
        locate: Says where a row of this block stands in its file (``"line 12"``).
        grid: Where each column starts at the same offset in every row: the rows' first bytes, copied side by side,
            shape (rows, at most 64); else None. One fetch a row that serves all columns.
        offsets: Per wanted column, its offset in ``grid``.
    """

    data: Bytes
    starts: list[Positions]
    lengths: list[Positions]
    locate: Callable[[int], str]
    grid: Bytes | None = None
    offsets: Sequence[int] = ()

    @property
    def rows(self) -> int:
        return len(self.starts[0])

    def text(self, column: int, row: int) -> bytes:
        """One field's bytes."""
        start = int(self.starts[column][row])
        return self.data[start : start + int(self.lengths[column][row])].tobytes()

    def texts(self, column: int) -> list[bytes]:
        """A column's fields."""
        whole = self.data.tobytes()
        starts = self.starts[column]
        return [whole[a:b] for a, b in zip(starts.tolist(), (starts + self.lengths[column]).tolist(), strict=True)]


def bad_format(name: str, where: str, problem: str) -> AutoScorerError:
    """``BAD_FORMAT`` at a place of a file."""
    at = f", {where}" if where else ""
    details: dict[str, object] = {"file": name}
    kind, _, number = where.partition(" ")
    if number.isdigit():
        details[kind] = int(number)
    return AutoScorerError(ErrorCode.BAD_FORMAT, f"{name}{at}: {problem}", details=details)


def check_size(file: IO[bytes], name: str, limit: int) -> int:
    """The file's size in bytes.

    Raises:
        AutoScorerError: ``BAD_FORMAT`` when it is larger than ``limit``.
    """
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise bad_format(name, "", f"the file has {size:,} bytes; expected at most {limit:,}.")
    return size
