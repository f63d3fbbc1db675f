"""The join by id: exact, in one sort a file, whatever the order of the rows.

Every id becomes a 64-bit sort key, with its label's code (or its row number) in the low bits. Where the bits that
differ between ids fit beside it, the key *is* the id and sorting it settles the matter. Otherwise the key is a hash:
rows whose hashes agree are put in order by their words, and every pair is compared word by word. The hash finds
candidates, the words decide; with a hash that maps every id to one number the join is slow and still right.

Either way the order that comes out depends on the set of ids alone, so nothing computed in it can depend on the
order of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError, ErrorCode
from . import packing
from .columns import IdColumn, LongIds, texts_of
from .packing import Squeeze, Words

__all__ = ["Alignment", "align", "check_unique", "gather"]

Rows = NDArray[np.uint32]
T = TypeVar("T", bound=np.generic)

# Rows handled at a time where a step needs temporary arrays.
_STRIDE = 1 << 15
_FEW = 5
_KINDS = ("missing", "extra", "duplicates_in_ground_truth", "duplicates_in_predictions")


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
    _make_comparable(truth, predictions, long_ids)
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
        found = [_words_of(_Exact(_at_most_two(one), squeezes, constant)) for one in (heads, other_heads)]
        raise _mismatch(_both(*found), len(found[0][0]), long_ids, names, rows=(truth.rows, predictions.rows))
    rows, unique = _sorted_hashed(truth.words, row_bits)
    if unique and truth.rows == predictions.rows:
        other_rows, unique = _sorted_hashed(predictions.words, row_bits)
        if unique and _all_equal(truth.words, rows, predictions.words, other_rows):
            hashed = _Hashed(truth.words, rows)
            if codes is None:
                return Alignment(rows, other_rows, hashed, long_ids)
            return Alignment(gather(codes[0], rows), gather(codes[1], other_rows), hashed, long_ids)
    raise _mismatch(_both(truth.words, predictions.words), truth.rows, long_ids, names)


def too_many(truth: IdColumn, predictions: IdColumn, long_ids: LongIds, names: tuple[str, str]) -> AutoScorerError:
    """``MISMATCH`` for predictions that were not read to their end, as they have more rows than they may.

    Args:
        truth: The ground truth's ids.
        predictions: The predictions' ids, as far as they were read: more than the ground truth's.
        long_ids: The store both columns used.
        names: What the error calls the two files.
    """
    _make_comparable(truth, predictions, long_ids)
    return _mismatch(_both(truth.words, predictions.words), truth.rows, long_ids, names, complete=False)


def check_unique(column: IdColumn, long_ids: LongIds, name: str) -> None:
    """Check one file on its own.

    Raises:
        AutoScorerError: ``MISMATCH`` when an id occurs more than once.
    """
    column.finish(long_ids.settle())
    _, unique = _sorted_hashed(column.words, max(column.rows, 2).bit_length())
    if not unique:
        raise _mismatch(column.words, column.rows, long_ids, (name, ""))


def _make_comparable(truth: IdColumn, predictions: IdColumn, long_ids: LongIds) -> None:
    """Finish both columns, and give them words of one number and one meaning."""
    ranks = long_ids.settle()
    for column in (truth, predictions):
        column.finish(ranks)
    count = max(len(truth.words), len(predictions.words))
    truth.widen(count)
    predictions.widen(count)


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


def _at_most_two(heads: Words) -> Words:
    """Sorted ids without the third and further copies of one, which tell nothing more; written over ``heads``."""
    kept = 0
    before = np.zeros(0, np.uint64)
    for part in _strides(len(heads)):
        some = np.concatenate([before, heads[part]])
        fresh = np.ones(len(some), np.bool_)
        fresh[2:] = some[2:] != some[:-2]
        new = some[len(before) :][fresh[len(before) :]]
        before = some[-2:].copy()
        heads[kept : kept + len(new)] = new
        kept += len(new)
    return heads[:kept]


def _overlapping(rows: int) -> Iterator[slice]:
    return (slice(max(part.start - 1, 0), part.stop) for part in _strides(rows))


def _sorted_hashed(words: Sequence[Words], row_bits: int) -> tuple[Rows, bool]:
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


def _all_equal(words: list[Words], rows: Rows, others: list[Words], other_rows: Rows) -> bool:
    for part in _strides(len(rows)):
        mine, theirs = rows[part], other_rows[part]
        if not all(np.array_equal(word[mine], other[theirs]) for word, other in zip(words, others, strict=True)):
            return False
    return True


class _Chained:
    """A word of both files' ids, one file after the other, without a copy of them."""

    def __init__(self, first: Words, second: Words) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, places: slice | NDArray[np.integer]) -> Words:
        rows = np.arange(*places.indices(len(self))) if isinstance(places, slice) else places
        out = np.empty(len(rows), np.uint64)
        mine = rows < len(self._first)
        out[mine] = self._first[rows[mine]]
        out[~mine] = self._second[rows[~mine] - len(self._first)]
        return out


def _both(words: Sequence[Words], others: Sequence[Words]) -> list[Words]:
    return [_Chained(*pair) for pair in zip(words, others, strict=True)]  # type: ignore[misc]


