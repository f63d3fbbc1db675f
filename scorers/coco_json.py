"""The JSON below ``coco``: typed records, strict decoding, and errors that name the record.

msgspec reads typed records five times as fast as json reads dicts. What it lets pass (a key that is there twice)
or words poorly (NaN, which Python's json writes) is dealt with here, at no cost to a file that is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from operator import attrgetter
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn, TypeVar

import msgspec
import numpy as np

from ..core.errors import AutoScorerError, ErrorCode

__all__ = [
    "MAX_BYTES",
    "AnnotationRecord",
    "BoxRecord",
    "CocoRecord",
    "DetectionRecord",
    "annotation_keys",
    "bad_file",
    "bad_record",
    "coco_keys",
    "decode",
    "file_name",
    "first_repeated",
    "read_bytes",
    "refuse_duplicate_keys",
]

R = TypeVar("R")

# About 5 million detections; parsing takes six times a file's size in memory.
MAX_BYTES = 512 * 1024**2
# A second, slower parse that only words an error better is not worth more memory than this.
_EXPLAIN_BYTES = 64 * 1024**2


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


class CocoRecord(msgspec.Struct):
    images: list[ImageRecord]
    annotations: list[AnnotationRecord]
    categories: list[CategoryRecord]
    # Not read; kept apart because their own "id" keys must not look like ours counted twice.
    info: msgspec.Raw = msgspec.Raw()
    licenses: msgspec.Raw = msgspec.Raw()


_UNREAD = ("info", "licenses")


def file_name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def read_bytes(file: IO[bytes], path: Path) -> tuple[bytes, str]:
    """The file's bytes without a BOM, and the sha256 of all of them."""
    with file:
        size = os.fstat(file.fileno()).st_size
        if path.suffix not in (".json", ".jsonl"):
            bad_file(path, "boxes are read from .json or .jsonl")
        raw = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    if size > MAX_BYTES or len(raw) > MAX_BYTES:
        bad_file(path, f"it holds {max(size, len(raw))} bytes, at most {MAX_BYTES} are read")
    return raw.removeprefix(b"\xef\xbb\xbf"), hashlib.sha256(raw).hexdigest()


def decode(raw: bytes, kind: type[R], path: Path) -> R:
    """Decode typed, strict JSON, or JSON lines where the suffix says so.

    Args:
        raw: The file.
        kind: ``CocoRecord``, or a list of records.
        path: For the suffix, and for messages.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, naming the record where there is one to name.
    """
    decoder = msgspec.json.Decoder(kind.__args__[0] if path.suffix == ".jsonl" else kind)  # type: ignore[attr-defined]
    parse: Callable[[bytes], Any] = decoder.decode_lines if path.suffix == ".jsonl" else decoder.decode
    try:
        return parse(raw)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        _explain(error, path)
    except RecursionError:
        bad_file(path, "it is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _decode_leniently(raw, kind, path, error)


def _decode_leniently(raw: bytes, kind: type[R], path: Path, error: Exception) -> R:
    """What the strict decoder refuses may be NaN or Infinity: read those, so that the checks name the record.

    Raises:
        AutoScorerError: ``BAD_FORMAT``; this never makes an invalid file pass, see the end.
    """
    reason = f"it is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}"
    if len(raw) > _EXPLAIN_BYTES or not re.search(rb"NaN|Infinity", raw):
        bad_file(path, reason)
    non_finite: list[str] = []

    def constant(text: str) -> float:
        non_finite.append(text)
        return float(text.replace("Infinity", "inf"))

    try:
        text = raw.decode()
        if path.suffix == ".jsonl":
            content: Any = [json.loads(line, parse_constant=constant) for line in text.split("\n") if line.strip()]
        else:
            content = json.loads(text, parse_constant=constant)
        if isinstance(content, dict):
            content = {key: item for key, item in content.items() if key not in _UNREAD}
        converted = msgspec.convert(content, kind)
    except msgspec.ValidationError as invalid:
        _explain(invalid, path)
    except RecursionError:
        bad_file(path, "it is nested too deeply")
    except ValueError:
        bad_file(path, reason)
    where = "annotations" if isinstance(converted, CocoRecord) else "record"
    records: Any = converted.annotations if isinstance(converted, CocoRecord) else converted
    for i, record in enumerate(records):
        for field in ("bbox", "score", "area"):
            value = getattr(record, field, None)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isfinite(number) for number in numbers if isinstance(number, float)):
                bad_record(path, where, i, f"{field} must be finite, got {value}", field)
    bad_file(path, f"{reason}; {' and '.join(sorted(set(non_finite)))} is not JSON")


