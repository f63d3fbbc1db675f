"""The file in which a scoring keeps its rows: what was expected, what was predicted, and whether that was right.

One JSON object with a list a column, compressed: a list of numbers is written and read many times faster than an object
a row. Labels stand there once, and rows name them by number. docs/decisions/0029-samples-compare-notes.md says why all
rows are kept, and up to how many.
"""

from __future__ import annotations

import zlib

import msgspec

__all__ = ["ARTIFACT", "FILE", "MOST_BYTES", "Measure", "SampleFile", "UnreadableError", "pack", "unpack"]

# Its key in a Result's artifacts, and its name beside the others.
ARTIFACT, FILE = "samples", "samples.json.gz"
# Bytes that are unpacked at most. What a scoring writes has some megabytes; a scorer of one's own may write anything.
MOST_BYTES = 64 * 1024**2
_FORMAT = 1
# zlib's number for gzip's own format. Its header then holds no time: the same rows give the same bytes.
_GZIP = 31
_LEVEL = 1


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scorer says of each row, beside right and wrong.

    Args:
        name: What it is called, such as ``absolute_error``.
        higher_is_better: Its direction.
    """

    name: str
    higher_is_better: bool


class SampleFile(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of a scoring. Of lists of n rows each, the wrong or worst ones first.

    Args:
        total: Rows that were scored; the file holds the first n of them.
        ids: Their ids.
        expected: Numbers, or places in ``labels``.
        predicted: The same.
        labels: The labels that the rows have; None where they are numbers.
        verdicts: Whether each is right; None where there is no right and wrong.
        right: How many of all ``total`` rows are right; None with ``verdicts``.
        measure: What ``values`` are.
        values: What the scorer says of each row; null where it is no number.
        format: Of this file.
    """

    total: int
    ids: list[str]
    expected: list[int | float]
    predicted: list[int | float]
    labels: list[str] | None = None
    verdicts: list[bool] | None = None
    right: int | None = None
    measure: Measure | None = None
    values: list[float | None] | None = None
    format: int = _FORMAT


class UnreadableError(Exception):
    """Bytes that are not such a file, or one that is larger than any that is written here."""


def pack(samples: SampleFile) -> bytes:
    """The bytes of a file."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(msgspec.json.encode(samples)) + packer.flush()


def unpack(content: bytes) -> SampleFile:
    """Read a file, which anybody may have written.

    Raises:
        UnreadableError: It is not one, its lists do not go together, or it unpacks to more than ``MOST_BYTES``.
    """
    packed = zlib.decompressobj(_GZIP)
    try:
        text = packed.decompress(content, MOST_BYTES)
        if packed.unconsumed_tail or not packed.eof:
            raise UnreadableError("it unpacks to too much, or is cut short")
        samples = msgspec.json.decode(text, type=SampleFile)
    except (zlib.error, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
    _check(samples)
    return samples


def _check(samples: SampleFile) -> None:
    rows = len(samples.ids)
    columns = (samples.expected, samples.predicted, samples.verdicts, samples.values)
    if samples.format != _FORMAT or samples.total < rows:
        raise UnreadableError("it is of another format")
    if any(column is not None and len(column) != rows for column in columns):
        raise UnreadableError("its columns are of different lengths")
    if (samples.verdicts is None) is not (samples.right is None):
        raise UnreadableError("it counts no verdicts")
    if samples.labels is not None:
        last = len(samples.labels)
        for column in (samples.expected, samples.predicted):
            if not all(isinstance(code, int) and 0 <= code < last for code in column):
                raise UnreadableError("it names labels that it does not have")
