"""JSON records a batch at a time: a file is held as its bytes, and never as objects of all of it.

A parser that builds everything takes forty times the bytes of ``[1,1,1,…``. Here a list is cut into batches of whole
elements, and each is decoded, used and let go. Where to cut is guessed (behind the last ``},`` before a ``{``) and the
strict decoder decides: a piece of the list that is a list by itself, in brackets, ends between two elements. Where
the guess is wrong, and for whatever is malformed, a scanner finds the elements by their brackets and quotes.

One rule for the text of all files: no invalid UTF-8, no NUL and no lone surrogate, in parts that nobody reads either.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from .block import MAX_RECORD_BYTES

__all__ = [
    "Batch",
    "Problem",
    "RecordProblem",
    "count_keys",
    "elements",
    "find_bad_text",
    "line_batches",
    "list_batches",
    "members",
    "skip_space",
]

_BATCH_BYTES = 1 << 18
_STRIDE = 1 << 17
_GUESSES = 16
_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*+"', re.DOTALL)

_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_MARKS = np.zeros(256, np.bool_)
_MARKS[list(b"[]{},:")] = True
_STEPS = np.zeros(256, np.int32)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1

# An escape of a NUL or of a surrogate; and text in which every surrogate has its other half, and no NUL is.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_FINE = re.compile(
    rb"(?:[^\\]++|\\(?:[^u]|u(?!0000|[dD][89a-fA-F])|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]))*+", re.DOTALL
)


class Batch(NamedTuple):
    """Some elements of a list, one after the other.

    Attributes:
        records: The decoded elements.
        first: The place of the first one in the list, from 0.
        begin: Where the first one begins.
        end: Where the last one ends.
    """

    records: list[Any]
    first: int
    begin: int
    end: int


class Problem(Exception):
    """What is wrong with the list or the object as such."""


class RecordProblem(Exception):
    """What is wrong with one element of a list.

    Attributes:
        index: Its place, from 0.
        error: What the decoder said.
        begin: Where it begins.
        end: Where it ends.
    """

    def __init__(self, index: int, error: Exception, begin: int, end: int) -> None:
        super().__init__(str(error))
        self.index, self.error, self.begin, self.end = index, error, begin, end


def find_bad_text(raw: bytes) -> tuple[int, str] | None:
    """Where a JSON text holds what no file may hold, and what that is; None where all is well.

    Returns:
        The byte's offset, and "invalid UTF-8", "a NUL character" or "a lone surrogate" with its spelling.
    """
    if (nul := raw.find(b"\0")) >= 0:
        return nul, "a NUL byte"
    if not raw.isascii():
        view, at = memoryview(raw), 0
        while at < len(raw):
            end = at + _STRIDE
            while end < len(raw) and at + _STRIDE - end < 3 and raw[end] & 0xC0 == 0x80:
                end -= 1  # not within a character
            try:
                str(view[at:end], "utf-8")
            except UnicodeDecodeError as error:
                at += error.start
                return at, f"invalid UTF-8 (byte 0x{raw[at]:02X})"
            at = end
    if (suspect := _SUSPECT.search(raw)) is not None:
        at = suspect.start()
        while at and raw[at - 1] == _BACKSLASH:
            at -= 1
        fine = _FINE.match(raw, at)
        assert fine is not None
        at = fine.end()
        if at < len(raw):
            kind = "a NUL character" if raw[at : at + 6] == b"\\u0000" else "a lone surrogate"
            return at, f"{kind} ({raw[at : at + 6].decode(errors='replace')})"
    return None


def skip_space(raw: bytes, at: int) -> int:
    """The position of what follows the white space."""
    found = _SPACE.match(raw, at)
    assert found is not None
    return found.end()


def list_batches(raw: bytes, start: int, kind: Any) -> Generator[Batch, None, int]:
    """Decode the list that begins at ``start``, batch by batch.

    Args:
        raw: The file.
        start: The position of the list's opening bracket.
        kind: The type of an element, for msgspec.

    Returns:
        The position behind the list's end.

    Raises:
        Problem: The list is not one, or does not end.
        RecordProblem: An element is not what it should be.
    """
    if raw[start : start + 1] != b"[":
        raise Problem("it is not a list")
    whole, one = msgspec.json.Decoder(list[kind]), msgspec.json.Decoder(kind)
    view = memoryview(raw)
    at, index = start + 1, 0
    if raw[(end := skip_space(raw, at)) : end + 1] == b"]":
        return end + 1
    while True:
        cut = _guess(raw, at)
        if cut:
            try:
                records = whole.decode(b"".join((b"[", view[at:cut], b"]")))
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass
            else:
                yield Batch(records, index, at, cut)
                index += len(records)
                at = cut + 1
                continue
        records, first, last = [], at, False
        for begin, end, ended in elements(raw, at, index):
            last = ended
            try:
                records.append(one.decode(view[begin:end]))
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise RecordProblem(index + len(records), error, begin, end) from None
            at = end + 1
            if end - first >= _BATCH_BYTES:
                break
        yield Batch(records, index, first, at - 1)
        index += len(records)
        if last:
            if raw[at - 1 : at] != b"]":
                raise Problem("a list ends in '}'")
            return at


def line_batches(raw: bytes, kind: Any) -> Iterator[Batch]:
    """Decode a value a line, batch by batch; lines without one are skipped, and do not count.

    Raises:
        RecordProblem: A line is not what it should be.
    """
    decoder = msgspec.json.Decoder(kind)
    at = index = 0
    while at < len(raw):
        end = (raw.rfind(b"\n", at, at + _BATCH_BYTES) + 1) if at + _BATCH_BYTES < len(raw) else len(raw)
        end = end or raw.find(b"\n", at) + 1 or len(raw)
        piece = raw[at:end]
        if len(piece) > MAX_RECORD_BYTES:
            raise RecordProblem(index, ValueError(f"it is larger than {MAX_RECORD_BYTES:,} bytes"), at, end)
        try:
            records = decoder.decode_lines(piece)
            alone = len(records) == sum(map(bool, map(bytes.strip, piece.split(b"\n"))))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            alone = False
        if not alone:  # find the line; and where lines hold several values, or parts of one, say so
            records = []
            begin = at
            for line in piece.split(b"\n"):
                if line.strip():
                    try:
                        records.append(decoder.decode(line))
                    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                        raise RecordProblem(index + len(records), error, begin, begin + len(line)) from None
                begin += len(line) + 1
        if records:
            yield Batch(records, index, at, end)
        index += len(records)
        at = end


def _guess(raw: bytes, at: int) -> int:
    """The position of a comma that may stand between two objects of the list, about a batch further on; else 0."""
    limit = at + _BATCH_BYTES
    for _ in range(_GUESSES):
        place = raw.rfind(b"},", at, limit)
        if place < 0:
            return 0
        following = skip_space(raw, place + 2)
        if raw[following : following + 1] == b"{":
            return place + 1
        limit = place + 1
    return 0


def elements(raw: bytes, at: int, index: int = 0, most: int = MAX_RECORD_BYTES) -> Iterator[tuple[int, int, bool]]:
    """The elements of a list from one of them on: begin, end, and whether it is the last.

    Args:
        raw: The file.
        at: Where an element begins: behind the bracket or a comma.
        index: The element's place, for the message.
        most: The bytes that an element may have.

    Raises:
        Problem: The list does not end.
        RecordProblem: An element is larger than ``most``.
    """
    scanner, begin = _Scanner(), at
    while at < len(raw):
        data, marks, depths = scanner.scan(raw[at : at + _STRIDE])
        ends = np.flatnonzero((depths < 0) | ((depths == 0) & (data[marks] == _COMMA)))
        for place, depth in zip((marks[ends] + at).tolist(), depths[ends].tolist(), strict=True):
            if place - begin > most:
                raise RecordProblem(index, ValueError(f"it is larger than {most:,} bytes"), begin, place)
            yield begin, place, depth < 0
            if depth < 0:
                return
            begin, index = place + 1, index + 1
        at += _STRIDE
        if at - begin > most:
            raise RecordProblem(index, ValueError(f"it is larger than {most:,} bytes"), begin, begin + most)
    raise Problem("the text ends within a list or an object")


def count_keys(raw: bytes) -> int:
    """How many keys an object has; a key that appears twice counts twice.

    Args:
        raw: A JSON object.
    """
    scanner, keys = _Scanner(), 0
    for at in range(0, len(raw), _STRIDE):
        data, marks, depths = scanner.scan(raw[at : at + _STRIDE])
        keys += int(np.count_nonzero((depths == 1) & (data[marks] == _COLON)))
    return keys


def members(raw: bytes, start: int) -> Generator[tuple[str, int], int | None, int]:
    """The members of the object that begins at ``start``: key and the position of the value.

    Who asks may have read the value and then sends the position behind it; else it is skipped, and checked to be JSON.

    Returns:
        The position behind the object's end.

    Raises:
        Problem: The object is not one, or does not end.
    """
    at = skip_space(raw, start + 1)
    if raw[at : at + 1] == b"}":
        return at + 1
    while True:
        found = _STRING.match(raw, skip_space(raw, at))
        if found is None:
            raise Problem("an object's key is missing")
        at = skip_space(raw, found.end())
        if raw[at : at + 1] != b":":
            raise Problem("a colon is missing behind a key")
        at = skip_space(raw, at + 1)
        end = yield _decoded(found[0], str), at
        if end is None:
            _, end, _ = next(elements(raw, at, most=len(raw)))
            _decoded(memoryview(raw)[at:end], msgspec.Raw)
        at = skip_space(raw, end)
        if raw[at : at + 1] == b"}":
            return at + 1
        if raw[at : at + 1] != b",":
            raise Problem("a comma is missing between the members of an object")
        at += 1


def _decoded(raw: bytes | memoryview, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError:
        raise Problem("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Problem(f"it is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}") from None


class _Scanner:
    """Finds brackets, commas and colons that stand outside of texts, a piece of the file at a time."""

    def __init__(self) -> None:
        self._inside = 0  # 1 within a text
        self._escaped = 0  # 1 where an odd number of backslashes stands before the piece
        self._depth = 0

    def scan(self, piece: bytes) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.int32]]:
        """The next piece: its bytes, where the marks are, and how deep it is behind each."""
        data = np.frombuffer(piece, np.uint8)
        quotes = self._quotes(data, b"\\" in piece)
        marks = np.flatnonzero(_MARKS[data])
        marks = marks[(np.searchsorted(quotes, marks) + self._inside) % 2 == 0]
        depths = np.cumsum(_STEPS[data[marks]], dtype=np.int32)
        depths += self._depth
        self._inside = (self._inside + len(quotes)) % 2
        if len(depths):
            self._depth = int(depths[-1])
        return data, marks, depths

    def _quotes(self, data: NDArray[np.uint8], escapes: bool) -> NDArray[np.intp]:
        """Where the quotes are that no backslash escapes."""
        quotes = np.flatnonzero(data == _QUOTE)
        if not escapes:
            if self._escaped and len(quotes) and quotes[0] == 0:
                quotes = quotes[1:]
            self._escaped = 0
            return quotes
        slashes = np.flatnonzero(data == _BACKSLASH)
        last = np.flatnonzero(np.diff(slashes, append=-1) != 1)  # of each run of backslashes
        ends = slashes[last]
        lengths = np.diff(last, prepend=-1)
        if self._escaped:
            if ends[0] - lengths[0] + 1 == 0:
                lengths[0] += 1
            elif len(quotes) and quotes[0] == 0:
                quotes = quotes[1:]
        run = np.minimum(np.searchsorted(ends, quotes - 1), len(ends) - 1)
        escaped = (ends[run] == quotes - 1) & (lengths[run] % 2 == 1)
        self._escaped = int(lengths[-1]) % 2 if ends[-1] == len(data) - 1 else 0
        kept: NDArray[np.intp] = quotes[~escaped]
        return kept
