"""The join by id: exact, in one sort a file, whatever the order of the rows.

Every id becomes a 64-bit sort key, with its label's code (or its row number) in the low bits. Where the bits that
differ between ids fit beside it, the key *is* the id and sorting it settles the matter. Otherwise the key is a hash:
rows whose hashes agree are put in order by their words, and every pair is compared word by word. The hash finds
candidates, the words decide; with a hash that maps every id to one number the join is slow and still right.

Either way the order that comes out depends on the set of ids alone, so nothing computed in it can depend on the
order of a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError
from .columns import IdColumn, LongIds, texts_of
from .id_order import (
    Rows,
    SqueezedIds,
    at_most_two,
    gather,
    has_repeats,
    sort_hashed,
    sort_squeezed,
    squeezes_of,
    strides,
)
from .mismatch import chained, mismatch, words_of
from .packing import Words

__all__ = ["Alignment", "align", "check_unique", "too_many"]


@dataclass(slots=True)
class Alignment:
    """Both files in one order.

    Attributes:
        truth: What came along with the ground truth's ids, in that order: its codes, or its row numbers; shape (n,).
        predictions: The same of the predictions.
    """

    truth: NDArray[np.integer]
    predictions: NDArray[np.integer]
    _source: SqueezedIds | _Hashed
    _long_ids: LongIds

    def __len__(self) -> int:
        return len(self.truth)

    def ids(self, places: NDArray[np.intp] | slice = slice(None)) -> list[str]:
        """The ids at these places of the joined order, as text."""
        return texts_of(self._source.words_at(places), self._long_ids)


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
    squeezes, constant = squeezes_of([truth, predictions])
    if sum(squeeze.bits for squeeze in squeezes) + bits <= 64:
        mine, theirs = (None, None) if codes is None else codes
        heads, along = sort_squeezed(truth, squeezes, bits, mine)
        other_heads, other_along = sort_squeezed(predictions, squeezes, bits, theirs)
        source = SqueezedIds(heads, squeezes, constant)
        if not has_repeats(heads) and not has_repeats(other_heads) and np.array_equal(heads, other_heads):
            return Alignment(along, other_along, source, long_ids)
        found = [words_of(SqueezedIds(at_most_two(one), squeezes, constant)) for one in (heads, other_heads)]
        raise mismatch(chained(*found), len(found[0][0]), long_ids, names, rows=(truth.rows, predictions.rows))
    rows, unique = sort_hashed(truth.words, row_bits)
    if unique and truth.rows == predictions.rows:
        other_rows, unique = sort_hashed(predictions.words, row_bits)
        if unique and _all_equal(truth.words, rows, predictions.words, other_rows):
            hashed = _Hashed(truth.words, rows)
            if codes is None:
                return Alignment(rows, other_rows, hashed, long_ids)
            return Alignment(gather(codes[0], rows), gather(codes[1], other_rows), hashed, long_ids)
    raise mismatch(chained(truth.words, predictions.words), truth.rows, long_ids, names)


def too_many(truth: IdColumn, predictions: IdColumn, long_ids: LongIds, names: tuple[str, str]) -> AutoScorerError:
    """``MISMATCH`` for predictions that were not read to their end, as they have more rows than they may.

    Args:
        truth: The ground truth's ids.
        predictions: The predictions' ids, as far as they were read: more than the ground truth's.
        long_ids: The store both columns used.
        names: What the error calls the two files.
    """
    _make_comparable(truth, predictions, long_ids)
    return mismatch(chained(truth.words, predictions.words), truth.rows, long_ids, names, complete=False)


def check_unique(column: IdColumn, long_ids: LongIds, name: str) -> None:
    """Check one file on its own.

    Raises:
        AutoScorerError: ``MISMATCH`` when an id occurs more than once.
    """
    column.finish(long_ids.settle())
    _, unique = sort_hashed(column.words, max(column.rows, 2).bit_length())
    if not unique:
        raise mismatch(column.words, column.rows, long_ids, (name, ""))


def _make_comparable(truth: IdColumn, predictions: IdColumn, long_ids: LongIds) -> None:
    """Finish both columns, and give them words of one number and one meaning."""
    ranks = long_ids.settle()
    for column in (truth, predictions):
        column.finish(ranks)
    count = max(len(truth.words), len(predictions.words))
    truth.widen(count)
    predictions.widen(count)


def _all_equal(words: list[Words], rows: Rows, others: list[Words], other_rows: Rows) -> bool:
    for part in strides(len(rows)):
        mine, theirs = rows[part], other_rows[part]
        if not all(np.array_equal(word[mine], other[theirs]) for word, other in zip(words, others, strict=True)):
            return False
    return True
