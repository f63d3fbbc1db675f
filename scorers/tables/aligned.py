"""Two tables joined by id: what every tabular scorer starts from.

``load_aligned`` reads the ground truth and the predictions once each, hashing them on the way, and answers with an
``AlignedTable``: truth and prediction side by side, in an order that depends on the ids alone. ``check_table`` reads
the ground truth alone.

Predictions with far more rows than the ground truth are not read to their end: what they cost is bounded by the ground
truth. The contract: rows are joined by id, never by position; ids and labels are text (``001`` is not ``1``, ``NA`` and
``null`` are labels); numbers are finite float64; missing, extra and repeated ids are counted and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError, ErrorCode, suggest
from ...core.workspace import Workspace
from .arrays import Floats
from .block import MAX_TEXT_BYTES, bad_format
from .columns import IdColumn, LabelColumn, LongIds
from .csv_reader import CsvReader
from .encodings import digest_of, open_text
from .join import Alignment, align, check_unique, too_many
from .labels import MAX_LABELS, Labels, TooManyLabelsError
from .numbers import NumberColumn
from .record_reader import JsonReader, ParquetReader

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AlignedTable", "Columns", "Values", "check_table", "load_aligned", "read_columns"]

Values = Literal["text", "number"]
Reader = CsvReader | JsonReader | ParquetReader

# Predictions are read to their end, and every fault in them counted, as long as they have only so many rows (or an
# eighth) more than the ground truth.
_MORE_ROWS = 10_000

# The encodings of the ground truth and of the predictions, where nothing is said of them.
UTF_8 = ("utf-8", "utf-8")
_NO_CODES: NDArray[np.integer] = np.zeros(0, np.uint8)
_NONE: Floats = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what.

    Attributes:
        id: The id column, in both files.
        truth: Names the ground truth's value column may have; the first that is there is taken.
        prediction: The same for the predictions.
    """

    id: str = "id"
    truth: tuple[str, ...] = ("label",)
    prediction: tuple[str, ...] = ("label", "prediction")


@dataclass
class AlignedTable:
    """Ground truth and predictions by id, n rows, in the order of the ids.

    The order is the same for the same ids, however the files were sorted.

    Attributes:
        values: ``text`` or ``number``: as what the two value columns were read.
        ground_truth_sha256: Hex digest of the file's bytes.
        predictions_sha256: The same of the predictions.
        labels: Every label of either file in text order; empty for numbers. A list, or where that would take much
            memory a sequence that decodes each when it is asked for.
        truth_codes: For text, index into ``labels`` of each row's truth, shape (n,).
        prediction_codes: The same for the predictions.
        truth_numbers: For numbers, float64, shape (n,).
        prediction_numbers: The same for the predictions.
    """

    values: Values
    ground_truth_sha256: str
    predictions_sha256: str
    labels: Sequence[str]
    truth_codes: NDArray[np.integer]
    prediction_codes: NDArray[np.integer]
    truth_numbers: Floats
    prediction_numbers: Floats
    _alignment: Alignment = field(repr=False)
    _files: tuple[Path, Path] = field(repr=False)
    _columns: Columns = field(repr=False)
    _encodings: tuple[str, str] = field(repr=False, default=UTF_8)

    def __len__(self) -> int:
        return len(self._alignment)

    @property
    def prediction_file(self) -> str:
        """The name of the file of the predictions."""
        return self._files[1].name

    @cached_property
    def ids(self) -> list[str]:
        """The ids as text."""
        return self._alignment.ids()

    @cached_property
    def truth(self) -> list[str] | Floats:
        """The truth as what was asked for: a list of str, or float64 of shape (n,)."""
        return self._as_asked(self.truth_codes, self.truth_numbers)

    @cached_property
    def prediction(self) -> list[str] | Floats:
        """The predictions as what was asked for: a list of str, or float64 of shape (n,)."""
        return self._as_asked(self.prediction_codes, self.prediction_numbers)

    def ids_at(self, rows: NDArray[np.intp]) -> list[str]:
        """The ids of some rows."""
        return self._alignment.ids(rows)

    def frame(self) -> pd.DataFrame:
        """A pandas DataFrame with ``id``, ``truth``, ``prediction`` and every further column of the files as text.

        A further column that both files have, or that is named like one of the three, is told apart by a suffix
        (``_ground_truth``, ``_predictions``). Reads the files again.

        Raises:
            AutoScorerError: ``BAD_FORMAT`` when a file has changed since it was scored.
        """
        import pandas as pd

        data: dict[str, object] = {"id": self.ids, "truth": self.truth, "prediction": self.prediction}
        names = (self._columns.truth, self._columns.prediction)
        digests = (self.ground_truth_sha256, self.predictions_sha256)
        extra: list[dict[str, list[str]]] = []
        for path, name, digest, encoding in zip(self._files, names, digests, self._encodings, strict=True):
            columns, now = read_columns(path, encoding=encoding)
            if now != digest:
                raise bad_format(path.name, "", "the file was changed while it was being scored.")
            row_of = {key: row for row, key in enumerate(columns.pop(self._columns.id))}
            rows = [row_of[key] for key in self.ids]
            columns.pop(_value_column(list(columns), name, path.name))
            extra.append({key: [column[row] for row in rows] for key, column in columns.items()})
        for mine, other, suffix in zip(extra, extra[::-1], ("_ground_truth", "_predictions"), strict=True):
            for key, column in mine.items():
                clash = key in other or key in ("id", "truth", "prediction")
                data[key + suffix if clash else key] = column
        return pd.DataFrame(data)

    def _as_asked(self, codes: NDArray[np.integer], numbers: Floats) -> list[str] | Floats:
        return numbers if self.values == "number" else [self.labels[code] for code in codes.tolist()]


