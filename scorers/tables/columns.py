"""What the reader fills while a file streams by: ids as words, labels as codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .block import Block
from .labels import Labels, smallest_type
from .packing import MAX_PACKED, NEVER, Words, pack, unpack

__all__ = ["IdColumn", "LabelColumn", "LongIds", "texts_of"]

_STRIDE = 1 << 15
# A word that fewer than one row in so many reaches is kept for those rows alone.
_WORTH_AN_ARRAY = 4


class LongIds:
    """Ids beyond 64 bytes, each kept once; in the words stands its number. Shared by the two files of a join."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._sorted: list[bytes] = []

    def number(self, text: bytes) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def settle(self) -> NDArray[np.uint64]:
        """Give every id its rank among the sorted ids: the order of the files must not show in the numbers."""
        self._sorted = sorted(self._numbers)
        ranks = np.empty(len(self._sorted), np.uint64)
        for rank, text in enumerate(self._sorted):
            ranks[self._numbers[text]] = rank
        return ranks

    def text(self, rank: int) -> bytes:
        return self._sorted[rank]

    def __len__(self) -> int:
        return len(self._numbers)


class PatchedWord:
    """A word of every id, most of them zero: an array that was never written to, and the few others beside it."""

    def __init__(self, dense: Words, rows: NDArray[np.uint32], values: Words) -> None:
        self._dense, self._rows, self._values = dense, rows, values

    def __len__(self) -> int:
        return len(self._dense)

    def __getitem__(self, places: slice | NDArray[np.integer]) -> Words:
        out = self._dense[places].copy()
        if isinstance(places, slice):
            start, stop, _ = places.indices(len(self._dense))
            first, last = np.searchsorted(self._rows, np.array([start, stop], np.uint32))
            out[self._rows[first:last] - np.uint32(start)] = self._values[first:last]
            return out
        near = np.minimum(np.searchsorted(self._rows, places.astype(np.uint32)), len(self._rows) - 1)
        found = np.flatnonzero(self._rows[near] == places)
        out[found] = self._values[near[found]]
        return out