class _Expanded:
    """One of the words that a squeezed id was made of."""

    def __init__(self, source: _Exact, number: int) -> None:
        self._source, self._number = source, number

    def __len__(self) -> int:
        return len(self._source.heads)

    def __getitem__(self, places: slice | NDArray[np.integer]) -> Words:
        return self._source.words_at(places)[self._number]


def _words_of(source: _Exact) -> list[Words]:
    return [_Expanded(source, number) for number in range(source.count)]  # type: ignore[misc]


class _Tally:
    """Ids of one kind: how many, and the first few of them in text order."""

    def __init__(self) -> None:
        self.count = 0
        self.few: Rows = np.zeros(0, np.uint32)

    def add(self, words: Sequence[Words], rows: Rows) -> None:
        if len(rows):
            self.count += len(rows)
            rows = np.concatenate([self.few, rows])
            self.few = rows[_smallest(words, rows)]


def _tally(words: Sequence[Words], truths: int) -> dict[str, _Tally]:
    """Count what is missing, extra and repeated over both files, whose ids stand one after the other."""
    total = len(words[0]) if words else 0
    order, _ = _sorted_hashed(words, max(total, 2).bit_length())
    tallies = {name: _Tally() for name in _KINDS}
    # The id that the last part ended with: its row, and how often it occurs in either file.
    leader, carried = np.zeros(0, np.uint32), np.zeros((2, 0), np.int64)
    for part in _strides(total):
        rows = order[part]
        values = [word[np.concatenate([leader, rows])] for word in words]
        fresh = np.zeros(len(rows), np.bool_)
        for value in values:
            fresh |= value[1:] != value[:-1] if len(leader) else np.r_[True, value[1:] != value[:-1]]
        group = np.cumsum(fresh) - (0 if len(leader) else 1)
        leaders = np.concatenate([leader, rows[fresh]])
        in_truth, in_predictions = (
            np.bincount(group[chosen], minlength=len(leaders)) for chosen in (rows < truths, rows >= truths)
        )
        in_truth[: len(leader)] += carried[0]
        in_predictions[: len(leader)] += carried[1]
        # Whether the last one goes on is not known before the next part.
        last = len(leaders) if part.stop == total else len(leaders) - 1
        leader, carried = leaders[last:], np.stack([in_truth[last:], in_predictions[last:]])
        leaders, in_truth, in_predictions = leaders[:last], in_truth[:last], in_predictions[:last]
        for name, rows_of in (
            ("missing", (in_truth > 0) & (in_predictions == 0)),
            ("extra", (in_truth == 0) & (in_predictions > 0)),
            ("duplicates_in_ground_truth", in_truth > 1),
            ("duplicates_in_predictions", in_predictions > 1),
        ):
            tallies[name].add(words, leaders[rows_of])
    return tallies


def _mismatch(
    words: Sequence[Words],
    truths: int,
    long_ids: LongIds,
    names: tuple[str, str],
    *,
    complete: bool = True,
    rows: tuple[int, int] | None = None,
) -> AutoScorerError:
    """Tell what is missing, extra and repeated over both files, whose ids stand one after the other.

    Args:
        words: Their ids.
        truths: How many of them are the ground truth's.
        long_ids: The store of long ids.
        names: What to call the files; the second one is empty where there is one file alone.
        complete: Whether the predictions were read to their end. Else what they lack is not known.
        rows: The rows of either file, where ``words`` holds fewer.
    """
    truth_name, name = names
    total = len(words[0]) if words else 0
    truth_rows, prediction_rows = rows or (truths, total - truths)
    wording = {
        "missing": f"missing from {name}",
        "extra": f"in {name} but not in {truth_name}",
        "duplicates_in_ground_truth": f"more than once in {truth_name}",
        "duplicates_in_predictions": f"more than once in {name}",
    }
    details: dict[str, object] = {"ground_truth_rows": truth_rows, "prediction_rows": prediction_rows if name else None}
    if not complete:
        details["read_to_end"] = False
    parts = []
    for kind, tally in _tally(words, truths).items():
        if kind == "missing" and not (name and complete):
            tally = _Tally()
        few = texts_of([word[tally.few] for word in words], long_ids)
        shown = [text if len(text) <= 80 else text[:80] + "…" for text in few]
        if kind != "missing" or complete:
            details[kind] = {"count": tally.count, "first": shown}
        if shown:
            dots = ", …" if tally.count > len(shown) else ""
            parts.append(f"{tally.count:,} {wording[kind]} ({', '.join(map(repr, shown))}{dots})")
    found = "; ".join(parts)
    if not complete:
        return AutoScorerError(
            ErrorCode.MISMATCH,
            f"{name} has more rows than {truth_name}, which has {truth_rows:,}: expected one row for each of its ids. "
            f"Reading stopped after {prediction_rows:,} rows; so far, ids {found}.",
            details=details,
        )
    expected = f"Expected {truth_name} and {name} to hold the same ids, each once" if name else "Expected each id once"
    return AutoScorerError(ErrorCode.MISMATCH, f"{expected}. Ids {found}.", details=details)


def _smallest(words: Sequence[Words], rows: Rows) -> NDArray[np.intp]:
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
