"""The dictionary of labels: each text once, and a number for each row of a column.

It costs at most some 150 bytes a label, and there may be ``MAX_LABELS`` of them: a file in which every row has a label
of its own, as one that takes numbers for labels has, must not cost more than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from . import packing
from .arrays import Ints
from .block import Block
from .packing import MAX_PACKED, NEVER, Words, pack, unpack

__all__ = ["MAX_LABELS", "LabelTexts", "Labels", "TooManyLabelsError", "clipped", "smallest_type"]

Codes = Ints

# Different labels of both files together.
MAX_LABELS = 500_000
# So many bytes of label texts are decoded at once; more of them one by one, as they are asked for.
_DECODED_BYTES = 1 << 24
_SHOWN = 100


class TooManyLabelsError(Exception):
    """There are more than ``MAX_LABELS`` different labels."""


class LabelTexts(Sequence[str]):
    """Long label texts in text order, each decoded when it is asked for: a str can take four times its bytes."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        found = self._texts[place]
        return found.decode() if isinstance(found, bytes) else [text.decode() for text in found]


def clipped(label: str) -> str:
    """A label cut to 100 characters, for tables of very many long ones."""
    return label if len(label) <= _SHOWN else label[:_SHOWN] + "…"


class Labels:
    """A dictionary of label texts that numbers a whole column at a time. Shared by the two files of a join.

    An open-addressing table finds a candidate for every row, the packed words decide. Labels of more than 64 bytes, and
    the few that found no slot in the table, are looked up as Python bytes.
    """

    _PROBES = 8
    _FEW = 4096
    _MANY = 1 << 16
    _TRIALS = 16

    def __init__(self) -> None:
        self._taken = 0
        self._count = 1
        # The words of every label, from entry 1 on; of a label of more than 64 bytes, its first 64. Entry 0 is empty.
        self._words: list[Words] = [np.full(1024, NEVER, np.uint64)]
        self._long: dict[bytes, int] = {}
        self._without_slot: dict[bytes, int] = {}
        self._table: NDArray[np.signedinteger] = np.zeros(0, np.int64)
        self._slot_mask = 0
        self._rebuild()

    def __len__(self) -> int:
        return self._taken

    def encode(self, block: Block, column: int) -> Codes:
        """The code of each row's label; labels never seen before get the next ones.

        Raises:
            TooManyLabelsError: There are too many.
        """
        lengths = block.lengths[column]
        longest = int(lengths.max())
        count = max(self._count, min(-(-longest // 8), MAX_PACKED // 8))
        if count > self._count:
            self._words += [np.zeros(len(self._words[0]), np.uint64) for _ in range(self._count, count)]
            self._count = count
            self._rebuild()
        words = pack(block, column, count)
        missed = np.flatnonzero(lengths <= MAX_PACKED) if longest > MAX_PACKED else np.arange(block.rows)
        codes = np.zeros(block.rows, np.int64)
        if self._taken:
            if self._crowded and not self._spread:
                self._rebuild(spread=True)
            codes, missed = self._look_up(words)
            if longest > MAX_PACKED:
                missed = missed[lengths[missed] <= MAX_PACKED]
        while len(missed):
            # A few new labels at a time: most of the other rows repeat them, and need not be sorted then.
            few = min(max(512, self._taken), 1 << 15)
            some, missed = missed[:few], missed[few:]
            codes[some] = self._learn([word[some] for word in words])
            if len(missed):
                codes[missed], still = self._look_up([word[missed] for word in words])
                missed = missed[still]
        if longest > MAX_PACKED:
            rows = np.flatnonzero(lengths > MAX_PACKED)
            texts = [block.text(column, row) for row in rows.tolist()]
            fresh = list(dict.fromkeys(text for text in texts if text not in self._long))
            self._long.update(zip(fresh, range(self._taken, self._taken + len(fresh)), strict=True))
            if fresh:
                self._append(np.array([text[:MAX_PACKED] for text in fresh], f"S{MAX_PACKED}"))
            codes[rows] = [self._long[text] for text in texts]
        return codes

    def in_order(self) -> tuple[NDArray[np.integer], Sequence[str]]:
        """For each code the label's rank in the order of the texts, in the smallest type; and the texts in that order.

        The order is that of Unicode code points, which is that of the bytes of UTF-8.
        """
        words = [word[1 : self._taken + 1] for word in self._words]
        order = np.lexsort(words[::-1])
        texts: dict[int, bytes] = {code: text for text, code in self._long.items()}
        if texts:
            self._order_long(words, order, texts)
        ranks = np.empty(len(order), smallest_type(len(order)))
        ranks[order] = np.arange(len(order))
        short: list[bytes] = unpack([word[order] for word in words]).tolist() if len(order) else []
        listed = [texts.get(code, text) for code, text in zip(order.tolist(), short, strict=True)] if texts else short
        if sum(map(len, listed)) > _DECODED_BYTES:
            return ranks, LabelTexts(listed)
        return ranks, [text.decode() for text in listed]

    @staticmethod
    def _order_long(words: Sequence[Words], order: NDArray[np.intp], texts: dict[int, bytes]) -> None:
        """Put labels in order whose first 64 bytes are alike."""
        alike = np.ones(max(len(order) - 1, 0), np.bool_)
        for word in words:
            alike &= word[order[1:]] == word[order[:-1]]
        edges = np.flatnonzero(np.diff(alike.astype(np.int8), prepend=0, append=0))
        for start, stop in zip(edges[::2].tolist(), (edges[1::2] + 1).tolist(), strict=True):
            run = order[start:stop].tolist()
            # One that is not among the long ones has 64 bytes, and so stands before all that begin with it.
            order[start:stop] = sorted(run, key=lambda code: texts.get(code, b""))

    def _look_up(self, words: Sequence[Words]) -> tuple[NDArray[np.signedinteger], NDArray[np.intp]]:
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
        codes = np.empty(len(texts), np.int64)
        fresh = np.ones(len(texts), np.bool_)
        if self._without_slot:
            known = [self._without_slot.get(text, -1) for text in texts.tolist()]
            codes[:] = known
            fresh = codes < 0
        count = int(np.count_nonzero(fresh))
        if count:
            before = self._taken
            codes[fresh] = np.arange(before, before + count)
            self._append(texts[fresh])
            if self._room < self._taken:
                self._rebuild()
            else:
                self._place(np.arange(before + 1, self._taken + 1))
        return codes[inverse]

    def _append(self, texts: NDArray[np.bytes_]) -> None:
        """Keep the words of new labels."""
        first, last = self._taken + 1, self._taken + 1 + len(texts)
        if last - 1 > MAX_LABELS:
            raise TooManyLabelsError
        if last > len(self._words[0]):
            self._words = [np.concatenate([word, np.zeros(last, np.uint64)]) for word in self._words]
        packed = texts.astype(f"S{8 * self._count}").view(">u8").reshape(-1, self._count)
        for j, word in enumerate(self._words):
            word[first:last] = packed[:, j]
        self._taken += len(texts)

    def _rebuild(self, *, spread: bool = False) -> None:
        """Lay the table out anew, with few of its slots taken; entry 0 stands for "empty".

        Args:
            spread: Look for a table and a multiplier that give each label a slot of its own: worth it once no more
                labels turn up, as a second probe for a few rows costs as much as the first one for all.
        """
        taken = self._taken
        many = taken > self._MANY
        spread = spread and taken <= self._FEW
        wanted = ((4 if many else 16) * taken).bit_length()
        size = 1 << max(10, wanted, min((taken * taken // 2).bit_length(), 18) if spread else 0)
        self._room = size // (4 if many else 16)
        self._spread = spread or taken > self._FEW
        self._crowded = False
        entries = self._short_entries()
        self._shift = np.uint64(64 - (size.bit_length() - 1))
        self._slot_mask = size - 1
        hashes = packing.mix([word[entries] for word in self._words])
        for trial in range(self._TRIALS if spread else 1):
            self._salt = np.uint64((2 * trial + 1) * 0x9E3779B97F4A7C15 % 2**64)
            if spread and (np.diff(np.sort(self._slots(hashes))) != 0).all():
                break
        self._table = np.zeros(size, np.int32 if many else np.int64)
        self._without_slot.clear()
        self._place(entries)

    def _short_entries(self) -> NDArray[np.intp]:
        entries = np.arange(1, self._taken + 1)
        if self._long:
            short = np.ones(self._taken + 1, np.bool_)
            short[np.fromiter(self._long.values(), np.intp, len(self._long)) + 1] = False
            entries = entries[short[1:]]
        return entries

    def _place(self, entries: NDArray[np.intp]) -> None:
        """Give labels a slot of the table each, near that of their hash."""
        waiting, home = entries, self._slots(packing.mix([word[entries] for word in self._words]))
        for probe in range(self._PROBES):
            if not len(waiting):
                return
            slots = (home + probe) & self._slot_mask
            free = self._table[slots] == 0
            self._table[slots[free]] = waiting[free]
            left = self._table[slots] != waiting
            waiting, home = waiting[left], home[left]
        texts: Iterable[bytes] = unpack([word[waiting] for word in self._words]).tolist() if len(waiting) else ()
        self._without_slot.update(zip(texts, (waiting - 1).tolist(), strict=True))

    def _slots(self, hashes: Words) -> NDArray[np.int64]:
        return ((hashes * self._salt) >> self._shift).view(np.int64)


def smallest_type(codes: int) -> np.dtype[np.integer]:
    """The smallest type that holds so many codes."""
    return np.dtype(np.uint8 if codes <= 1 << 8 else np.uint16 if codes <= 1 << 16 else np.int32)
