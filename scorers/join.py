"""The join by id: exact, in one sort a file, whatever the order of the rows.

Every id becomes a 64-bit sort key, with its label's code (or its row number) in the low bits. Where the bits that
differ between ids fit beside it, the key *is* the id and sorting it settles the matter. Otherwise the key is a hash:
rows whose hashes agree are put in order by their words, and every pair is compared word by word. The hash finds
candidates, the words decide; with a hash that maps every id to one number the join is slow and still right.

Either way the order that comes out depends on the set of ids alone, so nothing computed in it can depend on the
order of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.errors import AutoScorerError, ErrorCode
from . import packing
from .columns import IdColumn, LongIds, texts_of
from .packing import Squeeze, Words

__all__ = ["Alignment", "align", "check_unique", "gather"]

Rows = NDArray[np.uint32]
T = TypeVar("T", bound=np.generic)

# Rows handled at a time where a step needs temporary arrays.
_STRIDE = 1 << 15
_FEW = 5


@dataclass(slots=True)
class Alignment:
    """Both files in one order.

    Attributes:
        truth: What came along with the ground truth's ids, in that order: its codes, or its row numbers; shape (n,).
        predictions: The same of the predictions.
    """

    truth: NDArray[np.integer]
    predictions: NDArray[np.integer]
    _source: _Exact | _Hashed
    _long_ids: LongIds

    def __len__(self) -> int:
        return len(self.truth)

    def ids(self, places: NDArray[np.intp] | slice = slice(None)) -> list[str]:
        """The ids at these places of the joined order, as text."""
        return texts_of(self._source.words_at(places), self._long_ids)


class _Exact:
    """Sorted ids, squeezed into one word each: injective, so equal means equal."""

    def __init__(self, heads: Words, squeezes: list[Squeeze], constant: list[int]) -> None:
        self.heads = heads
        self._squeezes = squeezes
        self._constant = constant

    def words_at(self, places: NDArray[np.intp] | slice) -> list[Words]:
        rest = self.heads[places].copy()
        words: list[Words] = []
        for squeeze, constant in zip(reversed(self._squeezes), reversed(self._constant), strict=True):
            words.insert(0, squeeze.expand(rest) | np.uint64(constant))
            rest = rest >> np.uint64(squeeze.bits) if squeeze.bits < 64 else np.zeros_like(rest)
        return words


class _Hashed:
    """Ids too long for one word: their words, and the order of the rows."""

    def __init__(self, words: list[Words], rows: Rows) -> None:
        self._words = words
        self._rows = rows

    def words_at(self, places: NDArray[np.intp] | slice) -> list[Words]:
        rows = self._rows[places]
        return [word[rows] for word in self._words]


def align(
    truth: IdColumn,
    predictions: IdColumn,
    long_ids: LongIds,
    names: tuple[str, str],
    codes: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
) -> Alignment:
    """Join two id columns; their words may be used up.

    Args:
        truth: The ground truth's ids.
        predictions: The predictions' ids.
        long_ids: The store both columns used.
        names: What errors call the two files.
        codes: Small integers that go with the ids, in file order; without them the row numbers do.

    Raises:
        AutoScorerError: ``MISMATCH`` with all counts and the first few of each kind.
    """
    ranks = long_ids.settle()
    for column in (truth, predictions):
        column.finish(ranks)
    count = max(len(truth.words), len(predictions.words))
    truth.widen(count)
    predictions.widen(count)
    row_bits = max(truth.rows + predictions.rows, 2).bit_length()
    bits = row_bits if codes is None else max(int(one.max(initial=0)) for one in codes).bit_length()
    squeezes, constant = _squeezes([truth, predictions])
    if sum(squeeze.bits for squeeze in squeezes) + bits <= 64:
        mine, theirs = (None, None) if codes is None else codes
        heads, along = _sorted_exact(truth, squeezes, bits, mine)
        other_heads, other_along = _sorted_exact(predictions, squeezes, bits, theirs)
        source = _Exact(heads, squeezes, constant)
        if not _repeats(heads) and not _repeats(other_heads) and np.array_equal(heads, other_heads):
            return Alignment(along, other_along, source, long_ids)
        other = _Exact(other_heads, squeezes, constant)
        pairs = zip(source.words_at(slice(None)), other.words_at(slice(None)), strict=True)
        raise _mismatch([np.concatenate(pair) for pair in pairs], truth.rows, long_ids, names)
    rows, unique = _sorted_hashed(truth.words, row_bits)
    if unique and truth.rows == predictions.rows:
        other_rows, unique = _sorted_hashed(predictions.words, row_bits)
        if unique and _all_equal(truth.words, rows, predictions.words, other_rows):
            hashed = _Hashed(truth.words, rows)
            if codes is None:
                return Alignment(rows, other_rows, hashed, long_ids)
            return Alignment(gather(codes[0], rows), gather(codes[1], other_rows), hashed, long_ids)
    both = [np.concatenate(pair) for pair in zip(truth.words, predictions.words, strict=True)]
    raise _mismatch(both, truth.rows, long_ids, names)


def check_unique(column: IdColumn, long_ids: LongIds, name: str) -> None:
    """Check one file on its own.

    Raises:
        AutoScorerError: ``MISMATCH`` when an id occurs more than once.
    """
    column.finish(long_ids.settle())
    _, unique = _sorted_hashed(column.words, max(column.rows, 2).bit_length())
    if not unique:
        raise _mismatch(column.words, column.rows, long_ids, (name, ""))


def gather(values: NDArray[T], rows: NDArray[np.integer]) -> NDArray[T]:
    """``values[rows]`` without an array of 64-bit indices."""
    out = np.empty(len(rows), values.dtype)
    for part in _strides(len(rows)):
        out[part] = values[rows[part]]
    return out


def _strides(rows: int) -> Iterator[slice]:
    return (slice(at, min(at + _STRIDE, rows)) for at in range(0, rows, _STRIDE))


def _squeezes(columns: list[IdColumn]) -> tuple[list[Squeeze], list[int]]:
    squeezes, constant = [], []
    for j in range(len(columns[0].words)):
        some = every = 0
        for number, column in enumerate(column for column in columns if column.rows):
            some |= column.some[j]
            every = column.every[j] if not number else every & column.every[j]
        squeezes.append(Squeeze(some & ~every))
        constant.append(every)
    return squeezes, constant


def _sorted_exact(
    column: IdColumn, squeezes: list[Squeeze], bits: int, along: NDArray[np.integer] | None
) -> tuple[Words, NDArray[np.integer]]:
    """Squeezed ids in order, written over the column's first word, and what comes along; other words are let go."""
    keys = column.words[0]
    for part in _strides(column.rows):
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
    for part in _strides(len(keys)):
        np.bitwise_and(keys[part], mask, out=along[part], casting="unsafe")
        keys[part] >>= np.uint64(bits)


