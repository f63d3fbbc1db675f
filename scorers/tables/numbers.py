"""Decimal numbers to float64, a column at a time, to the bit as Python's ``float`` reads them.

Plain decimals (an optional minus, at most 19 digits, perhaps a point) are read as integers, eight digits at a time,
then divided by their power of ten. The quotient of two float64 is at most one and a half units off; its exact
remainder, which 64-bit integers hold, says where the next float is nearer. Where that leaves a doubt, and for every
other spelling (exponents, longer numbers), Python's own ``float`` decides.

What is not a number here: an empty field, ``nan``, ``inf``, ``1_000``, and whatever is too large for float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError, ErrorCode
from .arrays import Floats
from .block import Block, Bytes, Positions
from .packing import Words

__all__ = ["Floats", "NumberColumn", "parse_decimals"]


_MAX_DIGITS = 19  # 10^19 < 2^64, and float64 holds 10^19 exactly
_MAX_DECIMALS = 18  # twice 10^18 < 2^63
_TEN = np.array([10**n for n in range(_MAX_DIGITS + 1)], np.uint64)
_REACH = 32  # bytes that are fetched, up to the end of a number
_ALLOWED = b"0123456789+-.eE \t"

# Eight characters as one little-endian word, the first of them its lowest byte.
_WORD = np.dtype("<u8")
_ZEROS = np.uint64(0x3030303030303030)
_NO_DIGIT = np.uint64(0x8080808080808080)
_ABOVE_NINE = np.uint64(0x7676767676767676)
# _LAST[j][n] keeps of the j-th word from the right what belongs to the last n characters.
_LAST = np.array(
    [
        [((1 << 64) - 1) >> k << k if k < 64 else 0 for k in (64 - 8 * min(max(n - j, 0), 8) for n in range(25))]
        for j in (0, 8, 16)
    ],
    np.uint64,
)
# Neighbouring digits are combined to pairs, pairs to fours, fours to eight: (factor, shift, what stays).
_COMBINE = tuple(
    (np.uint64(factor), np.uint64(shift), np.uint64(kept))
    for factor, shift, kept in (
        (10 * 2**8 + 1, 8, 0x00FF00FF00FF00FF),
        (100 * 2**16 + 1, 16, 0x0000FFFF0000FFFF),
        (10_000 * 2**32 + 1, 32, 0x00000000FFFFFFFF),
    )
)


class NumberColumn:
    """The values of one file, float64.

    Args:
        name: What errors call the file.
        quoted: Whether errors may quote its values. Those of the ground truth are nobody's to read.
    """

    def __init__(self, name: str, *, quoted: bool = True) -> None:
        self.rows = 0
        self._name = name
        self._quoted = quoted
        self._values: Floats = np.zeros(0)

    def append(self, block: Block, column: int, expected_rows: int) -> None:
        """Add a block's values.

        Raises:
            AutoScorerError: ``PARSE_ERROR`` at the first value that is not a finite number.
        """
        values, unsure = parse_decimals(block.data, block.starts[column], block.lengths[column])
        for row in np.flatnonzero(unsure).tolist():
            values[row] = self._one(block, column, row)
        needed = self.rows + block.rows
        if needed > len(self._values):
            capacity = len(self._values)
            grown = np.zeros(max(needed, expected_rows if expected_rows > capacity else capacity * 5 // 4))
            grown[: self.rows] = self._values[: self.rows]
            self._values = grown
        self._values[self.rows : needed] = values
        self.rows = needed

    def finish(self) -> Floats:
        """The values, shape (rows,)."""
        return self._values[: self.rows]

    def in_order(self, rows: NDArray[np.integer]) -> Floats:
        """The values of these rows, which are all of them, each once; the column is used up."""
        values, self._values = self.finish(), np.zeros(0)
        out = np.empty(len(rows))
        for at in range(0, len(rows), 1 << 15):
            out[at : at + (1 << 15)] = values[rows[at : at + (1 << 15)]]
        return out

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
        where = block.locate(row)
        details = {"file": self._name, "where": where}
        got = "something else"
        if self._quoted:
            details["value"] = text.decode(errors="replace")[:80]
            got = repr(details["value"])
        raise AutoScorerError(
            ErrorCode.PARSE_ERROR, f"{self._name}, {where}: expected a finite number, got {got}.", details=details
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
    ends = starts + lengths
    negative = data[starts] == ord("-")
    first = starts + negative
    point = _points(data, first, ends)
    pointed = point >= first
    after = ends - point - 1
    if not pointed.all():
        after[~pointed] = 0
        point = np.where(pointed, point, ends)
    digits = point - first + after
    # How many characters stand right of the point; all of them where there is none.
    right = np.where(pointed, after, _REACH) if pointed.any() else None
    # Numbers are fetched with what stands before them, which is not possible at the very start of the buffer.
    unsure = (starts < _REACH) | (digits < 1)
    mantissa = _digits(data, ends, digits, right, unsure)
    if unsure.any():
        mantissa[unsure] = 0
    values, doubtful = _divide(mantissa, after)
    unsure |= doubtful
    np.negative(values, where=negative, out=values)
    return values, unsure


def _points(data: Bytes, first: Positions, ends: Positions) -> Positions:
    """Where each number's first point is, or -1.

    Where every number has a point in the same place from its end, that is not looked at again for an earlier one: a
    number with two points is refused, and the one among the digits says so.
    """
    if not len(first):
        return first
    last = data[first[-1] : ends[-1]].tobytes()
    place = last.rfind(b".") - len(last)
    if place >= -len(last) and int((ends - first).min()) >= -place:
        points = ends + place
        if (data[points] == ord(".")).all():
            return points
    points = first + 1
    open_rows = np.flatnonzero(data[points] != ord("."))
    for _ in range(3):
        points[open_rows] += 1
        open_rows = open_rows[data[points[open_rows]] != ord(".")]
        if not len(open_rows):
            break
    if len(open_rows) or (data[first] == ord(".")).any():
        start = int(first.min())
        found = np.flatnonzero(data[start : int(ends.max())] == ord(".")) + start
        points = np.append(found, -1)[np.searchsorted(found, first)]
    return np.where(points < ends, points, -1)


def _digits(
    data: Bytes, ends: Positions, counts: Positions, right: Positions | None, unsure: NDArray[np.bool_]
) -> Words:
    """The integers that the digits before ``ends`` make without their point; what is not a number is marked as unsure.

    Args:
        data: The bytes the positions refer to.
        ends: Where each number ends, shape (rows,).
        counts: Its digits.
        right: How many characters stand right of its point; None when no row has one.
        unsure: Written to.
    """
    total = np.zeros(len(ends), np.uint64)
    most = _MAX_DIGITS
    if np.count_nonzero(counts > 16) <= len(counts) >> 7:
        most = 16  # the few longer ones are not worth a third word for all
    longest = min(int(counts.max(initial=0)), most)
    unsure |= counts > most
    # One fetch a row: 32 bytes at a position cost no more than 8.
    records = np.ndarray((len(data) - _REACH + 1,), f"V{_REACH}", data, strides=(1,))[ends - _REACH]
    suspect = np.zeros(len(ends), np.uint64)
    for j in range(-(-longest // 8)):
        place = _REACH - 8 * j - 8
        word = np.ndarray(len(ends), _WORD, records, place, (_REACH,)).astype(np.uint64)
        if right is not None:
            # What stands before the point is one byte further left.
            left = np.ndarray(len(ends), _WORD, records, place - 1, (_REACH,))
            word ^= left
            word &= _LAST[j].take(right, mode="clip")
            word ^= left
        word ^= _ZEROS
        word &= _LAST[j].take(counts, mode="clip")
        suspect |= word
        suspect |= word + _ABOVE_NINE
        for factor, shift, kept in _COMBINE:
            word *= factor
            word >>= shift
            word &= kept
        if j:
            word *= _TEN[8 * j]
        total += word
    unsure |= (suspect & _NO_DIGIT) != 0
    return total


def _divide(mantissa: Words, power: Positions) -> tuple[Floats, NDArray[np.bool_]]:
    """``mantissa / 10^power`` correctly rounded, or marked as doubtful.

    With quotient q = w * 2^e (w of 53 bits), (mantissa - q * 10^power) / 2^e is an integer below 1.5 * 10^power; so
    64-bit arithmetic gives it exactly, however much its terms overflow. Beyond half of 10^power, the next float is
    nearer.
    """
    ten = _TEN.take(power, mode="clip")
    quotient = mantissa.astype(np.float64)
    # Up to 2^53 the mantissa is a float64 itself, and so one division is right; so is no division at all.
    rounded = mantissa > 1 << 53
    quotient /= ten
    rounded &= power > 0
    if not rounded.any():
        return quotient, rounded
    bits = quotient.view(np.uint64)
    exponent = bits >> np.uint64(52)
    fraction = bits & np.uint64((1 << 52) - 1)
    off = (mantissa << (np.uint64(1075) - exponent)) - (fraction | np.uint64(1 << 52)) * ten
    remainder = off.view(np.int64)
    half = (ten >> np.uint64(1)).view(np.int64)
    size = np.abs(remainder)
    # Not told apart here: ties, powers of two (the floats below lie closer), large numbers with a fraction.
    doubtful = (size == half) | (size >= 3 * half) | (fraction == 0) | (exponent > np.uint64(1075))
    doubtful |= power > _MAX_DECIMALS
    doubtful &= rounded
    next_is_nearer = (size > half) & rounded & ~doubtful
    bits[next_is_nearer] += np.sign(remainder[next_is_nearer]).view(np.uint64)
    return quotient, doubtful
