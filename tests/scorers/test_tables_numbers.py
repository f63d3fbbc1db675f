"""Numbers: to the bit as Python's float reads them, and nothing else."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.tables.block import PAD, Block
from autoscorer.scorers.tables.numbers import NumberColumn, parse_decimals
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.examples import examples

FAST = settings(max_examples=examples(300), deadline=None)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SPELLED = st.one_of(
    FINITE.map(repr),
    st.floats(-1, 1).map(repr),
    st.tuples(FINITE, st.sampled_from([".0f", ".3f", ".6f", ".17g", ".18e", ".1e", "+.4f", ".25f"])).map(
        lambda pair: format(*pair)
    ),
    st.tuples(st.integers(0, 10**20), st.integers(0, 22)).map(
        lambda p: f"{p[0]}."[:-1] if not p[1] else f"0.{p[0]:0{p[1]}}"
    ),
    st.tuples(st.integers(0, 10**8), st.text("0123456789", max_size=21)).map(lambda pair: f"{pair[0]}.{pair[1]}"),
    st.sampled_from(["0", "-0", "-0.0", "00012.50", ".5", "-.5", "5.", " 1.5\t", "1E5", "+3", "1e-400", "9" * 19]),
)


def block(texts: list[bytes], gap: bytes = b",7.7\n") -> Block:
    """Fields of a row each, with other bytes between them."""
    data = np.frombuffer(gap.join(texts) + b"9" * PAD, np.uint8)
    lengths = np.array([len(text) for text in texts])
    starts = np.concatenate([[0], np.cumsum(lengths + len(gap))[:-1]])
    return Block(data, [starts], [lengths], lambda row: f"line {row + 2}")


def read(texts: list[str], gap: bytes = b",7.7\n") -> list[float]:
    column = NumberColumn("pred.csv")
    column.append(block([text.encode() for text in texts], gap), 0, 1)
    return column.finish().tolist()


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("d", value) for value in values]


@FAST
@given(texts=st.lists(SPELLED.filter(lambda text: math.isfinite(float(text))), min_size=1, max_size=20))
@pytest.mark.parametrize("gap", [b",", b",7.7\n"])
def test_every_bit_is_as_python_reads_it(texts, gap):
    assert bits(read(texts, gap)) == bits([float(text) for text in texts])


@pytest.mark.parametrize("spell", [repr, "{:.6f}".format, "{:.16f}".format, "{:.17g}".format, "{:.12g}".format])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e7, 1e15])
def test_many_random_numbers_are_right(spell, scale):
    texts = [spell(value) for value in (np.random.default_rng(1).normal(size=20_000) * scale).tolist()]
    assert bits(read(texts)) == bits([float(text) for text in texts])


def test_numbers_next_to_the_middle_between_two_floats_are_right():
    rng = np.random.default_rng(2)
    texts = []
    for low in rng.integers(2**52, 2**53, 3000).tolist():
        for power in (1, 2, 3):
            middle = (2 * low + 1) * 5**power  # (low + 1/2) / 2^(power-1), exactly, in decimal
            for near in (middle - 1, middle, middle + 1):
                digits = str(near)
                if len(digits) <= 19:
                    texts.append(f"{digits[:-power]}.{digits[-power:]}")
    assert len(texts) > 20_000
    assert bits(read(texts)) == bits([float(text) for text in texts])


def test_the_usual_spellings_need_no_second_look():
    values = np.random.default_rng(3).normal(size=10_000)
    for spell in (repr, "{:.6f}".format, "{:.6g}".format, "{:.0f}".format):
        rows = block([spell(value).encode() for value in values.tolist() if abs(value) > 1e-4])
        _, unsure = parse_decimals(rows.data, rows.starts[0], rows.lengths[0])
        assert unsure.mean() < 0.01


@pytest.mark.parametrize(
    "text",
    ["", "nan", "NaN", "inf", "-Infinity", "1_000", "1e400", "-1e400", "9" * 400, "1,5", "0x10", "abc", ".", "-", "+",
     "1.2.3", "--1", "1-", "1e", "e5", "NA", "null", "١٢", "1 2", "1:", "1/", " ", "1.\x1f5", "1;5"],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused_with_its_row(text):
    with pytest.raises(AutoScorerError) as caught:
        read(["1.5", text, "2.5"])
    assert caught.value.code is ErrorCode.PARSE_ERROR
    assert "line 3" in caught.value.message
    assert repr(text[:80]) in caught.value.message
