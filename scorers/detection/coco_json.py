"""The JSON below ``coco``: typed records, strict decoding, and errors that name the record.

msgspec reads typed records five times as fast as json reads dicts. What it lets pass (a key that appears twice)
or words poorly (NaN, which Python's json writes) is dealt with here, at no cost to a file that is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from math import isfinite
from operator import attrgetter
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn, TypeVar

import msgspec
import numpy as np

from ...core.errors import AutoScorerError, ErrorCode
from ..tables.block import MAX_COLUMNS
from ..tables.encodings import digest_of
from ..tables.json_batches import (
    Batch,
    Problem,
    RecordProblem,
    count_keys,
    elements,
    find_bad_text,
    line_batches,
    list_batches,
    members,
    skip_space,
)

__all__ = [
    "MAX_BYTES",
    "AnnotationRecord",
    "BoxRecord",
    "CategoryRecord",
    "DetectionRecord",
    "ImageRecord",
    "bad_file",
    "bad_record",
    "file_name",
    "first_repeated",
    "read_bytes",
    "read_list",
    "read_members",
]

R = TypeVar("R")
ListBatches = Generator[Batch, None, int]

# About 5 million detections. The file is held as its bytes, and its records a batch at a time.
MAX_BYTES = 512 * 1024**2
# A second, slower parse of a record that only words an error better is not worth more memory than this.
_EXPLAIN_BYTES = 1024**2


class BoxRecord(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]


class DetectionRecord(BoxRecord, gc=False):
    score: float


class AnnotationRecord(BoxRecord, gc=False):
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    area: float | msgspec.UnsetType | None = msgspec.UNSET
    iscrowd: bool | Annotated[int, msgspec.Meta(ge=0, le=1)] | msgspec.UnsetType | None = msgspec.UNSET


class ImageRecord(msgspec.Struct, gc=False):
    id: int | str


class CategoryRecord(msgspec.Struct, gc=False):
    id: int | str
    name: str | None = None


def file_name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def read_bytes(file: IO[bytes], path: Path) -> tuple[bytes, str]:
    """The file's bytes without a BOM, and the sha256 of all of them.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, also for text that no file may hold, whether it is read or not.
    """
    with file:
        size = os.fstat(file.fileno()).st_size
        if path.suffix not in (".json", ".jsonl"):
            bad_file(path, "boxes are read from .json or .jsonl")
        raw = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    if size > MAX_BYTES or len(raw) > MAX_BYTES:
        bad_file(path, f"it holds {max(size, len(raw))} bytes, at most {MAX_BYTES} are read")
    if bad := find_bad_text(raw):
        offset, what = bad
        bad_file(path, f"{what} at byte {offset}; expected UTF-8 text without NUL", byte=offset)
    sha256 = digest_of(file, hashlib.sha256(raw).hexdigest())
    return raw.removeprefix(b"\xef\xbb\xbf") if raw.startswith(b"\xef\xbb\xbf") else raw, sha256


def read_list(raw: bytes, path: Path, kind: type[R], where: str = "record", start: int | None = None) -> ListBatches:
    """Decode typed, strict JSON batch by batch: a list, or JSON lines where the suffix says so.

    Args:
        raw: The file.
        path: For the suffix, and for messages.
        kind: The type of a record.
        where: What messages call the list.
        start: Where the list begins that is a part of the file; None when it is all of it.

    Returns:
        The position behind the list.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, naming the record where there is one to name.
    """
    lines = path.suffix == ".jsonl"
    begin = skip_space(raw, 0) if start is None else start
    batches = line_batches(raw, kind) if lines else list_batches(raw, begin, kind)
    end = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration as stop:
            end = len(raw) if lines else stop.value
            break
        except Problem as problem:
            if begin < len(raw) and raw[begin : begin + 1] in b'{"0123456789-tfn':
                bad_file(path, f"{problem}{_expected(path)}")
            bad_file(path, f"it is not valid JSON: {problem}")
        except RecordProblem as problem:
            _explain(problem, raw, kind, path, where)
        refuse_duplicate_keys(raw, batch, _keys(kind, batch.records), path, where)
        yield batch
    if start is None and skip_space(raw, end) != len(raw):
        bad_file(path, f"it is not valid JSON: text behind the end, at byte {end}")
    return end


def read_members(raw: bytes, path: Path) -> Generator[tuple[str, int], int | None, None]:
    """The members of a file that is a JSON object; see ``json_batches.members``.

    Raises:
        AutoScorerError: ``BAD_FORMAT``.
    """
    walk = members(raw, skip_space(raw, 0))
    end: int | None = None
    try:
        key, at = next(walk)
        while True:
            end = yield key, at
            key, at = walk.send(end)
    except StopIteration as stop:
        end = stop.value
    except Problem as problem:
        bad_file(path, f"it is not valid JSON: {problem}")
    if end is None or skip_space(raw, end) != len(raw):
        bad_file(path, "it is not valid JSON: text behind the end of the object")


def _explain(problem: RecordProblem, raw: bytes, kind: type[Any], path: Path, where: str) -> NoReturn:
    """What msgspec says of a record as our BAD_FORMAT with the index.

    What the strict decoder refuses may be NaN or Infinity, as Python's json writes them: those are worded better.
    """
    error, index = problem.error, problem.index
    if isinstance(error, msgspec.ValidationError):
        _explain_validation(error, path, where, index)
    if isinstance(error, RecursionError):
        bad_record(path, where, index, "it is nested too deeply")
    text = raw[problem.begin : problem.end]
    reason = str(error).removeprefix("JSON is malformed: ")
    if not isinstance(error, (msgspec.DecodeError, UnicodeError)):
        bad_record(path, where, index, reason)
    if len(text) <= _EXPLAIN_BYTES and re.search(rb"NaN|Infinity", text):
        try:
            record = msgspec.convert(json.loads(text.decode()), kind)
        except msgspec.ValidationError as invalid:
            _explain_validation(invalid, path, where, index)
        except (RecursionError, ValueError):
            pass
        else:
            for field in ("bbox", "score", "area"):
                value = getattr(record, field, None)
                numbers = value if isinstance(value, tuple) else (value,)
                if not all(isfinite(number) for number in numbers if isinstance(number, float)):
                    bad_record(path, where, index, f"{field} must be finite, got {value}", field)
            reason += "; NaN and Infinity are not JSON"
    bad_record(path, where, index, f"it is not valid JSON: {reason}")


def _explain_validation(error: msgspec.ValidationError, path: Path, where: str, index: int) -> NoReturn:
    """msgspec's ``Expected `float`, got `null` - at `$.score```."""
    problem, _, place = str(error).partition(" - at ")
    field = place.strip("`").removeprefix("$").removeprefix(".")
    problem = problem.replace("`", "'")
    bad_record(path, where, index, f"{field}: {problem}" if field else problem, field)


