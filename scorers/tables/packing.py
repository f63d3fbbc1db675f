"""Short texts as integers, and back: what lets a million ids be sorted in milliseconds without a doubt.

A text of up to 64 bytes becomes up to eight 64-bit words, its bytes from the most significant down, padded with
zeros. NUL bytes are refused when a file is read, so the words *are* the text: equal words mean equal texts, and
numeric order is byte order. Bits that are the same in every id say nothing; squeezing them out often leaves an id that
fits one word beside its row number ("sample-0001234": 28 bits of 112).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .block import Block, Bytes

__all__ = ["MAX_PACKED", "NEVER", "Squeeze", "Words", "mix", "pack", "unpack", "window"]

Words = NDArray[np.uint64]

MAX_PACKED = 64  # bytes
# A word that no text begins with: 0xFF is not a byte of UTF-8.
NEVER = 0xFF << 56
_ONES = (1 << 64) - 1
# _KEEP[j][n] keeps of word j what belongs to a text of n bytes.
_KEEP = np.array(
    [[_ONES ^ (_ONES >> (8 * min(max(n - j, 0), 8))) for n in range(MAX_PACKED + 1)] for j in range(0, MAX_PACKED, 8)],
    np.uint64,
)


def window(data: Bytes) -> NDArray[np.uint64]:
    """The eight bytes at every position of ``data`` as a big-endian word: a view, nothing is copied."""
    return np.ndarray((data.size - 7,), np.dtype(">u8"), data, strides=(1,))


def pack(block: Block, column: int, count: int, out: Sequence[Words] | None = None) -> Sequence[Words]:
    """A column's texts as ``count`` words each.

    Args:
        block: n rows.
        column: Which of its columns.
        count: Words a text; what lies beyond ``8 * count`` bytes is left out.
        out: Where to write, ``count`` arrays of shape (n,).

    Returns:
        ``count`` arrays of shape (n,); ``out`` when it was given.
    """
    data, starts, lengths = block.data, block.starts[column], block.lengths[column]
    shortest = int(lengths.min(initial=MAX_PACKED))
    longest = int(lengths.max(initial=0))
    words = [np.empty(len(starts), np.uint64) for _ in range(count)] if out is None else out
    fetched = 0
    if block.grid is not None:
        size, offset = block.grid.shape[1], block.offsets[column]
        fetched = min(count, (size - offset) // 8)
        for j in range(fetched):
            words[j][:] = np.ndarray(len(starts), ">u8", block.grid, offset + 8 * j, (size,))
    # Fetching 16 bytes at a position costs no more than fetching 8.
    pairs = np.ndarray((data.size - 15,), "V16", data, strides=(1,))
    for j in range(fetched, count, 2):
        places = starts + 8 * j if j else starts
        if j + 1 < count:
            two = pairs[places].view(">u8").reshape(-1, 2)
            words[j][:] = two[:, 0]
            words[j + 1][:] = two[:, 1]
        else:
            words[j][:] = window(data)[places]
    for j, word in enumerate(words):
        if shortest < 8 * (j + 1):
            word &= _KEEP[j][longest] if shortest == longest else _KEEP[j].take(lengths, mode="clip")
    return words


def unpack(words: Sequence[Words]) -> NDArray[np.bytes_]:
    """The texts of packed words, shape (rows,); numpy's S type drops the padding."""
    matrix = np.empty((len(words[0]), len(words)), ">u8")
    for j, word in enumerate(words):
        matrix[:, j] = word
    return matrix.view(f"S{8 * len(words)}").ravel()


def mix(words: Sequence[Words]) -> Words:
    """A 64-bit hash of each text, its high bits the good ones. It finds candidates; it never decides."""
    h = words[0]
    for word in words[1:]:
        h = h * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(32)
        h += word
    # One product is enough for the highest bits: they depend on every bit below them.
    return h * np.uint64(0xBF58476D1CE4E5B9)


class _Step(NamedTuple):
    moved: np.uint64
    by: np.uint64


class Squeeze:
    """Takes the bits of a mask out of a word and lays them side by side at its low end, and puts them back.

    The order of the bits is kept, so numbers compare as the texts do. Method: Warren, Hacker's Delight, 2nd ed.,
    section 7-4 ("compress"): each bit moves by powers of two.

    Args:
        mask: The bits to keep.
    """

    def __init__(self, mask: int) -> None:
        self.bits = mask.bit_count()
        self._mask = np.uint64(mask)
        self._steps: list[_Step] = []
        # For each kept bit how far it has to go; with those of one power of two moved, go on to the next.
        places = [position for position in range(64) if mask >> position & 1]
        for power in range(6):
            moved = 0
            for rank, place in enumerate(places):
                if (place - rank) >> power & 1:
                    moved |= 1 << place
            if moved:
                self._steps.append(_Step(np.uint64(moved), np.uint64(1 << power)))
            targets = {rank: (place - rank) >> power & 1 for rank, place in enumerate(places)}
            places = [place - (targets[rank] << power) for rank, place in enumerate(places)]

    def compress(self, words: Words) -> Words:
        """Keep the mask's bits of each word, side by side."""
        kept = words & self._mask
        for moved, by in self._steps:
            part = kept & moved
            kept ^= part
            part >>= by
            kept |= part
        return kept

    def expand(self, kept: Words) -> Words:
        """The inverse: the low bits back at their places, zeros elsewhere."""
        words = kept & np.uint64((1 << self.bits) - 1)
        for moved, by in reversed(self._steps):
            part = words & (moved >> by)
            words ^= part
            part <<= by
            words |= part
        return words