def _repeats(heads: Words) -> bool:
    return any(bool((heads[part][1:] == heads[part][:-1]).any()) for part in _overlapping(len(heads)))


def _overlapping(rows: int) -> Iterator[slice]:
    return (slice(max(part.start - 1, 0), part.stop) for part in _strides(rows))


def _sorted_hashed(words: list[Words], row_bits: int) -> tuple[Rows, bool]:
    """Rows in the order of (hash, words), and whether no two of them are the same id."""
    rows = len(words[0]) if words else 0
    keys = np.empty(rows, np.uint64)
    for part in _strides(rows):
        key = packing.mix([word[part] for word in words])
        key >>= np.uint64(row_bits)
        key <<= np.uint64(row_bits)
        key |= np.arange(part.start, part.stop, dtype=np.uint64)
        keys[part] = key
    keys.sort()
    order = np.empty(rows, np.uint32)
    _unpack_keys(keys, row_bits, order)
    heads = keys
    places = [np.flatnonzero(heads[part][1:] == heads[part][:-1]) + part.start for part in _overlapping(rows)]
    same = np.concatenate(places) if places else np.zeros(0, np.intp)
    if not len(same):
        return order, True
    # Rows whose hashes agree: their words put them in order, and tell copies from collisions.
    crowded = np.union1d(same, same + 1)
    members = order[crowded]
    order[crowded] = members[np.lexsort([*(word[members] for word in reversed(words)), heads[crowded]])]
    first, second = order[same], order[same + 1]
    copies = np.ones(len(same), np.bool_)
    for word in words:
        copies &= word[first] == word[second]
    return order, not copies.any()


