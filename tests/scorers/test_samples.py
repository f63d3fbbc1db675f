"""What is kept of single rows: all of them or the worst, the same whatever the order of the files."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.sample_file import MOST_BYTES, Measure, SampleFile, UnreadableError, pack, unpack
from autoscorer.schemas.result import Result
from autoscorer.scorers import samples as module
from autoscorer.scorers.base_csv import BaseCSVScorer
from autoscorer.scorers.classification import ClassificationAccuracy
from autoscorer.scorers.regression import RegressionRMSE
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.examples import examples


def written(root: Path, truth: dict[str, str], predicted: dict[str, str], *, seed: int = 0) -> Path:
    """A workspace with these labels by id, its rows in some order."""
    for folder, name, rows in (("input", "gt", truth), ("output", "pred", predicted)):
        (root / folder).mkdir(exist_ok=True)
        lines = [json.dumps({"id": ident, "label": label}) for ident, label in rows.items()]
        random.Random(seed).shuffle(lines)
        (root / folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return root


def kept(root: Path, result: Result) -> SampleFile:
    artifact = result.artifacts["samples"]
    assert artifact.path == "output/artifacts/samples.json.gz" and artifact.media_type == "application/gzip"
    file = unpack((root / artifact.path).read_bytes())
    assert (artifact.rows, artifact.rows_total) == (len(file.ids), file.total)
    return file


def rows(file: SampleFile) -> list[tuple[Any, ...]]:
    labels = file.labels
    assert labels is not None and file.verdicts is not None
    columns = ([labels[int(code)] for code in column] for column in (file.expected, file.predicted))
    return [*zip(file.ids, *columns, file.verdicts, strict=True)]


def test_labels_come_with_their_verdicts_the_wrong_ones_first(tmp_path: Path) -> None:
    truth = {"a": "cat", "b": "dog", "c": "cat", "d": "=1+1"}
    root = written(tmp_path, truth, {**truth, "b": "cat", "c": "bird"})
    file = kept(root, ClassificationAccuracy().score(root, {}))
    assert rows(file) == [
        ("b", "dog", "cat", False),
        ("c", "cat", "bird", False),
        ("a", "cat", "cat", True),
        # Exactly as it was written: this is no table for a spreadsheet.
        ("d", "=1+1", "=1+1", True),
    ]
    assert (file.total, file.right, file.measure, file.values) == (4, 2, None, None)


def test_numbers_come_with_their_error_the_worst_first(tmp_path: Path) -> None:
    root = written(tmp_path, {"a": "1", "b": "2", "c": "3"}, {"a": "1.5", "b": "2", "c": "-7"})
    file = kept(root, RegressionRMSE().score(root, {}))
    assert file.ids == ["c", "a", "b"] and file.values == [10.0, 0.5, 0.0]
    assert file.expected == [3.0, 1.0, 2.0] and file.predicted == [-7.0, 1.5, 2.0]
    assert file.measure == Measure("absolute_error", higher_is_better=False)
    assert file.verdicts is None and file.right is None and file.labels is None


def test_an_error_beyond_all_numbers_is_no_number(tmp_path: Path) -> None:
    root = written(tmp_path, {"a": "1e308", "b": "1"}, {"a": "-1e308", "b": "2"})
    file = kept(root, RegressionRMSE().score(root, {}))
    assert file.ids == ["a", "b"] and file.values == [None, 1.0]


class _WithinOne(BaseCSVScorer):
    name: ClassVar[str] = "within_one"
    version: ClassVar[str] = "1"
    metric: ClassVar[str] = "within_one"
    values = "number"

    def per_row(self, table: Any, params: Any) -> Any:
        return np.abs(table.prediction - table.truth) <= 1


class _Shares(_WithinOne):
    metric: ClassVar[str] = "share"

    def per_row(self, table: Any, params: Any) -> Any:
        return 1 / (1 + np.abs(table.prediction - table.truth))


def test_a_scorer_of_rows_says_what_is_right(tmp_path: Path) -> None:
    root = written(tmp_path, {"a": "1", "b": "2"}, {"a": "1.5", "b": "9"})
    file = kept(root, _WithinOne().score(root, {}))
    assert (file.ids, file.verdicts, file.values, file.right) == (["b", "a"], [False, True], [0.0, 1.0], 1)
    assert file.measure == Measure("within_one", higher_is_better=True)
    file = kept(root, _Shares().score(root, {}))
    assert (file.ids, file.verdicts, file.values) == (["b", "a"], None, [0.125, 1 / 1.5])


def test_what_was_decided_by_a_threshold_is_what_is_kept(tmp_path: Path) -> None:
    root = written(tmp_path, {"a": "1", "b": "0"}, {"a": "0.9", "b": "0.8"})
    file = kept(root, ClassificationAccuracy().score(root, {"threshold": 0.5}))
    assert rows(file) == [("b", "0", "1", False), ("a", "1", "1", True)]


def test_without_artifacts_nothing_is_kept(tmp_path: Path) -> None:
    root = written(tmp_path, {"a": "x"}, {"a": "x"})
    assert not ClassificationAccuracy().score(root, {"artifacts": False}).artifacts
    assert not (root / "output" / "artifacts").exists()


@pytest.mark.parametrize("as_numbers", [False, True])
def test_of_many_rows_the_wrong_or_worst_ones_are_kept_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_numbers: bool
) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLES", 40)
    monkeypatch.setattr(module, "_TOGETHER", 7)
    monkeypatch.setattr(module, "_STRIDE", 11)
    truth = {f"r{n:03}": str(n % 10) for n in range(300)}
    predicted = {
        ident: str(int(label) + (n % 10 == 3) * (n // 10 + 1)) for n, (ident, label) in enumerate(truth.items())
    }
    seen = []
    for seed in range(3):
        root = written(tmp_path, truth, predicted, seed=seed)
        scorer = RegressionRMSE() if as_numbers else ClassificationAccuracy()
        file = kept(root, scorer.score(root, {}))
        assert len(file.ids) == 40 and file.total == 300
        assert set(file.ids[:30]) == {ident for ident in truth if truth[ident] != predicted[ident]}
        seen.append((root / "output/artifacts/samples.json.gz").read_bytes())
    assert len(set(seen)) == 1


def test_ids_and_labels_may_be_anything_and_take_no_more_room_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {"a\u202e'": "x" * 5000, "n" * 3000: "y", "b\n": "\x1b[31m", "😀": "<script>"}
    root = written(tmp_path, truth, truth)
    file = kept(root, ClassificationAccuracy().score(root, {}))
    assert set(file.ids) == {"a\u202e'", "b\n", "😀"} and file.total == 4
    assert {label for _, label, *_ in rows(file)} == {"x" * 1000 + "…", "\x1b[31m", "<script>"}
    monkeypatch.setattr(module, "_MOST_TEXT", 100)
    monkeypatch.setattr(module, "_TOGETHER", 10)
    truth = {f"id-{n:05}": f"label-{n}" for n in range(500)}
    root = written(tmp_path, truth, truth)
    assert len(kept(root, ClassificationAccuracy().score(root, {})).ids) == 10


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
files = st.one_of(
    st.lists(st.tuples(texts, st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=6).map(
        lambda found: SampleFile(
            total=len(found) + 3,
            ids=[each[0] for each in found],
            expected=[each[1] for each in found],
            predicted=[each[2] for each in found],
            labels=["", "a", "b\n"],
            verdicts=[each[3] for each in found],
            right=3 + sum(each[3] for each in found),
        )
    ),
    st.lists(st.tuples(texts, numbers, numbers, st.none() | numbers), max_size=6).map(
        lambda found: SampleFile(
            total=len(found),
            ids=[each[0] for each in found],
            expected=[each[1] for each in found],
            predicted=[each[2] for each in found],
            measure=Measure("error", higher_is_better=False),
            values=[each[3] for each in found],
        )
    ),
)


@settings(max_examples=examples(100), deadline=None)
@given(file=files)
def test_what_is_packed_is_unpacked_as_it_was(file: SampleFile) -> None:
    assert unpack(pack(file)) == file
    assert pack(file) == pack(file)


GOOD = {"total": 1, "ids": ["a"], "expected": [0], "predicted": [0], "labels": ["x"], "format": 1}


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2},
        {"total": 0},
        {"ids": ["a", "b"], "total": 2},
        {"expected": [1]},
        {"predicted": [-1]},
        {"predicted": [0.5]},
        {"verdicts": [True]},
        {"right": 1},
        {"verdicts": [True, False], "right": 1},
        {"values": []},
        {"ids": [1]},
        {"unknown": 1},
        {"labels": "x"},
    ],
)
def test_what_is_no_such_file_is_not_read(changed: dict[str, Any]) -> None:
    def packed(value: Any) -> bytes:
        packer = zlib.compressobj(wbits=31)
        return packer.compress(json.dumps(value).encode()) + packer.flush()

    assert unpack(packed(GOOD)).ids == ["a"]
    with pytest.raises(UnreadableError):
        unpack(packed({**GOOD, **changed}))


def test_nor_is_one_that_is_cut_or_no_archive_or_unpacks_to_too_much() -> None:
    whole = pack(SampleFile(total=1, ids=["a"], expected=[1.0], predicted=[1.0]))
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    too_much = bomb.compress(b" " * (MOST_BYTES + 10)) + bomb.flush()
    for content in (b"", b"{}", whole[:-9], whole[:10], too_much, b"[" * 100_000):
        with pytest.raises(UnreadableError):
            unpack(content)


def test_an_error_leaves_no_samples_of_an_earlier_scoring_in_the_result(tmp_path: Path) -> None:
    root = written(tmp_path, {"a": "x"}, {"b": "x"})
    with pytest.raises(AutoScorerError):
        ClassificationAccuracy().score(root, {})
    assert not (root / "output" / "artifacts" / "samples.json.gz").exists()
