"""Columns of boxes, filled batch by batch: positions instead of ids, finite boxes, and the checks of each record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..tables.arrays import Bools, Floats, Ints
from ..tables.json_batches import Batch
from .coco_json import BoxRecord, bad_file, bad_record

__all__ = ["MOST_IDS", "BoxColumns", "Ident", "TruthColumns", "first_true", "joined", "lookup", "shown"]

Ident = int | str
T = TypeVar("T", bound=np.generic)

# Different images, and different categories, of a file.
MOST_IDS = 1_000_000
# Coordinates beyond it overflow in w * h, sides below its inverse underflow to a 0 / 0 in the IoU.
_LARGEST = 1e100
_CROWD = frozenset({1})  # and True, which equals it


class _Idents:
    """Ids numbered as they come, and the number of each record's."""

    def __init__(self, kind: str, path: Path) -> None:
        self.index: dict[Ident, int] = {}
        self._kind, self._path = kind, path
        self._parts: list[NDArray[np.int32]] = []

    def add(self, idents: list[Ident]) -> None:
        get = self.index.get
        codes = np.fromiter(map(get, idents, repeat(-1)), np.int32, len(idents))
        if (codes < 0).any():
            for i in np.flatnonzero(codes < 0).tolist():
                codes[i] = self.index.setdefault(idents[i], len(self.index))
            if len(self.index) > MOST_IDS:
                bad_file(self._path, f"it names more than {MOST_IDS:,} different {self._kind}")
        self._parts.append(codes)

    def codes(self) -> NDArray[np.int32]:
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts or [np.zeros(0, np.int32)])]
        return self._parts[0]

    def positions(self, index: dict[Ident, int]) -> Ints:
        """Each record's position by another numbering, or -1."""
        return lookup(index, self.index, len(self.index))[self.codes()]

    def at(self, record: int) -> Ident:
        return list(self.index)[int(self.codes()[record])]


class BoxColumns:
    """The columns that ground truth and predictions share."""

    where = "record"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.images, self.categories = _Idents("images", path), _Idents("categories", path)
        self._boxes: list[Floats] = []

    def add(self, batch: Batch) -> None:
        records = batch.records
        self._boxes.append(_boxes(records, self.where, self.path, batch.first))
        self.images.add(list(map(attrgetter("image_id"), records)))
        self.categories.add(list(map(attrgetter("category_id"), records)))
        self.count += len(records)

    def boxes(self) -> Floats:
        return np.concatenate(self._boxes or [np.zeros((0, 4))])


class TruthColumns(BoxColumns):
    """And those of annotations alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.areas: list[Floats] = []
        self.given: list[Bools] = []
        self.crowds: list[Bools] = []
        self._numbers: list[Ints] = []
        self._rows: list[Ints] = []
        self._others: set[Ident] = set()

    def add(self, batch: Batch) -> None:
        super().add(batch)
        records, n = batch.records, len(batch.records)
        area, given = _optional_floats(list(map(attrgetter("area"), records)))
        if (i := first_true(given & ~((area >= 0) & (area <= _LARGEST**2)))) is not None:
            problem = f"area must be a finite number of at least 0, got {area[i]}"
            bad_record(self.path, self.where, batch.first + i, problem, "area")
        self.areas.append(area)
        self.given.append(given)
        crowd = map(_CROWD.__contains__, map(attrgetter("iscrowd"), records))
        self.crowds.append(np.fromiter(crowd, np.bool_, n))
        self._add_ids(list(map(attrgetter("id"), records)), batch.first)

    def _add_ids(self, idents: list[Any], first: int) -> None:
        """Numbers are kept as such, to be looked at in the end: a set of them would take more than the file."""
        rows = [i for i, ident in enumerate(idents) if type(ident) is int and -(2**63) <= ident < 2**63]
        if rows:
            numbers = (idents[i] for i in rows)
            self._numbers.append(np.fromiter(numbers, np.int64, len(rows)))
            self._rows.append(np.array(rows, np.int64) + first)
        if len(rows) < len(idents):
            for i in sorted(set(range(len(idents))).difference(rows)):
                ident = idents[i]
                if type(ident) in (int, str):
                    if ident in self._others:
                        self._is_there_twice(first + i, ident)
                    self._others.add(ident)

    def refuse_duplicate_ids(self) -> None:
        numbers = joined(self._numbers, np.int64)
        order = np.argsort(numbers, kind="stable")
        again = order[1:][numbers[order[1:]] == numbers[order[:-1]]]
        if len(again):
            self._is_there_twice(int(joined(self._rows, np.int64)[again.min()]), int(numbers[again.min()]))

    def _is_there_twice(self, row: int, ident: Ident) -> NoReturn:
        bad_record(self.path, self.where, row, f"annotation id {shown(ident)} appears twice", "id")


def joined(parts: list[NDArray[T]], kind: type[T]) -> NDArray[T]:
    """The parts as one array; they are let go."""
    whole = np.concatenate([np.zeros(0, kind), *parts]) if len(parts) != 1 else parts[0]
    parts.clear()
    return whole


def _boxes(records: Sequence[BoxRecord], where: str, path: Path, first: int) -> Floats:
    """The (N, 4) boxes, every one usable; ``first`` is the place of the first record in its list."""
    flat = chain.from_iterable(map(attrgetter("bbox"), records))
    boxes = np.fromiter(flat, np.float64, 4 * len(records)).reshape(-1, 4)
    if not len(boxes) or (boxes.min() >= -_LARGEST and boxes.max() <= _LARGEST and boxes[:, 2:].min() >= 1 / _LARGEST):
        return boxes
    # NaN fails every comparison, so it ends up among the bad ones.
    good = (np.abs(boxes) <= _LARGEST).all(axis=1)
    good &= ((boxes[:, 2:] == 0) | (boxes[:, 2:] >= 1 / _LARGEST)).all(axis=1)
    if (i := first_true(~good)) is not None:
        bad_record(
            path,
            where,
            first + i,
            f"bbox must be [x, y, width, height], finite, with sides of at least 0, got {boxes[i].tolist()}",
            "bbox",
        )
    return boxes


def first_true(mask: Bools) -> int | None:
    return int(mask.argmax()) if mask.any() else None


def _optional_floats(values: list[Any]) -> tuple[Floats, Bools]:
    """The values, NaN for those absent, and which are there."""
    if set(map(type, values)) <= {float}:
        return np.array(values, np.float64), np.ones(len(values), np.bool_)
    given = np.fromiter((type(value) is float for value in values), np.bool_, len(values))
    return np.fromiter((v if type(v) is float else np.nan for v in values), np.float64, len(values)), given


def lookup(index: dict[Ident, int], idents: Iterable[Ident], n: int) -> Ints:
    return np.fromiter(map(index.get, idents, repeat(-1)), np.int64, n)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