def _explain(error: msgspec.ValidationError, path: Path) -> NoReturn:
    """msgspec's ``Expected `float`, got `null` - at `$[3].score``` as our BAD_FORMAT with the index."""
    problem, _, place = str(error).partition(" - at ")
    place = place.strip("`")
    match = re.fullmatch(r"\$(?:\.(\w+))?\[(\d+)\](?:\.?(.*))?", place)
    problem = problem.replace("`", "'")
    if match:
        field = match[3] or ""
        bad_record(path, match[1] or "record", int(match[2]), f"{field}: {problem}" if field else problem, field)
    hint = ""
    if place in ("", "$"):
        hint = (
            "; expected a COCO object with 'images', 'annotations' and 'categories', or a list of boxes"
            if path.name.startswith("gt")
            else "; expected a list of {image_id, category_id, bbox, score}"
        )
    bad_file(path, f"{problem}{f' at {place}' if place else ''}{hint}")


def bad_file(path: Path, problem: str) -> NoReturn:
    raise AutoScorerError(ErrorCode.BAD_FORMAT, f"{file_name(path)}: {problem}.", details={"file": file_name(path)})


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


def annotation_keys(annotations: Sequence[AnnotationRecord]) -> dict[str, int]:
    """Key → in how many annotations it was read."""
    counts = dict.fromkeys(("image_id", "category_id", "bbox", "id", "area", "iscrowd"), len(annotations))
    for key in ("id", "area", "iscrowd"):
        counts[key] -= list(map(attrgetter(key), annotations)).count(msgspec.UNSET)
    return counts


def coco_keys(coco: CocoRecord) -> dict[str, int]:
    """Key → in how many objects of a COCO file it was read."""
    counts = annotation_keys(coco.annotations) | {"images": 1, "annotations": 1, "categories": 1}
    counts["id"] += len(coco.images) + len(coco.categories)
    return counts


def refuse_duplicate_keys(raw: bytes, expected: Mapping[str, int], path: Path, unread: bytes = b"") -> None:
    """Refuse an object that holds one of our keys twice.

    Every key has a colon behind it, so as many colons as keys mean no duplicate; else every key as often as it
    was read means the same. Only where neither holds (words like our keys elsewhere in the file, or escapes that
    could spell one) is the file parsed again to be sure.

    Args:
        raw: The file.
        expected: Key → in how many objects it was read.
        path: For the message.
        unread: Parts of ``raw`` whose keys are none of ours.

    Raises:
        AutoScorerError: ``BAD_FORMAT``.
    """
    if np.count_nonzero(np.frombuffer(raw, np.uint8) == ord(":")) == sum(expected.values()):
        return
    if b"\\" not in raw:
        elsewhere = _count_strings(unread, expected)
        if all(n - elsewhere[key] == expected[key] for key, n in _count_strings(raw, expected).items()):
            return
    records = 0

    def check(pairs: list[tuple[str, Any]]) -> None:
        nonlocal records
        keys = [key for key, _ in pairs if key in expected]
        if (i := first_repeated(keys)) is not None:
            bad_record(path, "record", records, f"the key {keys[i]!r} is there twice in one object", keys[i])
        records += "image_id" in keys

    lines = raw.split(b"\n") if path.suffix == ".jsonl" else [raw]
    for line in lines:
        if not line.strip():
            continue
        try:
            # The hook returns nothing, so this takes little memory whatever the file holds. Numbers stay text:
            # an int of 10,000 digits would be an error here, though nobody reads it.
            json.loads(line.decode(), object_pairs_hook=check, parse_int=str, parse_float=str)
        except (RecursionError, ValueError):
            bad_file(path, "it is nested too deeply, or not valid JSON in a part that is not read")


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