def _all_equal(words: list[Words], rows: Rows, others: list[Words], other_rows: Rows) -> bool:
    for part in _strides(len(rows)):
        mine, theirs = rows[part], other_rows[part]
        if not all(np.array_equal(word[mine], other[theirs]) for word, other in zip(words, others, strict=True)):
            return False
    return True


def _mismatch(words: list[Words], truths: int, long_ids: LongIds, names: tuple[str, str]) -> AutoScorerError:
    """Count what is missing, extra and repeated over both files, whose ids stand one after the other."""
    truth_name, name = names
    total = len(words[0]) if words else 0
    order, _ = _sorted_hashed(words, max(total, 2).bit_length())
    fresh = np.ones(total, np.bool_)
    for number, word in enumerate(words):
        ordered = word[order]
        changed = ordered[1:] != ordered[:-1]
        fresh[1:] = changed if not number else fresh[1:] | changed
    group = np.cumsum(fresh) - 1
    leaders = order[fresh]
    in_truth = np.bincount(group[order < truths], minlength=len(leaders))
    in_predictions = np.bincount(group[order >= truths], minlength=len(leaders))
    kinds = {
        "missing": leaders[(in_truth > 0) & (in_predictions == 0)] if name else leaders[:0],
        "extra": leaders[(in_truth == 0) & (in_predictions > 0)],
        "duplicates_in_ground_truth": leaders[in_truth > 1],
        "duplicates_in_predictions": leaders[in_predictions > 1],
    }
    wording = {
        "missing": f"missing from {name}",
        "extra": f"in {name} but not in {truth_name}",
        "duplicates_in_ground_truth": f"more than once in {truth_name}",
        "duplicates_in_predictions": f"more than once in {name}",
    }
    details: dict[str, object] = {"ground_truth_rows": truths, "prediction_rows": total - truths if name else None}
    parts = []
    for kind, rows in kinds.items():
        few = texts_of([word[rows[_smallest(words, rows)]] for word in words], long_ids)
        shown = [text if len(text) <= 80 else text[:80] + "…" for text in few]
        details[kind] = {"count": len(rows), "first": shown}
        if shown:
            dots = ", …" if len(rows) > len(shown) else ""
            parts.append(f"{len(rows):,} {wording[kind]} ({', '.join(map(repr, shown))}{dots})")
    expected = f"Expected {truth_name} and {name} to hold the same ids, each once" if name else "Expected each id once"
    return AutoScorerError(ErrorCode.MISMATCH, f"{expected}. Ids {'; '.join(parts)}.", details=details)


def _smallest(words: list[Words], rows: Rows) -> NDArray[np.intp]:
    """Where in ``rows`` the first few ids in text order stand."""
    sure: list[NDArray[np.intp]] = []
    tied = np.arange(len(rows))
    for word in words:
        wanted = _FEW - sum(map(len, sure))
        if len(tied) <= wanted:
            break
        values = word[rows[tied]]
        limit = np.partition(values, wanted - 1)[wanted - 1]
        sure.append(tied[values < limit])
        tied = tied[values == limit]
    places = np.concatenate([*sure, tied])
    order = np.lexsort([word[rows[places]] for word in reversed(words)])
    return places[order][:_FEW]
