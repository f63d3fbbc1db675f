"""Ids in one order, whatever the order of their rows: squeezed into a word each, or by a hash of their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from . import packing
from .columns import IdColumn
from .packing import Squeeze, Words

__all__ = [
    "Rows",
    "SqueezedIds",
    "at_most_two",
    "gather",
    "has_repeats",
    "sort_hashed",
    "sort_squeezed",
    "squeezes_of",
    "strides",
]

Rows = NDArray[np.uint32]
T = TypeVar("T", bound=np.generic)

# Rows handled at a time where a step needs temporary arrays.
_STRIDE = 1 << 15


class SqueezedIds:
    """Sorted ids, squeezed into one word each: injective, so equal means equal."""

    def __init__(self, heads: Words, squeezes: list[Squeeze], constant: list[int]) -> None:
        self.heads = heads
        self.count = len(squeezes)  # words of an id
        self._squeezes = squeezes
        self._constant = constant

    def words_at(self, places: NDArray[np.integer] | slice) -> list[Words]:
        rest = self.heads[places].copy()
        words: list[Words] = []
        for squeeze, constant in zip(reversed(self._squeezes), reversed(self._constant), strict=True):
            words.insert(0, squeeze.expand(rest) | np.uint64(constant))
            rest = rest >> np.uint64(squeeze.bits) if squeeze.bits < 64 else np.zeros_like(rest)
        return words


def gather(values: NDArray[T], rows: NDArray[np.integer]) -> NDArray[T]:
    """``values[rows]`` without an array of 64-bit indices."""
    out = np.empty(len(rows), values.dtype)
    for part in strides(len(rows)):
        out[part] = values[rows[part]]
    return out


def strides(rows: int) -> Iterator[slice]:
    return (slice(at, min(at + _STRIDE, rows)) for at in range(0, rows, _STRIDE))


def squeezes_of(columns: list[IdColumn]) -> tuple[list[Squeeze], list[int]]:
    squeezes, constant = [], []
    for j in range(len(columns[0].words)):
        some = every = 0
        for number, column in enumerate(column for column in columns if column.rows):
            some |= column.some[j]
            every = column.every[j] if not number else every & column.every[j]
        squeezes.append(Squeeze(some & ~every))
        constant.append(every)
    return squeezes, constant


def sort_squeezed(
    column: IdColumn, squeezes: list[Squeeze], bits: int, along: NDArray[np.integer] | None
) -> tuple[Words, NDArray[np.integer]]:
    """Squeezed ids in order, written over the column's first word, and what comes along; other words are let go."""
    keys = column.words[0]
    for part in strides(column.rows):
        key = np.arange(part.start, part.stop, dtype=np.uint64) if along is None else along[part].astype(np.uint64)
        shift = bits
        for word, squeeze in zip(reversed(column.words), reversed(squeezes), strict=True):
            if squeeze.bits:
                squeezed = squeeze.compress(word[part])
                squeezed <<= np.uint64(shift)
                key |= squeezed
                shift += squeeze.bits
        keys[part] = key
    del column.words[:]
    keys.sort()
    ordered = np.empty(column.rows, np.uint32) if along is None else along
    _unpack_keys(keys, bits, ordered)
    return keys, ordered


def _unpack_keys(keys: Words, bits: int, along: NDArray[np.integer]) -> None:
    """Split sorted keys into heads, in place, and the low bits."""
    mask = np.uint64((1 << bits) - 1)
    for part in strides(len(keys)):
        np.bitwise_and(keys[part], mask, out=along[part], casting="unsafe")
        keys[part] >>= np.uint64(bits)


def has_repeats(heads: Words) -> bool:
    return any(bool((heads[part][1:] == heads[part][:-1]).any()) for part in _overlapping(len(heads)))


def at_most_two(heads: Words) -> Words:
    """Sorted ids without the third and further copies of one, which tell nothing more; written over ``heads``."""
    kept = 0
    before = np.zeros(0, np.uint64)
    for part in strides(len(heads)):
        some = np.concatenate([before, heads[part]])
        fresh = np.ones(len(some), np.bool_)
        fresh[2:] = some[2:] != some[:-2]
        new = some[len(before) :][fresh[len(before) :]]
        before = some[-2:].copy()
        heads[kept : kept + len(new)] = new
        kept += len(new)
    return heads[:kept]


def _overlapping(rows: int) -> Iterator[slice]:
    return (slice(max(part.start - 1, 0), part.stop) for part in strides(rows))


def sort_hashed(words: Sequence[Words], row_bits: int) -> tuple[Rows, bool]:
    """Rows in the order of (hash, words), and whether no two of them are the same id."""
    rows = len(words[0]) if words else 0
    keys = np.empty(rows, np.uint64)
    for part in strides(rows):
        key = packing.mix([word[part] for word in words])
        key >>= np.uint64(row_bits)
        key <<= np.uint64(row_bits)
        key |= np.arange(part.start, part.stop, dtype=np.uint64)
        keys[part] = key
    keys.sort()
    order = np.empty(rows, np.uint32)
    _unpack_keys(keys, row_bits, order)
    unique = True
    crowded: list[Words] = []  # hashes that several ids share
    for part in _overlapping(rows):
        heads = keys[part]
        same = np.flatnonzero(heads[1:] == heads[:-1]) + part.start
        if len(same):
            copies = _copies(words, order, same)
            unique &= not copies.any()
            if not copies.all():
                crowded.append(np.unique(keys[same[~copies]]))
    if crowded:
        # Rows whose hashes agree: their words put them in order, and tell copies from collisions.
        for head in np.unique(np.concatenate(crowded)):
            run = slice(*(int(np.searchsorted(keys, head, side)) for side in ("left", "right")))
            members = order[run]
            order[run] = members[np.lexsort([word[members] for word in reversed(words)])]
            unique &= not _copies(words, order, np.arange(run.start, run.stop - 1)).any()
    return order, unique


def _copies(words: Sequence[Words], order: Rows, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether the id at each of these places of an order is that of the next place, too."""
    first, second = order[places], order[places + 1]
    copies = np.ones(len(places), np.bool_)
    for word in words:
        copies &= word[first] == word[second]
    return copies
