"""CSV, strictly and fast: where every field lies, block by block, found with numpy alone.

The dialect is RFC 4180 with a comma, UTF-8 (a byte-order mark is dropped), lines that end in LF, CRLF or a bare
CR, and blank lines that mean nothing. Whatever departs from it (a short or long row, a quote that never closes or
stands inside an unquoted field, invalid UTF-8, a NUL byte) is ``BAD_FORMAT`` with its line: a reader that
guesses would hand a number to a file that nobody can read twice the same way.

A block holds the bytes of whole records only. Quotes decide where a record ends by their parity, so a quoted
line break is never a cut; a block without quotes and CR, the common case, takes a path of five array operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import IO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError
from .block import MAX_COLUMNS, MAX_RECORD_BYTES, PAD, Block, Bytes, Positions, bad_format, check_size

__all__ = ["MAX_CSV_BYTES", "CsvReader"]

# Small enough that a block and its masks stay in the second-level cache.
BLOCK_BYTES = 1 << 19
KEEP_BYTES = 1 << 22
GRID_BYTES = 64
MAX_CSV_BYTES = 16 << 30

_COMMA, _LF, _CR, _QUOTE = 44, 10, 13, 34


class _Fields(NamedTuple):
    """Every field of a chunk: where it starts, where it ends, whether it is the last of its line."""

    starts: Positions
    ends: Positions
    last: NDArray[np.bool_]
    cut: int


class CsvReader:
    """Reads one CSV file once, from its first byte to its last, and hashes it on the way.

    Args:
        file: Opened for reading bytes, at its start.
        name: What errors call it.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, with the line.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.size = check_size(file, name, MAX_CSV_BYTES)
        self.consumed = 0
        self._file = file
        self._name = name
        self._digest = sha256()
        self._eof = False
        self._target = 0  # how far the buffer is to be filled
        self._lines = 0  # line ends before the buffer's first byte
        self._used = 0
        self._aligned = True
        self._storage = bytearray()
        self._allocate(BLOCK_BYTES)
        # Freeing one large allocation makes glibc keep freed memory up to its size (mallopt(3), M_MMAP_THRESHOLD
        # is dynamic); without that every block's arrays are mapped, faulted in and unmapped again.
        np.empty(KEEP_BYTES, np.uint8)
        self.header = self._read_header()

    @property
    def sha256(self) -> str:
        """Hex digest of what was read so far: of the whole file once ``blocks`` is exhausted."""
        return self._digest.hexdigest()

    def blocks(self, wanted: Sequence[int]) -> Iterator[Block]:
        """Yield the rows in order.

        Args:
            wanted: Indices of the header's columns to locate.
        """
        fields: _Fields | None = self._first
        while fields is not None:
            width = len(self.header)
            if len(fields.ends):
                self._check_widths(fields, width)
                yield self._block(fields, wanted)
            self._advance(fields.cut)
            fields = None
            while fields is None and self._fill():
                block = self._plain_block(wanted)
                if block is None:
                    fields = self._split()
                else:
                    yield block[0]
                    self._advance(block[1], block[0].rows)

    # -- the buffer ------------------------------------------------------------------------------------------

    def _allocate(self, capacity: int) -> None:
        storage = bytearray(capacity + PAD)
        storage[: self._used] = self._storage[: self._used]
        self._storage = storage
        self._data = np.frombuffer(storage, np.uint8)
        block = min(len(storage), BLOCK_BYTES + PAD)
        self._newline = np.empty(block, np.bool_)
        self._comma = np.empty(block, np.bool_)
        self._capacity = capacity

    def _read_more(self) -> None:
        with memoryview(self._storage) as view:
            got = self._file.readinto(view[self._used : self._target])  # type: ignore[attr-defined]
            self._digest.update(view[self._used : self._used + got])
        self._used += got
        self.consumed += got
        if not got:
            self._eof = True
            # The last line need not end; from here on every line does.
            if self._used and self._storage[self._used - 1] != _LF:
                self._storage[self._used] = _LF
                self._used += 1

    def _fill(self, target: int | None = None) -> bool:
        """Fill the buffer up to a block, or to ``target``; False when nothing is left."""
        self._target = min(target or BLOCK_BYTES, self._capacity)
        while not self._eof and self._used < self._target:
            self._read_more()
        return self._used > 0

    def _grow(self) -> None:
        if self._used > MAX_RECORD_BYTES:
            raise self._no_end()
        target = min(2 * self._used, MAX_RECORD_BYTES + 1)
        if self._capacity < target:
            self._allocate(target)
        self._fill(target)

    def _advance(self, cut: int, lines: int | None = None) -> None:
        self._lines += self._count_lines(cut) if lines is None else lines
        rest = self._used - cut
        self._storage[:rest] = self._storage[cut : self._used]
        self._used = rest

    # -- errors ----------------------------------------------------------------------------------------------

    def _count_lines(self, position: int) -> int:
        raw = bytes(memoryview(self._storage)[:position])
        crs = raw.count(b"\r")
        return raw.count(b"\n") + (crs - raw.count(b"\r\n") if crs else 0)

    def _line(self, position: int) -> str:
        return f"line {self._lines + 1 + self._count_lines(position)}"

    def _fail(self, position: int, problem: str) -> NoReturn:
        raise bad_format(self._name, self._line(position), problem)

    def _no_end(self) -> AutoScorerError:
        if self._storage.find(b'"', 0, self._used) >= 0:
            problem = "a quote is opened in this row and never closed."
        else:
            problem = f"the row is longer than {MAX_RECORD_BYTES:,} bytes."
        return bad_format(self._name, self._line(0), problem)

    def _check_bytes(self, cut: int) -> None:
        """Refuse NUL bytes and invalid UTF-8 in what is about to be read."""
        nul = self._storage.find(b"\0", 0, cut)
        if nul >= 0:
            self._fail(nul, "a NUL byte; expected UTF-8 text.")
        if int(self._data[:cut].max(initial=0)) >= 0x80:
            try:
                self._storage[:cut].decode()
            except UnicodeDecodeError as error:
                byte = self._storage[error.start]
                hint = "Another encoding is named in meta.json, as data.encoding."
                self._fail(error.start, f"invalid UTF-8 (byte 0x{byte:02X}). {hint}")

    # -- the common case: no quotes, no CR, no blank lines -------------------------------------------------------

    def _plain_block(self, wanted: Sequence[int]) -> tuple[Block, int] | None:
        # What a giant row left behind in the buffer is no reason to look at more than a block at a time.
        storage, used, width = self._storage, min(self._used, BLOCK_BYTES), len(self.header)
        if storage.find(b'"', 0, used) >= 0 or storage.find(b"\r", 0, used) >= 0:
            return None
        cut = storage.rfind(b"\n", 0, used) + 1
        if not cut:
            return None
        data, newline, comma = self._data[:cut], self._newline[:cut], self._comma[:cut]
        np.equal(data, _LF, out=newline)
        np.equal(data, _COMMA, out=comma)
        ends = np.flatnonzero(newline)
        rows = len(ends)
        if np.count_nonzero(comma) != rows * (width - 1):
            return None
        self._check_bytes(cut)
        starts = np.zeros(rows, np.int64)
        np.add(ends[:-1], 1, out=starts[1:])
        block = self._grid_block(starts, ends, wanted) if self._aligned else None
        if block is None:
            self._aligned = False
            np.logical_or(comma, newline, out=comma)
            found = np.flatnonzero(comma)
            # As many line ends as rows, and one at each row's last place: so there is none anywhere else.
            if not newline[found[width - 1 :: width]].all():
                return None
            block = self._position_block(starts, found.reshape(rows, width), wanted)
        return block, cut

    def _position_block(self, starts: Positions, ends: Positions, wanted: Sequence[int]) -> Block:
        firsts = [ends[:, column - 1] + 1 if column else starts for column in wanted]
        lengths = [ends[:, column] - first for column, first in zip(wanted, firsts, strict=True)]
        return Block(self._data, firsts, lengths, lambda row: self._line(int(starts[row])))

    def _grid_block(self, starts: Positions, ends: Positions, wanted: Sequence[int]) -> Block | None:
        """The block, if every row has its commas at the same offsets: ids of one length, then labels of any."""
        lengths = ends - starts
        longest = int(lengths.max())
        commas = np.flatnonzero(self._comma[: int(ends[0])])
        # As many commas as there should be, and each row has its own at these places: so there is none elsewhere.
        if longest > GRID_BYTES or len(commas) != len(self.header) - 1 or int(lengths.min()) <= int(commas[-1]):
            return None
        size = -(-longest // 16) * 16
        records = np.ndarray((len(self._data) - size + 1,), f"V{size}", self._data, strides=(1,))[starts]
        grid = records.view(np.uint8).reshape(len(starts), size)
        if not all((grid[:, place] == _COMMA).all() for place in commas.tolist()):
            return None
        bounds = [-1, *commas.tolist()]
        offsets = [bounds[column] + 1 for column in wanted]
        widths = [
            np.broadcast_to(np.int64(bounds[column + 1] - offset), len(starts))
            if column + 1 < len(bounds)
            else lengths - offset
            for column, offset in zip(wanted, offsets, strict=True)
        ]
        firsts = [starts + offset if offset else starts for offset in offsets]
        return Block(self._data, firsts, widths, lambda row: self._line(int(starts[row])), grid, offsets)

    # -- everything else -------------------------------------------------------------------------------------

    def _split(self) -> _Fields:
        """Find the fields of every whole record in the buffer, reading on until there is one."""
        while True:
            fields = self._split_once()
            if fields.cut:
                self._check_bytes(fields.cut)
                self._check_quotes(fields.cut)
                return fields
            if self._eof:
                raise self._no_end()
            self._grow()

    def _split_once(self) -> _Fields:
        limit = self._used
        if not self._eof and self._storage[limit - 1] == _CR:
            limit -= 1  # the LF of this CR may come next
        data = self._data[:limit]
        ends = self._separators(data)
        kind = data[ends]
        after = ends + 1
        if (kind == _CR).any():
            pair = np.flatnonzero((kind[:-1] == _CR) & (kind[1:] == _LF) & (ends[1:] == after[:-1]))
            after[pair] += 1
            keep = np.ones(len(ends), np.bool_)
            keep[pair + 1] = False
            ends, after, kind = ends[keep], after[keep], kind[keep]
            if kind[-1] == _CR and after[-1] < len(data) and data[after[-1]] == _LF:
                after[-1] += 1  # it lies behind the part that was looked at
        last = kind != _COMMA
        complete = np.flatnonzero(last)
        count = int(complete[-1]) + 1 if len(complete) else 0
        cut = int(after[count - 1]) if count else 0
        ends, last = ends[:count], last[:count]
        starts = np.zeros(count, np.int64)
        starts[1:] = after[: max(count - 1, 0)]
        blank = last & (starts == ends)
        blank[1:] &= last[:-1]
        if blank.any():
            starts, ends, last = starts[~blank], ends[~blank], last[~blank]
        return _Fields(starts, ends, last, cut)

    def _separators(self, data: Bytes) -> Positions:
        """Where the commas and line ends outside of quotes are, of a block's rows or of the one that is larger.

        Raises:
            AutoScorerError: ``BAD_FORMAT``: the first row has more fields than any table.
        """
        found: list[Positions] = []
        inside = fields = 0
        ended = False
        for at in range(0, len(data), BLOCK_BYTES):
            part = data[at : at + BLOCK_BYTES]
            ends = np.flatnonzero((part == _COMMA) | (part == _LF) | (part == _CR))
            quotes = np.flatnonzero(part == _QUOTE)
            if inside or len(quotes):  # an odd number of quotes before it: inside one
                ends = ends[(np.searchsorted(quotes, ends) + inside) % 2 == 0]
                inside = (inside + len(quotes)) % 2
            found.append(ends + at)
            lines = np.flatnonzero(part[ends] != _COMMA)
            ended = bool(len(lines))
            fields += int(lines[0]) if ended else len(ends)
            if fields >= MAX_COLUMNS:
                self._fail(0, f"too many fields: more than {MAX_COLUMNS:,}; a table has at most as many columns.")
            if ended:
                break
        return np.concatenate(found)

    def _check_quotes(self, cut: int) -> None:
        """Every quote opens a field, closes it, or is half of a doubled one."""
        data = self._data
        neighbour = np.zeros(256, np.bool_)
        neighbour[[_COMMA, _LF, _CR, _QUOTE]] = True
        closes = 0
        for at in range(0, cut, BLOCK_BYTES):
            quotes = np.flatnonzero(data[at : min(at + BLOCK_BYTES, cut)] == _QUOTE) + at
            opening, closing = quotes[closes::2], quotes[1 - closes :: 2]
            closes = (closes + len(quotes)) % 2
            fine = neighbour[data[np.maximum(opening - 1, 0)]] | (opening == 0)
            if not fine.all():
                self._fail(
                    int(opening[np.argmin(fine)]),
                    "a quote inside an unquoted field; expected the field in quotes and its own quotes doubled.",
                )
            fine = neighbour[data[closing + 1]]
            if not fine.all():
                self._fail(
                    int(closing[np.argmin(fine)]), "text after a closing quote; expected a comma or the line's end."
                )

    def _check_widths(self, fields: _Fields, width: int) -> None:
        last = np.flatnonzero(fields.last)
        widths = np.diff(last, prepend=-1)
        wrong = np.flatnonzero(widths != width)
        if len(wrong):
            row = int(wrong[0])
            first = int(last[row - 1]) + 1 if row else 0
            kind = "too few" if widths[row] < width else "too many"
            self._fail(int(fields.starts[first]), f"{kind} fields: {widths[row]}; expected {width} as in the header.")

    def _block(self, fields: _Fields, wanted: Sequence[int]) -> Block:
        width = len(self.header)
        lines = fields.starts.reshape(-1, width)[:, 0]
        data = self._data
        starts, lengths = [], []
        spare: list[bytes] = []
        offset = len(data)
        for column in wanted:
            start = fields.starts.reshape(-1, width)[:, column].copy()
            end = fields.ends.reshape(-1, width)[:, column].copy()
            quoted = np.flatnonzero((data[start] == _QUOTE) & (end > start))
            start[quoted] += 1
            end[quoted] -= 1
            for row in quoted[self._has_quote(start[quoted], end[quoted])].tolist():
                plain = data[start[row] : end[row]].tobytes().replace(b'""', b'"')
                start[row], end[row] = offset, offset + len(plain)
                spare.append(plain)
                offset += len(plain)
            starts.append(start)
            lengths.append(end - start)
        if spare:  # kept apart from the buffer, whose line ends errors still count
            tail = np.frombuffer(b"".join(spare) + bytes(PAD), np.uint8)
            data = np.concatenate([data, tail])
        return Block(data, starts, lengths, lambda row: self._line(int(lines[row])))

    def _has_quote(self, starts: Positions, ends: Positions) -> NDArray[np.bool_]:
        if not len(starts):
            return np.zeros(0, np.bool_)
        last = int(ends.max())
        if last > 2 * BLOCK_BYTES:  # a few giant fields
            find, pairs = self._storage.find, zip(starts.tolist(), ends.tolist(), strict=True)
            return np.array([find(b'"', start, end) >= 0 for start, end in pairs], np.bool_)
        quotes = np.flatnonzero(self._data[:last] == _QUOTE)
        return np.searchsorted(quotes, ends) > np.searchsorted(quotes, starts)

    # -- the header ------------------------------------------------------------------------------------------

    def _read_header(self) -> list[str]:
        self._fill()
        if self._storage.startswith(b"\xef\xbb\xbf"):
            self._storage[: self._used - 3] = self._storage[3 : self._used]
            self._used -= 3
        if self._storage.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise bad_format(
                self._name,
                "line 1",
                "the file is UTF-16; expected UTF-8, or its encoding as data.encoding in meta.json.",
            )
        while True:
            if not self._used:
                raise bad_format(self._name, "", "the file is empty; expected a header line.")
            fields = self._split()
            if len(fields.ends):
                break
            self._advance(fields.cut)
            self._fill()
        width = int(np.argmax(fields.last)) + 1
        head = _Fields(fields.starts[:width], fields.ends[:width], fields.last[:width], fields.cut)
        self.header = [""] * width
        block = self._block(head, range(width))
        names = [block.text(column, 0).decode() for column in range(width)]
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            shown = ", ".join(repr(name[:80]) for name in repeated[:5]) + (", …" if len(repeated) > 5 else "")
            self._fail(int(head.starts[0]), f"the header names {shown} more than once.")
        self._first = _Fields(fields.starts[width:], fields.ends[width:], fields.last[width:], fields.cut)
        return names
