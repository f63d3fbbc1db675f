"""Decimal numbers to float64, a column at a time, to the bit as Python's ``float`` reads them.

Plain decimals (an optional minus, at most 19 digits, perhaps a point) are read eight digits at a time as integers,
and the one division is done in twice the precision of float64. Where that leaves any doubt about the last bit, and
for every other spelling (exponents, longer numbers), Python's own ``float`` decides.

What is no number here: an empty field, ``nan``, ``inf``, ``1_000``, and whatever is too large for float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..core.errors import AutoScorerError, ErrorCode
from .csv_reader import Block, Bytes, Positions
from .packing import Words, window

__all__ = ["Floats", "NumberColumn", "parse_decimals"]

Floats = NDArray[np.float64]

_MAX_DIGITS = 19  # 10^19 < 2^64, and float64 holds 10^19 exactly
_TEN = np.array([10**n for n in range(_MAX_DIGITS + 1)], np.uint64)
_TEN_FLOAT = _TEN.astype(np.float64)
_ZEROS = np.uint64(0x3030303030303030)
_ALLOWED = b"0123456789+-.eE \t"
_REACH = 24  # bytes that a fetch may begin before the end of its digits
_SPLIT = 134217729.0  # 2^27 + 1
# _TAIL[n] keeps the last n bytes of a word.
_TAIL = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)


class NumberColumn:
    """The values of one file, float64.

    Args:
        name: What errors call the file.
    """

    def __init__(self, name: str) -> None:
        self.rows = 0
        self._name = name
        self._values: Floats = np.zeros(0)

    def append(self, block: Block, column: int, expected_rows: int) -> None:
        """Add a block's values.

        Raises:
            AutoScorerError: ``PARSE_ERROR`` at the first value that is no finite number.
        """
        values, unsure = parse_decimals(block.data, block.starts[column], block.lengths[column])
        for row in np.flatnonzero(unsure).tolist():
            values[row] = self._one(block, column, row)
        needed = self.rows + block.rows
        if needed > len(self._values):
            capacity = len(self._values)
            grown = np.zeros(max(needed, expected_rows if not capacity else capacity * 5 // 4))
            grown[: self.rows] = self._values[: self.rows]
            self._values = grown
        self._values[self.rows : needed] = values
        self.rows = needed

    def finish(self) -> Floats:
        """The values, shape (rows,)."""
        return self._values[: self.rows]

    def _one(self, block: Block, column: int, row: int) -> float:
        text = block.text(column, row)
        # Without letters other than e there is no nan, no inf, and no digit but ours.
        if not text.translate(None, _ALLOWED):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if math.isfinite(value):
                return value
        shown = text.decode(errors="replace")
        where = block.locate(row)
        raise AutoScorerError(
            ErrorCode.PARSE_ERROR,
            f"{self._name}, {where}: expected a finite number, got {shown[:80]!r}.",
            details={"file": self._name, "where": where, "value": shown[:80]},
        )


def parse_decimals(data: Bytes, starts: Positions, lengths: Positions) -> tuple[Floats, NDArray[np.bool_]]:
    """Read plain decimals.

    Args:
        data: The bytes the positions refer to.
        starts: Where each number starts, shape (rows,).
        lengths: Its bytes.

    Returns:
        Values, and where they are not to be trusted (not a plain decimal, or the last bit in doubt).
    """
    view = window(data)
    ends = starts + lengths
    negative = data[starts] == ord("-")
    first = starts + negative
    point = _points(data, first, ends)
    after = np.where(point >= 0, ends - point - 1, 0)
    before = np.where(point >= 0, point, ends) - first
    digits = before + after
    whole, whole_fine = _digits(view, ends - after - (point >= 0), before)
    if int(after.max(initial=0)):
        fraction, fine = _digits(view, ends, after)
        scale = _TEN[np.clip(after, 0, _MAX_DIGITS)]
        # whole * 10^after + fraction has to stay below 10^19.
        fine &= whole < _TEN[np.clip(_MAX_DIGITS - after, 0, _MAX_DIGITS)]
        mantissa = whole * scale + fraction
        unsure = ~(whole_fine & fine)
    else:
        mantissa, unsure = whole, ~whole_fine
    # Digits are fetched as words that end where they do, which is not possible at the very start of the buffer.
    unsure |= (digits < 1) | (starts < _REACH)
    if unsure.any():
        mantissa[unsure] = 0
    values, doubtful = _divide(mantissa, after)
    unsure |= doubtful
    np.negative(values, where=negative, out=values)
    return values, unsure


def _points(data: Bytes, first: Positions, ends: Positions) -> Positions:
    """Where each number's first point is, or -1."""
    if not len(first):
        return first
    start = int(first.min())
    points = np.flatnonzero(data[start : int(ends.max())] == ord("."))
    points += start
    if len(points) == len(first) and ((points >= first) & (points < ends)).all():
        return points
    place = np.searchsorted(points, first)
    found = np.append(points, -1)[place]
    return np.where(found < ends, found, -1)