def load_aligned(
    workspace: Workspace, columns: Columns, values: Values, *, encodings: tuple[str, str] = UTF_8
) -> AlignedTable:
    """Read both files of a workspace, check them and join them by id.

    Args:
        workspace: The folder.
        columns: Which columns hold what.
        values: As what the values are read.
        encodings: Of the ground truth and of the predictions.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``OUTPUT_REJECTED``, ``BAD_FORMAT``, ``PARSE_ERROR`` or ``MISMATCH``.
    """
    truth_path, path = workspace.ground_truth(), workspace.predictions()
    long_ids, labels = LongIds(), Labels()
    ids = IdColumn(long_ids), IdColumn(long_ids)
    texts = LabelColumn(labels), LabelColumn(labels)
    floats = _numbers(truth_path), _numbers(path)
    stores = texts if values == "text" else floats
    names = truth_path.name, path.name
    truth_digest = _read(truth_path, columns.id, columns.truth, ids[0], stores[0], encodings[0]).sha256
    most = ids[0].rows + max(_MORE_ROWS, ids[0].rows // 8)
    reading = _read(path, columns.id, columns.prediction, ids[1], stores[1], encodings[1], most=most, may_be_empty=True)
    if not reading.complete:
        raise too_many(*ids, long_ids, names)
    digests = truth_digest, reading.sha256
    codes, numbers = (_NO_CODES, _NO_CODES), (_NONE, _NONE)
    texts_in_order: Sequence[str] = []
    if values == "text":
        alignment = align(*ids, long_ids, names, (texts[0].finish(), texts[1].finish()))
        ranks, texts_in_order = labels.in_order()
        codes = ranks[alignment.truth], ranks[alignment.predictions]
    else:
        alignment = align(*ids, long_ids, names)
        numbers = floats[0].in_order(alignment.truth), floats[1].in_order(alignment.predictions)
    return AlignedTable(
        values=values,
        ground_truth_sha256=digests[0],
        predictions_sha256=digests[1],
        labels=texts_in_order,
        truth_codes=codes[0],
        prediction_codes=codes[1],
        truth_numbers=numbers[0],
        prediction_numbers=numbers[1],
        _alignment=alignment,
        _files=(truth_path, path),
        _columns=columns,
        _encodings=encodings,
    )


def check_table(path: Path, id_column: str, names: Sequence[str], values: Values, *, encoding: str = "utf-8") -> str:
    """Read one file on its own and check that its ids are there and unique.

    Returns:
        Its sha256.

    Raises:
        AutoScorerError: As ``load_aligned``.
    """
    long_ids = LongIds()
    ids = IdColumn(long_ids)
    store = LabelColumn(Labels()) if values == "text" else _numbers(path)
    digest = _read(path, id_column, names, ids, store, encoding).sha256
    check_unique(ids, long_ids, path.name)
    return digest


def read_columns(path: Path, *, encoding: str = "utf-8") -> tuple[dict[str, list[str]], str]:
    """Every column of a table as text, in file order, and the file's sha256.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, ``MISSING_FILE`` or ``OUTPUT_REJECTED``.
    """
    with open_text(path, encoding) as file:
        reader = _reader(file, path.name)
        columns: dict[str, list[str]] = {name: [] for name in reader.header}
        for block in reader.blocks(range(len(reader.header))):
            for column, values in enumerate(columns.values()):
                values.extend(text.decode() for text in block.texts(column))
        return columns, digest_of(file, reader.sha256)


_READERS: dict[str, Callable[[IO[bytes], str], Reader]] = {
    ".csv": CsvReader,
    ".json": lambda file, name: JsonReader(file, name, lines=False),
    ".jsonl": lambda file, name: JsonReader(file, name, lines=True),
    ".parquet": ParquetReader,
}


def _numbers(path: Path) -> NumberColumn:
    return NumberColumn(path.name, quoted=path.stem != "gt")


def _reader(file: IO[bytes], name: str) -> Reader:
    suffix = Path(name).suffix
    if suffix not in _READERS:
        raise bad_format(name, "", f"expected one of {', '.join(_READERS)}.")
    return _READERS[suffix](file, name)


class _Reading(NamedTuple):
    sha256: str
    complete: bool


def _read(
    path: Path,
    id_column: str,
    names: Sequence[str],
    ids: IdColumn,
    store: LabelColumn | NumberColumn,
    encoding: str,
    *,
    most: int | None = None,
    may_be_empty: bool = False,
) -> _Reading:
    """Stream one file into its columns; not to its end when it has more than ``most`` rows."""
    name = path.name
    with open_text(path, encoding) as file:
        reader = _reader(file, name)
        header = reader.header
        if id_column not in header:
            raise _no_column(name, header, [id_column])
        wanted = [header.index(id_column), header.index(_value_column(header, names, name))]
        expected = 0
        for block in reader.blocks(wanted):
            if ids.rows + block.rows > expected:
                whole = (ids.rows + block.rows) * max(reader.size, 1) / max(reader.consumed, 1)
                expected = int(whole * 1.02) + 64
                if most is not None:
                    expected = min(expected, most + block.rows)
            if not block.lengths[0].all():
                where = block.locate(int(np.argmin(block.lengths[0])))
                raise bad_format(name, where, "the id is empty.")
            for what, lengths in zip(("id", "value"), block.lengths, strict=True):
                if int(lengths.max()) > MAX_TEXT_BYTES:
                    row = int(np.argmax(lengths))
                    size = int(lengths[row])
                    problem = f"the {what} has {size:,} bytes; expected at most {MAX_TEXT_BYTES:,}."
                    raise bad_format(name, block.locate(row), problem)
            ids.append(block, 0, expected)
            try:
                store.append(block, 1, expected)
            except TooManyLabelsError:
                raise bad_format(
                    name,
                    block.locate(block.rows - 1),
                    f"up to here there are more than {MAX_LABELS:,} different labels, those of the ground truth "
                    "included. Numbers are compared by regression_rmse.",
                ) from None
            if most is not None and ids.rows > most:
                return _Reading("", complete=False)
        if not ids.rows and not may_be_empty:
            raise bad_format(name, "", "the file has a header and no rows.")
        return _Reading(digest_of(file, reader.sha256), complete=True)


def _value_column(header: Sequence[str], names: Sequence[str], file: str) -> str:
    for name in names:
        if name in header:
            return name
    raise _no_column(file, header, names)


def _no_column(file: str, header: Sequence[str], names: Sequence[str]) -> AutoScorerError:
    shown = [name[:80] for name in header[:20]]
    hint = suggest(names[0], shown) if shown else ""
    return AutoScorerError(
        ErrorCode.BAD_FORMAT,
        f"{file}, line 1: expected a column {' or '.join(map(repr, names))}, found {', '.join(map(repr, shown))}{hint}",
        details={"file": file, "line": 1, "columns": shown, "expected": list(names)},
    )