def _expected(path: Path) -> str:
    if path.name.startswith("gt"):
        return "; expected a COCO object with 'images', 'annotations' and 'categories', or a list of boxes"
    return "; expected a list of {image_id, category_id, bbox, score}"


def bad_file(path: Path, problem: str, **details: object) -> NoReturn:
    raise AutoScorerError(
        ErrorCode.BAD_FORMAT, f"{file_name(path)}: {problem}.", details={"file": file_name(path), **details}
    )


def bad_record(path: Path, where: str, index: int, problem: str, field: str = "") -> NoReturn:
    details: dict[str, Any] = {"file": file_name(path), "where": where, "index": index}
    if field:
        details["field"] = field
    label = f"record {index}" if where == "record" else f"{where}[{index}]"
    raise AutoScorerError(
        ErrorCode.BAD_FORMAT, f"{file_name(path)}: {label} (counted from 0): {problem}.", details=details
    )


def first_repeated(values: Sequence[Any]) -> int | None:
    """Position of the first value that was there before."""
    if len(set(values)) == len(values):
        return None
    seen: set[Any] = set()
    for i, value in enumerate(values):
        if value in seen:
            return i
        seen.add(value)
    return None


# Duplicate keys: JSON parsers keep the last value without a word, so the same file means two things.


def _keys(kind: type[Any], records: Sequence[Any]) -> dict[str, int]:
    """Key → in how many of the records it was read."""
    if issubclass(kind, BoxRecord):
        counts = dict.fromkeys(("image_id", "category_id", "bbox"), len(records))
        if issubclass(kind, DetectionRecord):
            return counts | {"score": len(records)}
        for key in ("id", "area", "iscrowd"):
            counts[key] = len(records) - list(map(attrgetter(key), records)).count(msgspec.UNSET)
        return counts
    return {"id": len(records)}


def refuse_duplicate_keys(raw: bytes, batch: Batch, expected: Mapping[str, int], path: Path, where: str) -> None:
    """Refuse a record that holds one of our keys twice.

    Every key has a colon behind it, so as many colons as keys mean no duplicate; else every key as often as it
    was read means the same. Only where neither holds (words like our keys elsewhere in the records, or escapes that
    could spell one) are the records read again to be sure.

    Args:
        raw: The file.
        batch: Which part of it.
        expected: Key → in how many objects it was read.
        path: For the message.
        where: What the message calls the list.

    Raises:
        AutoScorerError: ``BAD_FORMAT``.
    """
    piece = raw[batch.begin : batch.end]
    if piece.count(b":") == sum(expected.values()):
        return
    if b'\\"' not in piece and b"\\u" not in piece and _count_strings(piece, expected) == expected:
        return
    if path.suffix == ".jsonl":
        texts = [line for line in piece.split(b"\n") if line.strip()]
    else:
        listed = b"".join((piece, b"]"))
        texts = [listed[begin:end] for begin, end, _ in elements(listed, 0)]
    for index, text in enumerate(texts, batch.first):
        colons = text.count(b":")
        if colons > MAX_COLUMNS and (keys := count_keys(text)) > MAX_COLUMNS:
            bad_record(path, where, index, f"it has {keys:,} keys; expected at most {MAX_COLUMNS:,}")
        read = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if len(read) < colons and len(read) < count_keys(text):
            if len(text) > _EXPLAIN_BYTES:
                bad_record(path, where, index, "a key appears twice in one object")
            ours = [name for name in _key_names(text) if name in expected]
            if (i := first_repeated(ours)) is not None:
                bad_record(path, where, index, f"the key {ours[i]!r} appears twice in one object", ours[i])


def _key_names(text: bytes) -> list[str]:
    """The keys of a JSON object, each as often as it is there."""
    names: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [key for key, _ in pairs]  # the outermost object comes last

    # Numbers stay text: an int of 10,000 digits would be an error here, though nobody reads it.
    json.loads(text.decode(), object_pairs_hook=keep, parse_int=str, parse_float=str)
    return names


def _count_strings(raw: bytes, words: Iterable[str]) -> dict[str, int]:
    """How often each of the words stands between quotes, in JSON without escapes."""
    text = np.frombuffer(raw, np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    starts = quotes[0::2] + 1
    lengths = quotes[1::2] - starts
    counts = {}
    for word in words:
        at = starts[lengths == len(word)]
        for j, letter in enumerate(word.encode()):
            at = at[text[at + j] == letter]
        counts[word] = len(at)
    return counts
