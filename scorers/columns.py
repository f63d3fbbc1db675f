"""What the reader fills while a file streams by: ids as words, labels as codes, numbers as float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import packing
from .csv_reader import Block
from .packing import MAX_PACKED, NEVER, Words, pack, unpack

__all__ = ["IdColumn", "LabelColumn", "Labels", "LongIds"]

Codes = NDArray[np.int64]


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


class IdColumn:
    """The ids of one file, packed (see ``packing``).

    Memory is asked for as zeroed pages and touched only where there is something to write: one id of 60 bytes
    does not make every row cost 64.
    """

    def __init__(self, long_ids: LongIds) -> None:
        self.rows = 0
        self.words: list[Words] = []
        # For each word, the bits set in some id, and the bits set in every id.
        self.some: list[int] = []
        self.every: list[int] = []
        self._long_ids = long_ids
        self._long: list[NDArray[np.int64]] = []
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
        count = min(-(-longest // 8), MAX_PACKED // 8)
        self._reserve(self.rows + block.rows, expected_rows, count)
        out = [word[self.rows : self.rows + block.rows] for word in self.words[:count]]
        pack(block, column, count, out)
        if longest > MAX_PACKED:
            rows = np.flatnonzero(lengths > MAX_PACKED)
            out[0][rows] = [NEVER | self._long_ids.number(block.text(column, row)) for row in rows.tolist()]
            for word in out[1:]:
                word[rows] = 0
            self._long.append(rows + self.rows)
        for j, word in enumerate(out):
            self.some[j] |= int(np.bitwise_or.reduce(word))
            self.every[j] &= int(np.bitwise_and.reduce(word))
        for j in range(count, len(self.words)):
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

    def widen(self, count: int) -> None:
        """Pad to ``count`` words, as the other file needs them."""
        while len(self.words) < count:
            self.words.append(np.zeros(self.rows, np.uint64))
            self.some.append(0)
            self.every.append(0)

    def _reserve(self, rows: int, expected_rows: int, count: int) -> None:
        if rows > self._capacity:
            self._capacity = max(rows, expected_rows) if not self._capacity else max(rows, self._capacity * 5 // 4)
            for j, old in enumerate(self.words):
                new = np.zeros(self._capacity, np.uint64)
                new[: self.rows] = old[: self.rows]
                self.words[j] = new
        while len(self.words) < count:
            self.words.append(np.zeros(self._capacity, np.uint64))
            self.some.append(0)
            self.every.append(0 if self.rows else (1 << 64) - 1)


class Labels:
    """A dictionary of label texts that numbers a whole column at a time. Shared by the two files of a join.

    An open-addressing table finds a candidate for every row, the packed words decide; rows that this leaves open
    (a new label, a crowded slot, a label of more than 64 bytes) are looked up as Python bytes.
    """

    _PROBES = 8
    _FEW = 4096
    _TRIALS = 16

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self._codes: dict[bytes, int] = {}
        self._count = 1
        self._words: list[Words] = []
        self._table = np.zeros(0, np.int64)
        self._slot_mask = 0
        self._rebuild()

    def encode(self, block: Block, column: int) -> Codes:
        """The code of each row's label; labels never seen before get the next ones."""
        lengths = block.lengths[column]
        longest = int(lengths.max())
        count = max(self._count, min(-(-longest // 8), MAX_PACKED // 8))
        if count > self._count:
            self._count = count
            self._rebuild()
        words = pack(block, column, count)
        missed = np.flatnonzero(lengths <= MAX_PACKED) if longest > MAX_PACKED else np.arange(block.rows)
        codes = np.zeros(block.rows, np.int64)
        if self.texts:
            if self._crowded and not self._spread:
                self._rebuild(spread=True)
            codes, missed = self._look_up(words)
            if longest > MAX_PACKED:
                missed = missed[lengths[missed] <= MAX_PACKED]
        while len(missed):
            # A few new labels at a time: most of the other rows repeat them, and need not be sorted then.
            few = max(512, len(self.texts))
            some, missed = missed[:few], missed[few:]
            codes[some] = self._learn([word[some] for word in words])
            if len(missed):
                codes[missed], still = self._look_up([word[missed] for word in words])
                missed = missed[still]
        if longest > MAX_PACKED:
            for row in np.flatnonzero(lengths > MAX_PACKED).tolist():
                codes[row] = self._code(block.text(column, row))
        return codes

    def ranks(self) -> NDArray[np.integer]:
        """For each code the label's rank in the order of the texts (of Unicode code points), in the smallest type."""
        order = sorted(range(len(self.texts)), key=self.texts.__getitem__)
        ranks = np.empty(len(order), _smallest_type(len(order)))
        ranks[order] = np.arange(len(order))
        return ranks

    def _code(self, text: bytes) -> int:
        code = self._codes.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def _look_up(self, words: Sequence[Words]) -> tuple[Codes, NDArray[np.intp]]:
        slots = self._slots(packing.mix(words))
        entries = self._table[slots]
        wrong = words[0] != self._words[0][entries]
        for j in range(1, len(words)):
            wrong |= words[j] != self._words[j][entries]
        open_rows = np.flatnonzero(wrong)
        self._crowded = bool(len(open_rows))
        for probe in range(1, self._PROBES):
            if not len(open_rows):
                break
            again = self._table[(slots[open_rows] + probe) & self._slot_mask]
            right = np.ones(len(again), np.bool_)
            for word, known in zip(words, self._words, strict=True):
                right &= word[open_rows] == known[again]
            entries[open_rows[right]] = again[right]
            open_rows = open_rows[~right]
        return entries - 1, open_rows

    def _learn(self, words: list[Words]) -> Codes:
        texts, inverse = np.unique(unpack(words), return_inverse=True)
        before = len(self.texts)
        codes = np.array([self._code(text) for text in texts.tolist()], np.int64)
        if len(self.texts) > before:
            self._rebuild()
        return codes[inverse]

    def _rebuild(self, *, spread: bool = False) -> None:
        """Lay the table out anew: at most one slot in sixteen taken, entry 0 standing for "empty".

        Args:
            spread: Look for a table and a multiplier that give each label a slot of its own: worth it once no more
                labels turn up, as a second probe for a few rows costs as much as the first one for all.
        """
        taken = len(self.texts)
        spread = spread and taken <= self._FEW
        size = 1 << max(10, (16 * taken).bit_length(), min((taken * taken // 2).bit_length(), 18) if spread else 0)
        self._spread = spread or taken > self._FEW
        self._crowded = False
        short = [text if len(text) <= MAX_PACKED else b"\xff" for text in [b"\xff", *self.texts]]
        packed = np.array(short, f"S{8 * self._count}").view(">u8").reshape(-1, self._count)
        self._words = [packed[:, j].astype(np.uint64) for j in range(self._count)]
        self._shift = np.uint64(64 - (size.bit_length() - 1))
        self._slot_mask = size - 1
        hashes = packing.mix(self._words)
        for trial in range(self._TRIALS if spread else 1):
            self._salt = np.uint64((2 * trial + 1) * 0x9E3779B97F4A7C15 % 2**64)
            home = self._slots(hashes)[1:]
            if spread and (np.diff(np.sort(home)) != 0).all():
                break
        self._table = np.zeros(size, np.int64)
        waiting = np.arange(1, len(short))
        for probe in range(self._PROBES):
            slots = (home[waiting - 1] + probe) & self._slot_mask
            free = self._table[slots] == 0
            self._table[slots[free]] = waiting[free]
            waiting = waiting[self._table[slots] != waiting]

    def _slots(self, hashes: Words) -> NDArray[np.int64]:
        return ((hashes * self._salt) >> self._shift).view(np.int64)


def _smallest_type(codes: int) -> np.dtype[np.integer]:
    return np.dtype(np.uint8 if codes <= 1 << 8 else np.uint16 if codes <= 1 << 16 else np.int32)


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
        kind = _smallest_type(len(self.labels.texts))
        if needed > len(self.codes) or kind.itemsize > self.codes.itemsize:
            capacity = len(self.codes)
            if needed > capacity:
                capacity = max(needed, expected_rows if not capacity else capacity * 5 // 4)
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
