"""JSON, JSONL and Parquet tables as the same blocks that CSV gives.

A JSON number is taken as the text it was written with (``1.0`` stays ``1.0``), a string as its characters, ``true``
and ``false`` as these words; ``null``, an object or a list is not a value. Parquet goes through pyarrow, imported only
when such a file is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from operator import attrgetter, methodcaller
from typing import IO, Any

import numpy as np

from ...core.errors import AutoScorerError
from .block import MAX_COLUMNS, MAX_RECORD_BYTES, MAX_TEXT_BYTES, PAD, Block, bad_format, check_size
from .json_batches import Problem, RecordProblem, count_keys, elements, find_bad_text, list_batches, skip_space

__all__ = ["MAX_JSON_BYTES", "MAX_PARQUET_ROWS", "JsonReader", "ParquetReader"]

# A JSON list is held as its bytes.
MAX_JSON_BYTES = 2 << 30
MAX_PARQUET_ROWS = 500_000_000  # a few bytes of Parquet can unfold to any number of rows
_BATCH = 1 << 14
_BATCH_BYTES = 1 << 18
_UNFOLDED_BYTES = 64 << 20

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

    A list is held as its bytes; of a file of lines, a line is. Objects are made for a batch of records at a time.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, with the record's number or the line.
    """

    def __init__(self, file: IO[bytes], name: str, *, lines: bool) -> None:
        import msgspec

        super().__init__(file, name, MAX_JSON_BYTES)
        self._string = msgspec.json.Decoder(str).decode
        self._errors = (msgspec.DecodeError, UnicodeError, RecursionError)
        self._lines = lines
        self._raw = b""
        self._begin = 0  # of the first record
        self.unit = "line" if lines else "record"
        first = self._first_line() if lines else self._first_element()
        keys = count_keys(first[1])
        if keys > MAX_COLUMNS:
            raise self._fail(first[0], f"it has {keys:,} keys; expected at most {MAX_COLUMNS:,}.")
        self._first = first
        self.header = list(self._decode(msgspec.json.Decoder(dict[str, msgspec.Raw]), first[1], first[0]))

    def blocks(self, wanted: Sequence[int]) -> Iterator[Block]:
        """Yield the rows in order; ``wanted`` are indices of ``header``, the first record's keys."""
        import msgspec

        names = [self.header[column] for column in wanted]
        fields = {name: f"field_{number}" for number, name in enumerate(names)}
        missing = msgspec.Raw()
        record: Any
        values: list[Callable[[Any], Any]]
        try:
            # A type that has the wanted keys alone: what else a record holds is passed over without an object for it.
            record = msgspec.defstruct(
                "Record",
                [(field, msgspec.Raw, missing) for field in fields.values()],
                rename={field: name for name, field in fields.items()},
                gc=False,
            )
            values = [attrgetter(fields[name]) for name in names]
        except ValueError:  # a quote, a backslash or a control character in a key
            record = dict[str, msgspec.Raw]
            values = [methodcaller("get", name, missing) for name in names]
        columns = list(zip(names, values, strict=True))
        for numbers, records in self._batches(record):
            yield self._block(
                [
                    [self._text(value(one), name, number) for one, number in zip(records, numbers, strict=True)]
                    for name, value in columns
                ],
                numbers,
            )

    def _batches(self, record: Any) -> Iterator[tuple[Sequence[int], list[Any]]]:
        import msgspec

        if self._lines:
            decoder = msgspec.json.Decoder(record)
            numbers: list[int] = []
            records: list[Any] = []
            size = 0
            for number, line in chain([self._first], self._read_lines(self._first[0])):
                numbers.append(number)
                records.append(self._decode(decoder, line, number))
                size += len(line)
                if size >= _BATCH_BYTES:
                    yield numbers, records
                    numbers, records, size = [], [], 0
            if numbers:
                yield numbers, records
            return
        batches = list_batches(self._raw, self._start, record)
        while True:
            try:
                batch = next(batches)
            except StopIteration as stop:
                end: int = stop.value
                break
            except RecordProblem as problem:
                text = self._raw[problem.begin : problem.end]
                raise self._no_object(problem.index + 1, text, problem.begin, problem.error) from None
            except Problem as problem:
                raise bad_format(self._name, "", f"expected a JSON list of objects ({problem}).") from None
            self.consumed = batch.end
            yield range(batch.first + 1, batch.first + 1 + len(batch.records)), batch.records
        if skip_space(self._raw, end) != len(self._raw):
            raise bad_format(self._name, f"byte {end}", "text behind the end of the list.")
        if bad := find_bad_text(self._raw):
            raise bad_format(self._name, f"byte {bad[0]}", f"{bad[1]}; expected UTF-8 text without NUL.")

    def _first_element(self) -> tuple[int, bytes]:
        self._raw = self._file.read()
        self._digest.update(self._raw)
        start = 3 if self._raw.startswith(b"\xef\xbb\xbf") else 0
        self._start = skip_space(self._raw, start)
        try:
            if self._raw[self._start : self._start + 1] != b"[":
                raise Problem("it is not a list")
            begin = skip_space(self._raw, self._start + 1)
            if self._raw[begin : begin + 1] == b"]":
                raise self._no_records()
            _, end, _ = next(elements(self._raw, begin))
        except (Problem, RecordProblem) as problem:
            raise bad_format(self._name, "", f"expected a JSON list of objects ({problem}).") from None
        self._begin = begin
        return 1, self._raw[begin:end]

    def _first_line(self) -> tuple[int, bytes]:
        first = next(self._read_lines(0), None)
        if first is None:
            raise self._no_records()
        return first

    def _no_records(self) -> AutoScorerError:
        return bad_format(self._name, "", "the file holds no records; expected objects with an id and a value.")

    def _read_lines(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The lines behind the first ``number`` that are not blank, with their numbers."""
        while line := self._file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            if len(line) > MAX_RECORD_BYTES:
                raise self._fail(number, f"the line is longer than {MAX_RECORD_BYTES:,} bytes.")
            self._digest.update(line)
            self.consumed += len(line)
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            if (not text.isascii() or b"\\u" in text or b"\0" in text) and (bad := find_bad_text(text)):
                at = self.consumed - len(text) + bad[0]
                raise self._fail(number, f"{bad[1]} at byte {at} of the file; expected UTF-8 text without NUL.")
            yield number, text

    def _text(self, value: Any, name: str, number: int) -> bytes:
        text = bytes(value)
        if not text:
            raise self._fail(number, f"the key {name!r} is missing.")
        if text[:1] == b'"':
            try:
                return self._string(text).encode() if b"\\" in text or not text.isascii() else text[1:-1]
            except ValueError:  # msgspec's DecodeError and UnicodeError are both
                raise self._fail(number, f"{name!r} is not valid UTF-8 text.") from None
        if text[:1] in b"[{" or text == b"null":
            kind = {b"[": "a list", b"{": "an object"}.get(text[:1], "null")
            raise self._fail(number, f"{name!r} is {kind}; expected text or a number.")
        return text

    def _decode(self, decoder: Any, text: bytes, number: int) -> Any:
        try:
            return decoder.decode(text)
        except self._errors as error:
            raise self._no_object(number, text, self._begin, error) from None

    def _no_object(self, number: int, text: bytes, begin: int, error: Exception) -> AutoScorerError:
        if bad := find_bad_text(text):
            return self._fail(
                number, f"{bad[1]} at byte {begin + bad[0]} of the file; expected UTF-8 text without NUL."
            )
        return self._fail(number, f"expected a JSON object ({error}).")


class ParquetReader(_RecordReader):
    """A Parquet file with columns of text, integers, booleans or floats.

    Raises:
        AutoScorerError: ``BAD_FORMAT`` when it is not Parquet, or when pyarrow is not installed.
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
        # Arrow's own allocators keep what was freed, some 40 MiB of it.
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
        self._parquet = self._open()
        metadata = self._parquet.metadata
        if metadata.num_rows > MAX_PARQUET_ROWS:
            raise bad_format(name, "", f"more than {MAX_PARQUET_ROWS:,} rows.")
        self.header = list(self._parquet.schema_arrow.names)
        if len(self.header) > MAX_COLUMNS:
            raise bad_format(name, "", f"it has {len(self.header):,} columns; expected at most {MAX_COLUMNS:,}.")
        self.consumed = self.size

    def _open(self, dictionaries: Sequence[str] = ()) -> Any:
        import pyarrow.parquet

        self._file.seek(0)
        try:
            return pyarrow.parquet.ParquetFile(
                self._file,
                read_dictionary=list(dictionaries),
                # A stream of pages instead of whole columns of a row group.
                pre_buffer=False,
                buffer_size=1 << 20,
                thrift_container_size_limit=100_000,
            )
        except (pyarrow.ArrowException, OSError) as error:
            raise bad_format(self._name, "", f"expected a Parquet file ({error}).") from None

    def blocks(self, wanted: Sequence[int]) -> Iterator[Block]:
        """Yield the rows in order."""
        names = [self.header[column] for column in wanted]
        texts = self._check_columns(names)
        self._check_unfolded(names)
        done = 0
        try:
            for group in range(self._parquet.metadata.num_row_groups):
                # A text that is stored once is made for every row: so many rows at a time as there is room for.
                longest = max((self._longest(group, name) for name in texts), default=32)
                rows = max(1, min(_BATCH, _UNFOLDED_BYTES // 8 // longest))
                for batch in self._parquet.iter_batches(rows, [group], names, use_threads=False):
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

    def _check_columns(self, names: Sequence[str]) -> list[str]:
        """The columns of text; those of neither text nor numbers are refused."""
        import pyarrow.types as kinds

        texts = []
        for name in names:
            kind = self._parquet.schema_arrow.field(name).type
            value = kind.value_type if kinds.is_dictionary(kind) else kind
            if kinds.is_string(value) or kinds.is_large_string(value):
                texts.append(name)
            elif not (kinds.is_integer(value) or kinds.is_floating(value) or kinds.is_boolean(value)):
                raise bad_format(self._name, "", f"the column {name!r} holds {kind}; expected text or numbers.")
        return texts

    def _check_unfolded(self, names: Sequence[str]) -> None:
        """Refuse what unfolds to far more than the file: a page of it has to be held whole."""
        metadata = self._parquet.metadata
        most = _UNFOLDED_BYTES + 2 * self.size
        for group in range(metadata.num_row_groups):
            columns = metadata.row_group(group)
            for number in range(columns.num_columns):
                column = columns.column(number)
                name, size = column.path_in_schema, column.total_uncompressed_size
                if name in names and size > most:
                    raise bad_format(
                        self._name,
                        "",
                        f"the column {name!r} unfolds to {size:,} bytes in row group {group}; expected at most "
                        f"{most:,}. Write smaller row groups.",
                    )

    def _longest(self, group: int, name: str) -> int:
        """The bytes of the longest text in a row group's dictionary; of a text that is in none, at least."""
        import pyarrow.compute

        rows = self._open([name]).iter_batches(1, [group], [name], use_threads=False)
        first = next(rows, None)
        if first is None or not first.num_rows:
            return 1
        texts = first.column(0).dictionary
        longest = pyarrow.compute.max(pyarrow.compute.binary_length(texts)).as_py() or 1
        if longest > MAX_TEXT_BYTES:
            problem = f"a text of {name!r} has {longest:,} bytes; expected at most {MAX_TEXT_BYTES:,}."
            raise bad_format(self._name, "", problem)
        return max(int(longest), 32)

    def _text(self, value: object, name: str, number: int) -> bytes:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bool):
            return b"true" if value else b"false"
        if isinstance(value, (int, float)):
            return repr(value).encode()
        kind = "null" if value is None else type(value).__name__
        raise self._fail(number, f"{name!r} is {kind}; expected text or a number.")