def _digits(view: NDArray[np.uint64], ends: Positions, counts: Positions) -> tuple[Words, NDArray[np.bool_]]:
    """The integers written in the ``counts`` digits before ``ends``, and where that holds.

    Eight digits at a time, as bytes of one word: neighbours are combined to pairs, pairs to fours, fours to eight.
    """
    total = np.zeros(len(ends), np.uint64)
    fine = counts <= _MAX_DIGITS
    longest = min(int(counts.max(initial=0)), _MAX_DIGITS)
    shortest = int(counts.min(initial=longest))
    for j in range(0, longest, 8):
        word = view[ends - (j + 8)].astype(np.uint64)
        word ^= _ZEROS
        if shortest < j + 8:
            word &= _TAIL[np.clip(counts - j, 0, 8)]
        wrong = ((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080)
        fine &= wrong == 0
        # The first digit is the highest byte.
        word = ((word >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(10) + (
            word & np.uint64(0x00FF00FF00FF00FF)
        )
        word = (word >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(100) + (
            word & np.uint64(0x0000FFFF0000FFFF)
        )
        word = (word >> np.uint64(32)) * np.uint64(10_000) + (word & np.uint64(0xFFFFFFFF))
        total += word * np.uint64(10**j) if j else word
    return total, fine


def _divide(mantissa: Words, power: Positions) -> tuple[Floats, NDArray[np.bool_]]:
    """``mantissa / 10^power`` correctly rounded, or marked as doubtful.

    With mantissa = high + low exactly, q = high / 10^power and its exact remainder (Dekker's product, Numerische
    Mathematik 18, 1971), q + remainder / 10^power is off by some 2^-100 of itself before the last rounding; only
    where that sum lies next to the middle between two floats, or at a power of two, could the rounding go astray.
    """
    divisor = _TEN_FLOAT[np.minimum(power, _MAX_DIGITS)]
    high = mantissa.astype(np.float64)
    quotient = high / divisor
    if int(mantissa.max(initial=0)) <= 1 << 53:
        return quotient, np.zeros(len(power), np.bool_)
    low = (mantissa - high.astype(np.uint64)).astype(np.int64).astype(np.float64)
    product = quotient * divisor
    a, b = _halves(quotient)
    c, d = _halves(divisor)
    error = ((a * c - product) + a * d + b * c) + b * d
    correction = ((high - product) - error + low) / divisor
    values = quotient + correction
    rest = correction - (values - quotient)
    power_of_two = values.view(np.uint64) & np.uint64((1 << 52) - 1) == 0
    inexact = mantissa > 1 << 53
    doubtful = ((np.abs(rest) > 0.4999 * np.spacing(values)) | power_of_two) & inexact
    return np.where(inexact, values, quotient), doubtful


def _halves(x: Floats) -> tuple[Floats, Floats]:
    scaled = x * _SPLIT
    high = scaled - (scaled - x)
    return high, x - high
