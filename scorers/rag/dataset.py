"""Many answers: ground truth and predictions as JSON lines, joined by id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from ...core.workspace import Workspace
from ...schemas.rag import MOST_CONTEXTS
from ..tables.block import MAX_RECORD_BYTES, MAX_TEXT_BYTES, PAD, Block, bad_format
from ..tables.columns import IdColumn, LongIds
from ..tables.encodings import digest_of, open_text
from ..tables.join import align, check_unique, too_many
from ..tables.json_batches import find_bad_text
from .sample import Sample

__all__ = ["Dataset", "Item", "check_ground_truth", "read_dataset"]


@dataclass(frozen=True, slots=True)
class Item:
    """One answer of a data set."""

    id: str
    sample: Sample


@dataclass(frozen=True)
class Dataset:
    """All answers, in the order of their ids, which the files do not decide.

    Attributes:
        items: The answers.
        ground_truth_sha256: Hex digest of the file's bytes.
        predictions_sha256: The same of the predictions.
        own_contexts: Answers of which the predictions say what was retrieved; for the others the ground truth does.
    """

    items: Sequence[Item]
    ground_truth_sha256: str
    predictions_sha256: str
    own_contexts: int


def read_dataset(workspace: Workspace, encodings: tuple[str, str] = ("utf-8", "utf-8")) -> Dataset:
    """Read both files, check them and join them by id.

    The ground truth has a line ``{"id", "question", "contexts"?, "ground_truth"?}`` for each question, the predictions
    have a line ``{"id", "answer", "contexts"?}``. Where both have contexts, those of the predictions count, which are
    what the system had retrieved. Further keys are passed over.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``OUTPUT_REJECTED``, ``BAD_FORMAT`` or ``MISMATCH``.
    """
    truth_path, path = workspace.ground_truth(), workspace.predictions()
    truth = _read(truth_path, encodings[0], "question")
    if not truth.records:
        raise bad_format(truth_path.name, "", "the file holds no records; expected objects with an id and a question.")
    found = _read(path, encodings[1], "answer", most=len(truth.records))
    long_ids = LongIds()
    ids = _column(truth, long_ids), _column(found, long_ids)
    if not found.is_complete:
        raise too_many(*ids, long_ids, (truth_path.name, path.name))
    alignment = align(*ids, long_ids, (truth_path.name, path.name))
    items = []
    for first, second in zip(alignment.truth.tolist(), alignment.predictions.tolist(), strict=True):
        asked, said = truth.records[first], found.records[second]
        contexts = said.contexts if said.contexts is not None else asked.contexts
        items.append(Item(asked.id, Sample(asked.text, said.text, contexts, asked.ground_truth)))
    own = sum(record.contexts is not None for record in found.records)
    return Dataset(items, truth.sha256, found.sha256, own)


def check_ground_truth(path: Path, encoding: str = "utf-8") -> None:
    """Read the ground truth by itself.

    Raises:
        AutoScorerError: As ``read_dataset``.
    """
    truth = _read(path, encoding, "question")
    if not truth.records:
        raise bad_format(path.name, "", "the file holds no records; expected objects with an id and a question.")
    long_ids = LongIds()
    check_unique(_column(truth, long_ids), long_ids, path.name)


@dataclass(frozen=True, slots=True)
class _Record:
    id: str
    text: str
    contexts: tuple[str, ...] | None
    ground_truth: str | None


@dataclass(frozen=True)
class _File:
    records: list[_Record]
    sha256: str
    is_complete: bool = True


class _Number(str):
    """A number, as it is written."""


def _read(path: Path, encoding: str, text_key: str, most: int | None = None) -> _File:
    """Read a file; no more than one record more than ``most``."""
    if path.suffix != ".jsonl":
        raise bad_format(path.name, "", "expected JSON lines: a file that ends in .jsonl.")
    records: list[_Record] = []
    digest = sha256()
    with open_text(path, encoding) as file:
        for number, line in _lines(file, path.name, digest):
            if most is not None and len(records) > most:
                return _File(records, "", is_complete=False)
            records.append(_record(line, path.name, number, text_key))
        return _File(records, digest_of(file, digest.hexdigest()))


def _lines(file: IO[bytes], name: str, digest: Any) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(line) > MAX_RECORD_BYTES:
            raise bad_format(name, f"line {number}", f"it is longer than {MAX_RECORD_BYTES:,} bytes.")
        digest.update(line)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if bad := find_bad_text(line):
            raise bad_format(name, f"line {number}", f"{bad[1]} at byte {bad[0]}; expected UTF-8 text without NUL.")
        if line.strip():
            yield number, line.decode()


def _record(line: str, name: str, number: int, text_key: str) -> _Record:
    def fail(problem: str) -> NoReturn:
        raise bad_format(name, f"line {number}", problem)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
            fail(f"the key {twice[:80]!r} appears twice in one object.")
        return found

    def no_constant(word: str) -> NoReturn:
        fail(f"{word} is not JSON.")

    try:
        # Numbers stay as they are written: an id 1.0 is not the id 1.
        record = json.loads(
            line, object_pairs_hook=unique, parse_int=_Number, parse_float=_Number, parse_constant=no_constant
        )
    except RecursionError:
        fail("it is nested too deeply.")
    except ValueError as error:
        fail(f"expected a JSON object ({error}).")
    if not isinstance(record, dict):
        fail("expected a JSON object.")
    for key in ("id", text_key):
        if key not in record:
            fail(f"the key {key!r} is missing.")
    ident, text, truth = record["id"], record[text_key], record.get("ground_truth")
    if not isinstance(ident, str) or not ident:
        fail("'id' must be text or a number, and not empty.")
    if len(ident.encode()) > MAX_TEXT_BYTES:
        fail(f"the id has more than {MAX_TEXT_BYTES:,} bytes.")
    for key, value in ((text_key, text), ("ground_truth", truth or "")):
        if not isinstance(value, str) or isinstance(value, _Number):
            fail(f"{key!r} must be text.")
    if text_key == "question" and not text.strip():
        fail("'question' is empty.")
    contexts = record.get("contexts")
    if contexts is not None and not _is_texts(contexts):
        fail("'contexts' must be a list of texts.")
    if contexts is not None and len(contexts) > MOST_CONTEXTS:
        fail(f"'contexts' holds {len(contexts):,} texts; expected at most {MOST_CONTEXTS}.")
    return _Record(str(ident), text, None if contexts is None else tuple(contexts), truth or None)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and not isinstance(each, _Number) for each in value)


def _column(file: _File, long_ids: LongIds) -> IdColumn:
    """The ids as the join wants them."""
    column = IdColumn(long_ids)
    texts = [record.id.encode() for record in file.records]
    if texts:
        lengths = np.array([len(text) for text in texts], np.int64)
        data = np.frombuffer(b"".join(texts) + bytes(PAD), np.uint8)
        column.append(Block(data, [np.cumsum(lengths) - lengths], [lengths], str), 0, len(texts))
    return column