class IdColumn:
    """The ids of one file, packed (see ``packing``).

    One id of 60 bytes does not make every row cost 64: a word that few ids of a block reach is kept for those alone.
    """

    def __init__(self, long_ids: LongIds) -> None:
        self.rows = 0
        # Once finished, each is an array of shape (rows,), or reads like one.
        self.words: list[Words] = []
        # For each word, the bits set in some id, and the bits set in every id.
        self.some: list[int] = []
        self.every: list[int] = []
        self._long_ids = long_ids
        self._long: list[NDArray[np.int64]] = []
        self._few: dict[int, list[tuple[NDArray[np.uint32], Words]]] = {}
        self._capacity = 0

    def append(self, block: Block, column: int, expected_rows: int) -> None:
        """Add a block's ids.

        Args:
            block: Rows whose id field is not empty.
            column: Which of the block's columns holds the ids.
            expected_rows: How many rows the file may have in all; a hint.
        """
        lengths = block.lengths[column]
        longest = int(lengths.max())
        long_ids = longest > MAX_PACKED
        if long_ids:
            longest = int(lengths[lengths <= MAX_PACKED].max(initial=1))
        count = -(-longest // 8)
        dense = self._dense_words(lengths, count)
        self._reserve(self.rows + block.rows, expected_rows, count)
        out = [word[self.rows : self.rows + block.rows] for word in self.words[:dense]]
        pack(block, column, dense, out)
        if long_ids:
            rows = np.flatnonzero(lengths > MAX_PACKED)
            out[0][rows] = [NEVER | self._long_ids.number(block.text(column, row)) for row in rows.tolist()]
            for word in out[1:]:
                word[rows] = 0
            self._long.append(rows + self.rows)
        for j, word in enumerate(out):
            self.some[j] |= int(np.bitwise_or.reduce(word))
            self.every[j] &= int(np.bitwise_and.reduce(word))
        if dense < count:
            self._append_few(block, column, dense, count)
        for j in range(dense, len(self.words)):
            self.every[j] = 0
        self.rows += block.rows

    def finish(self, ranks: NDArray[np.uint64]) -> None:
        """Cut to size and give long ids their ranks (``LongIds.settle``)."""
        self.words = [word[: self.rows] for word in self.words]
        for rows in self._long:
            numbers = self.words[0][rows] & np.uint64(NEVER ^ (2**64 - 1))
            self.words[0][rows] = ranks[numbers.astype(np.int64)] | np.uint64(NEVER)
            self.some[0] |= int(np.bitwise_or.reduce(self.words[0][rows]))
            self.every[0] &= int(np.bitwise_and.reduce(self.words[0][rows]))
        for j, parts in self._few.items():
            rows_of, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            self.words[j] = PatchedWord(self.words[j], rows_of, values)  # type: ignore[call-overload]
        self._few.clear()

    def widen(self, count: int) -> None:
        """Pad to ``count`` words, as the other file needs them."""
        while len(self.words) < count:
            self.words.append(np.zeros(self.rows, np.uint64))
            self.some.append(0)
            self.every.append(0)

    @staticmethod
    def _dense_words(lengths: NDArray[np.int64], count: int) -> int:
        """How many of the words are worth an array with all rows."""
        if int(lengths.min()) > 8 * (count - 1):
            return count
        for j in range(1, count):
            reached = np.count_nonzero((lengths > 8 * j) & (lengths <= MAX_PACKED))
            if reached < len(lengths) / _WORTH_AN_ARRAY:
                return j
        return count

    def _append_few(self, block: Block, column: int, dense: int, count: int) -> None:
        lengths = block.lengths[column]
        rows = np.flatnonzero((lengths > 8 * dense) & (lengths <= MAX_PACKED))
        part = Block(block.data, [block.starts[column][rows]], [lengths[rows]], block.locate)
        for j, word in enumerate(pack(part, 0, count)):
            if j >= dense and len(kept := np.flatnonzero(word)):
                self._few.setdefault(j, []).append(((rows[kept] + self.rows).astype(np.uint32), word[kept]))
                self.some[j] |= int(np.bitwise_or.reduce(word))

    def _reserve(self, rows: int, expected_rows: int, count: int) -> None:
        if rows > self._capacity:
            self._capacity = max(rows, expected_rows if expected_rows > self._capacity else self._capacity * 5 // 4)
            for j, old in enumerate(self.words):
                new = np.zeros(self._capacity, np.uint64)
                for at in range(0, self.rows, _STRIDE):  # pages that were never written to stay so
                    part = old[at : min(at + _STRIDE, self.rows)]
                    if part.any():
                        new[at : at + len(part)] = part
                self.words[j] = new
        while len(self.words) < count:
            self.words.append(np.zeros(self._capacity, np.uint64))
            self.some.append(0)
            self.every.append(0 if self.rows else (1 << 64) - 1)


class LabelColumn:
    """The label codes of one file, in the smallest type that holds them."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.rows = 0
        self.codes: NDArray[np.integer] = np.zeros(0, np.uint8)

    def append(self, block: Block, column: int, expected_rows: int) -> None:
        """Add a block's labels."""
        codes = self.labels.encode(block, column)
        needed = self.rows + len(codes)
        kind = smallest_type(len(self.labels))
        if needed > len(self.codes) or kind.itemsize > self.codes.itemsize:
            capacity = len(self.codes)
            if needed > capacity:
                capacity = max(needed, expected_rows if expected_rows > capacity else capacity * 5 // 4)
            grown = np.zeros(capacity, max(kind, self.codes.dtype, key=lambda k: k.itemsize))
            grown[: self.rows] = self.codes[: self.rows]
            self.codes = grown
        self.codes[self.rows : needed] = codes
        self.rows = needed

    def finish(self) -> NDArray[np.integer]:
        """The codes, shape (rows,)."""
        return self.codes[: self.rows]


def texts_of(words: Sequence[Words], long_ids: LongIds) -> list[str]:
    """The ids of packed words as text."""
    if not len(words) or not len(words[0]):
        return []
    texts: list[bytes] = unpack(words).tolist()
    if len(long_ids):
        marked = np.flatnonzero(words[0] >= np.uint64(NEVER))
        for row in marked.tolist():
            texts[row] = long_ids.text(int(words[0][row]) & (NEVER ^ (2**64 - 1)))
    return [text.decode() for text in texts]
