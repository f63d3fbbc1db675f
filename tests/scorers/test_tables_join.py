"""The join: exact whatever the ids, whatever the hash, whatever the order of the files."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.tables import join, packing
from autoscorer.scorers.tables.block import PAD, Block
from autoscorer.scorers.tables.columns import IdColumn, LongIds
from autoscorer.scorers.tables.join import align
from autoscorer.scorers.tables.packing import Squeeze
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.examples import examples

FAST = settings(max_examples=examples(200), deadline=None)
REAL_MIX = packing.mix
HASHES = {
    "real": REAL_MIX,
    "constant": lambda words: np.zeros(len(words[0]), np.uint64),
    "two bits": lambda words: REAL_MIX(words) & np.uint64(3 << 62),
}
IDS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=6),
    st.integers(0, 50).map(str),
    st.integers(0, 30).map(lambda i: f"sample-{i:07d}"),
    st.integers(0, 30).map(lambda i: f"{i:032x}-{i * 7919:016x}"),
    st.integers(0, 5).map(lambda i: "x" * 64 + "y" * i),
)


def column(ids: list[str], long_ids: LongIds, at_a_time: int = 7) -> IdColumn:
    """As the reader fills one, a few rows at a time."""
    out = IdColumn(long_ids)
    for start in range(0, len(ids), at_a_time):
        texts = [text.encode() for text in ids[start : start + at_a_time]]
        lengths = np.array([len(text) for text in texts])
        ends = np.cumsum(lengths)
        data = np.frombuffer(b"".join(texts) + b"\xaa" * PAD, np.uint8)
        out.append(Block(data, [ends - lengths], [lengths], str), 0, 3)
    return out


def joined(truth: list[str], predictions: list[str], codes=None) -> join.Alignment:
    long_ids = LongIds()
    return align(column(truth, long_ids), column(predictions, long_ids, 5), long_ids, ("gt.csv", "pred.csv"), codes)


@pytest.fixture(params=list(HASHES), autouse=True)
def hashed_by(request, monkeypatch):
    monkeypatch.setattr(packing, "mix", HASHES[request.param])


@pytest.mark.parametrize(
    "make_id",
    [str, "sample-{:07d}".format, lambda i: f"{i * 2654435761 % 2**128:032x}", lambda i: f"{i:x}" + "é" * (i % 40)],
    ids=["short", "prefix", "long", "any length"],
)
@pytest.mark.parametrize("rows", [1, 2, 3000])
def test_rows_meet_by_id_and_the_order_of_the_files_does_not_show(make_id, rows):
    ids = [make_id(i) for i in range(rows)]
    orders = []
    for seed in range(2):
        rng = random.Random(seed)
        truth, predictions = rng.sample(ids, rows), rng.sample(ids, rows)
        found = joined(truth, predictions)
        assert [truth[row] for row in found.truth] == found.ids()
        assert [predictions[row] for row in found.predictions] == found.ids()
        codes = (np.array([len(one) for one in truth]), np.array([ord(one[-1]) for one in predictions]))
        found = joined(truth, predictions, codes)
        assert found.truth.tolist() == [len(one) for one in found.ids()]
        assert found.predictions.tolist() == [ord(one[-1]) for one in found.ids()]
        orders.append(found.ids())
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(ids)


@FAST
@given(truth=st.lists(IDS, min_size=1, max_size=12), predictions=st.lists(IDS, max_size=12), same=st.booleans())
def test_the_join_answers_as_python_dictionaries_would(truth, predictions, same):
    if same:
        truth = list(dict.fromkeys(truth))
        predictions = truth[::-1]
    if len(set(truth)) == len(truth) and sorted(truth) == sorted(predictions):
        found = joined(truth, predictions)
        assert [truth[row] for row in found.truth] == found.ids()
        assert [predictions[row] for row in found.predictions] == found.ids()
        return
    with pytest.raises(AutoScorerError) as caught:
        joined(truth, predictions)
    assert caught.value.code is ErrorCode.MISMATCH
    expected = {
        "missing": set(truth) - set(predictions),
        "extra": set(predictions) - set(truth),
        "duplicates_in_ground_truth": {one for one, count in Counter(truth).items() if count > 1},
        "duplicates_in_predictions": {one for one, count in Counter(predictions).items() if count > 1},
    }
    for kind, ids in expected.items():
        found = caught.value.details[kind]
        assert found["count"] == len(ids)
        short = sorted((one for one in ids if len(one.encode()) <= 64), key=str.encode)
        assert found["first"][: min(5, len(short))] == short[:5]
    assert caught.value.details["ground_truth_rows"] == len(truth)
    assert caught.value.details["prediction_rows"] == len(predictions)


def test_one_error_tells_everything():
    with pytest.raises(AutoScorerError) as caught:
        joined([f"{i}" for i in range(100)] + ["0"], [f"{i}" for i in range(10, 103)] + ["102"])
    assert "10 missing from pred.csv ('0', '1', '2', '3', '4', …)" in caught.value.message
    assert "3 in pred.csv but not in gt.csv ('100', '101', '102')" in caught.value.message
    assert "1 more than once in gt.csv ('0')" in caught.value.message
    assert "1 more than once in pred.csv ('102')" in caught.value.message


@pytest.mark.parametrize("length", [7, 8, 9, 16, 63, 64, 65, 200])
def test_ids_that_differ_in_their_last_byte_alone_stay_apart(length):
    ids = ["x" * (length - 1) + c for c in "abc"] + ["x" * (length - 1)]
    assert sorted(joined(ids, ids[::-1]).ids()) == sorted(ids)


@FAST
@given(mask=st.integers(0, 2**64 - 1), values=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
def test_squeezing_keeps_exactly_the_bits_of_the_mask(mask, values):
    squeeze = Squeeze(mask)
    words = np.array(values, np.uint64)
    kept = squeeze.compress(words)
    places = [bit for bit in range(64) if mask >> bit & 1]
    assert kept.tolist() == [sum((value >> bit & 1) << rank for rank, bit in enumerate(places)) for value in values]
    # What stands above those bits belongs to another word.
    kept |= np.uint64(2**64 - (1 << squeeze.bits))
    assert squeeze.expand(kept).tolist() == [value & mask for value in values]
