"""JSON, JSONL and Parquet tables as the same blocks that CSV gives.

A JSON number is taken as the text it was written with (``1.0`` stays ``1.0``), a string as its characters, ``true``
and ``false`` as these words; ``null``, an object or a list is no value. Parquet goes through pyarrow, imported only
when such a file is met.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import IO, Any

import numpy as np

from ..core.errors import AutoScorerError
from .csv_reader import PAD, Block, bad_format, check_size

__all__ = ["MAX_JSON_BYTES", "MAX_PARQUET_ROWS", "JsonReader", "ParquetReader"]

# A JSON list has to be held whole.
MAX_JSON_BYTES = 2 << 30
MAX_PARQUET_ROWS = 500_000_000  # a few bytes of Parquet can unfold to any number of rows
_BATCH = 1 << 14

_Fields = list[list[bytes]]


class _RecordReader:
    """What JSON and Parquet share: a header, a digest, and blocks made of Python bytes."""

    unit = "record"

    def __init__(self, file: IO[bytes], name: str, limit: int) -> None:
        self.size = check_size(file, name, limit)
        self.consumed = 0
        self.header: list[str] = []
        self._name = name
        self._file = file
        self._digest = sha256()

    @property
    def sha256(self) -> str:
        """Hex digest of the file."""
        return self._digest.hexdigest()

    def _hash_file(self) -> None:
        while chunk := self._file.read(1 << 20):
            self._digest.update(chunk)
        self._file.seek(0)

    def _fail(self, number: int, problem: str) -> AutoScorerError:
        return bad_format(self._name, f"{self.unit} {number}" if number else "", problem)

    def _block(self, fields: _Fields, numbers: Sequence[int]) -> Block:
        whole = b"".join([value for values in fields for value in values])
        if b"\0" in whole:
            row = next(row for values in fields for row, value in enumerate(values) if b"\0" in value)
            raise self._fail(numbers[row], "a NUL character; expected text without it.")
        data = np.frombuffer(whole + bytes(PAD), np.uint8)
        starts, lengths = [], []
        offset = 0
        for values in fields:
            length = np.array([len(value) for value in values], np.int64)
            end = np.cumsum(length) + offset
            starts.append(end - length)
            lengths.append(length)
            offset = int(end[-1])
        return Block(data, starts, lengths, lambda row: f"{self.unit} {numbers[row]}")


class JsonReader(_RecordReader):
    """A list of objects (.json) or an object a line (.jsonl).

    Raises:
        AutoScorerError: ``BAD_FORMAT``, with the record's number or the line.
    """

    def __init__(self, file: IO[bytes], name: str, *, lines: bool) -> None:
        import msgspec

        super().__init__(file, name, MAX_JSON_BYTES)
        self._string = msgspec.json.Decoder(str).decode
        self._error = msgspec.DecodeError
        self._record = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self.unit = "line" if lines else "record"
        if lines:
            self._records = self._read_lines()
        else:
            data = file.read()
            self._digest.update(data)
            self._records = self._read_list(data)
        first = next(self._records, None)
        if first is None:
            raise bad_format(name, "", "the file holds no records; expected objects with an id and a value.")
        self._first = first
        self.header = list(first[1])

    def blocks(self, wanted: Sequence[int]) -> Iterator[Block]:
        """Yield the rows in order; ``wanted`` are indices of ``header``, the first record's keys."""
        names = [self.header[column] for column in wanted]
        fields: _Fields = [[] for _ in names]
        numbers: list[int] = []
        for number, record in self._all():
            for values, name in zip(fields, names, strict=True):
                values.append(self._text(record, name, number))
            numbers.append(number)
            if len(numbers) == _BATCH:
                yield self._block(fields, numbers)
                fields, numbers = [[] for _ in names], []
        if numbers:
            yield self._block(fields, numbers)

    def _all(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield self._first
        yield from self._records

    def _text(self, record: dict[str, Any], name: str, number: int) -> bytes:
        raw = record.get(name)
        if raw is None:
            raise self._fail(number, f"the key {name!r} is missing.")
        text = bytes(raw)
        if text[:1] == b'"':
            try:
                return self._string(text).encode() if b"\\" in text or not text.isascii() else text[1:-1]
            except ValueError:  # msgspec's DecodeError and UnicodeError are both
                raise self._fail(number, f"{name!r} is not valid UTF-8 text.") from None
        if text[:1] in b"[{" or text == b"null":
            kind = {b"[": "a list", b"{": "an object"}.get(text[:1], "null")
            raise self._fail(number, f"{name!r} is {kind}; expected text or a number.")
        return text

    def _read_list(self, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
        import msgspec

        try:
            # Two steps, so that a fault inside one record can name it.
            records = msgspec.json.decode(_without_bom(data), type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError) as error:
            raise bad_format(self._name, "", f"expected a JSON list of objects ({error}).") from None
        self.consumed = self.size
        for number, raw in enumerate(records, 1):
            yield number, self._object(raw, number)

    def _read_lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(self._file, 1):
            self._digest.update(line)
            self.consumed += len(line)
            text = _without_bom(line) if number == 1 else line
            if text.strip():
                yield number, self._object(text, number)

    def _object(self, text: Any, number: int) -> dict[str, Any]:
        try:
            return self._record(text)
        except (self._error, UnicodeError) as error:
            raise self._fail(number, f"expected a JSON object ({error}).") from None


class ParquetReader(_RecordReader):
    """A Parquet file with columns of text, integers, booleans or floats.

    Raises:
        AutoScorerError: ``BAD_FORMAT`` when it is none, or when pyarrow is not installed.
    """

    unit = "row"

    def __init__(self, file: IO[bytes], name: str) -> None:
        super().__init__(file, name, MAX_JSON_BYTES)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise bad_format(
                name, "", "Parquet needs pyarrow: install 'autoscorer[parquet]', or give CSV or JSON."
            ) from None
        self._hash_file()
        self._error = pyarrow.ArrowException
        try:
            self._parquet = pyarrow.parquet.ParquetFile(file)
        except (pyarrow.ArrowException, OSError) as error:
            raise bad_format(name, "", f"expected a Parquet file ({error}).") from None
        if self._parquet.metadata.num_rows > MAX_PARQUET_ROWS:
            raise bad_format(name, "", f"more than {MAX_PARQUET_ROWS:,} rows.")
        self.header = list(self._parquet.schema_arrow.names)
        self.consumed = self.size

    def blocks(self, wanted: Sequence[int]) -> Iterator[Block]:
        """Yield the rows in order."""
        names = [self.header[column] for column in wanted]
        done = 0
        try:
            for batch in self._parquet.iter_batches(batch_size=_BATCH, columns=names):
                if not batch.num_rows:
                    continue
                numbers = range(done + 1, done + batch.num_rows + 1)
                columns = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in names]
                yield self._block(
                    [
                        [self._text(value, name, number) for value, number in zip(column, numbers, strict=True)]
                        for column, name in zip(columns, names, strict=True)
                    ],
                    numbers,
                )
                done += batch.num_rows
        except (self._error, OSError) as error:
            raise bad_format(self._name, "", f"the Parquet file can't be read ({error}).") from None

    def _text(self, value: object, name: str, number: int) -> bytes:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bool):
            return b"true" if value else b"false"
        if isinstance(value, (int, float)):
            return repr(value).encode()
        kind = "null" if value is None else type(value).__name__
        raise self._fail(number, f"{name!r} is {kind}; expected text or a number.")


def _without_bom(data: bytes) -> bytes:
    return data.removeprefix(b"\xef\xbb\xbf")
