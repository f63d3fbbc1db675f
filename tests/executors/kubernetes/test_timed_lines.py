"""The log comes byte for byte, whatever is in it, and a cut anywhere doubles and loses nothing."""

from __future__ import annotations

import random

import pytest
from autoscorer.executors.kubernetes.log import TimedLines

JSON = b'{"a": "b", "n": [1, 2.50], "t": "2026-11-29T19:00:00Z "}\n'


def stamped(lines: list[bytes], *, same: int = 1, parts: int | None = None) -> bytes:
    """As a node hands them out.

    Args:
        lines: Each with its line break.
        same: How many in a row have one timestamp.
        parts: Size of the parts that a runtime cuts lines into, where the server stamps each.
    """
    out = b""
    for number, line in enumerate(lines):
        stamp = b"2026-11-29T19:00:%02d.%09dZ " % (number // same // 7, number // same)
        pieces = [line[at : at + parts] for at in range(0, len(line), parts)] if parts else [line]
        # A line break alone is no part of its own.
        if len(pieces) > 1 and pieces[-1] == b"\n":
            pieces[-2:] = [pieces[-2] + b"\n"]
        out += b"".join(stamp + piece for piece in pieces)
    return out


def read(*streams: bytes, piece: int = 7, cut_at: int | None = None) -> bytes:
    got: list[bytes] = []
    lines = TimedLines(got.append)
    for number, stream in enumerate(streams):
        if number:
            lines.resume()
        for at in range(0, len(stream), piece):
            lines.feed(stream[at : at + piece])
    lines.finish()
    return b"".join(got)


AWKWARD = [
    JSON,
    b"\n",
    b"\n",
    b" leading blank\n",
    b"\xff\x00\r\n",
    b"2026-11-29T19:00:00Z looks like one\n",
    b"x" * 5000 + b"\n",
]


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 4096, 1 << 20])
@pytest.mark.parametrize("same", [1, 3])
def test_every_byte_comes_as_the_model_wrote_it(piece: int, same: int) -> None:
    assert read(stamped(AWKWARD * 3, same=same), piece=piece) == b"".join(AWKWARD * 3)


def test_the_last_line_may_lack_its_end() -> None:
    lines = [JSON, b"no end"]
    for piece in (1, 5, 1000):
        assert read(stamped(lines), piece=piece) == b"".join(lines)


@pytest.mark.parametrize("parts", [8192, 16384])
@pytest.mark.parametrize("size", [8191, 8192, 8193, 16384, 16385, 40_000])
@pytest.mark.parametrize("piece", [11, 5000, 1 << 20])
def test_lines_that_a_runtime_has_cut_are_whole_again(parts: int, size: int, piece: int) -> None:
    """Servers before 1.27 put a timestamp before each part, later ones do not."""
    lines = [JSON, b'"' + b"y" * (size - 2) + b'"\n', JSON, b"z" * size]
    assert read(stamped(lines, parts=parts), piece=piece) == b"".join(lines)
    assert read(stamped(lines), piece=piece) == b"".join(lines)


def test_a_cut_anywhere_doubles_and_loses_nothing() -> None:
    lines = [b"a\n", b"b" * 30 + b"\n", b"\n", b"c\n", b"d" * 20 + b"\n", b"e\n"]
    for same in (1, 2, 3):
        whole = stamped(lines, same=same)
        starts = [0] + [at + 1 for at in range(len(whole)) if whole[at : at + 1] == b"\n"]
        for cut in range(len(whole)):
            newest = max((start for start in starts if start + 31 <= cut), default=0)
            for again in starts[:-1]:
                # A resumed stream begins at or before the second of the newest line.
                if whole[again : again + 20] <= whole[newest : newest + 20] and again <= newest:
                    stamp = whole[newest : newest + 30]
                    first = min(start for start in starts if whole[start : start + 30] == stamp)
                    if again <= first:
                        got = read(whole[:cut], whole[again:], piece=9)
                        assert got == b"".join(lines), (same, cut, again)


def test_cuts_upon_cuts() -> None:
    chance = random.Random(12)
    lines = [b"%d:" % number + b"x" * chance.randrange(60) + b"\n" for number in range(40)]
    whole = stamped(lines, same=2)
    for _ in range(300):
        cuts = sorted(chance.randrange(len(whole)) for _ in range(4))
        got = read(*(whole[:cut] for cut in cuts), whole, piece=chance.randrange(1, 50))
        assert got == b"".join(lines)


def test_a_word_of_the_servers_is_shown_as_it_is() -> None:
    assert read(b"unable to retrieve container logs\n") == b"unable to retrieve container logs\n"
