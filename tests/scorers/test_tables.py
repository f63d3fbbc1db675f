"""Reading tables: the dialect, the refusals with their line, and the same content in every format."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.workspace import Workspace
from autoscorer.scorers.tables import csv_reader, json_batches, packing
from autoscorer.scorers.tables.aligned import Columns, load_aligned, read_columns
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..support.examples import examples

FAST = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
FIELD = st.one_of(TEXT, st.sampled_from(["001", "1", "1.0", "NA", "null", "nan", 'a"b', "a,b", "x\ny", "é", "x" * 70]))


@pytest.fixture
def make(tmp_path: Path):
    """Write a workspace's two tables and read them."""

    def write(truth: bytes | str, predictions: bytes | str | None = None, suffix: str = ".csv") -> Workspace:
        (tmp_path / "input").mkdir(exist_ok=True)
        (tmp_path / "output").mkdir(exist_ok=True)
        for name, data in (("input/gt", truth), ("output/pred", truth if predictions is None else predictions)):
            (tmp_path / (name + suffix)).write_bytes(data.encode() if isinstance(data, str) else data)
        return Workspace(tmp_path)

    return write


def columns_of(path: Path, data: bytes) -> dict[str, list[str]]:
    path.write_bytes(data)
    return read_columns(path)[0]


def refused(path: Path, data: bytes) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        columns_of(path, data)
    assert caught.value.code is ErrorCode.BAD_FORMAT
    return caught.value


@FAST
@given(
    rows=st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    block=st.sampled_from([16, 64, 1 << 18]),
    bom=st.booleans(),
    last_end=st.booleans(),
)
def test_reads_what_the_csv_module_wrote(tmp_path, rows, quoting, end, block, bom, last_end):
    if any(c in "".join(row) for row in rows for c in "\r\n"):
        quoting = csv.QUOTE_ALL  # the csv module leaves a line break of another kind unquoted
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerow(["id", "label", "more"])
    writer.writerows(rows)
    text = out.getvalue()
    data = text.encode() if last_end else text.removesuffix(end).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "BLOCK_BYTES", block)  # so that fields and quotes cross the blocks' borders
        read = columns_of(tmp_path / "t.csv", b"\xef\xbb\xbf" * bom + data)
    assert list(read) == ["id", "label", "more"]
    assert list(zip(*read.values(), strict=True)) == rows


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"id,label\na,1\nb\n", 3, "too few"),
        (b"id,label\na,1\nb,2,3\nc,4\n", 3, "too many"),
        (b"id,label\n\n\na,1\n\nb\n", 6, "too few"),
        (b"id,label\r\na,1\r\nb\r\n", 3, "too few"),
        (b"id,label\ra,1\rb\r", 3, "too few"),
        (b'id,label\na,"1\nb,2\nc,3\n', 2, "never closed"),
        (b'id,label\n"x\ny",1\nb,"2', 4, "never closed"),
        (b'id,label\n"x\ny",1\nb\n', 4, "too few"),
        (b'id,label\na,1\nb,5" pipe\nc,6" pipe\n', 3, "quote"),
        (b'id,label\na,1\nb,"x"y\n', 3, "quote"),
        (b"id,label\na,1\nb,\xe9\n", 3, "UTF-8"),
        (b"id,label\na,1\nb,\xed\xa0\x80\n", 3, "UTF-8"),
        (b"id,label\na,1\nb,x\0y\n", 3, "NUL"),
        (b"id,label,id\na,1,2\n", 1, "more than once"),
    ],
)
@pytest.mark.parametrize("block", [24, 1 << 18])
def test_a_broken_file_is_refused_with_its_line(tmp_path, monkeypatch, data, line, words, block):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", block)
    error = refused(tmp_path / "t.csv", data)
    assert error.details["line"] == line
    assert words in error.message
    assert f"t.csv, line {line}" in error.message


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\n", "id,label\na,1\n".encode("utf-16")])
def test_a_file_without_a_header_is_refused(tmp_path, data):
    refused(tmp_path / "t.csv", data)


def test_a_row_beyond_the_cap_is_refused_without_reading_it_all(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_RECORD_BYTES", 1 << 16)
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1 << 10)
    assert "longer than" in refused(tmp_path / "t.csv", b"id,label\n" + b"x" * 200_000).message
    assert "never closed" in refused(tmp_path / "t.csv", b'id,label\na,1\n"' + b"x,\n" * 70_000).message


def test_ids_and_labels_are_text(make):
    table = load_aligned(make("id,label\n001,NA\n1,null\n01,nan\n1.0,\n 1,1\n"), Columns(), "text")
    assert dict(zip(table.ids, table.truth, strict=True)) == {
        "001": "NA", "1": "null", "01": "nan", "1.0": "", " 1": "1",
    }  # fmt: skip
    assert table.labels == ["", "1", "NA", "nan", "null"]


@pytest.mark.parametrize("data", ["id,label\na,1\n,2\n", 'id,label\na,1\n"",2\n'])
def test_an_empty_id_is_refused_with_its_line(make, data):
    with pytest.raises(AutoScorerError, match="line 3: the id is empty") as caught:
        load_aligned(make(data), Columns(), "text")
    assert caught.value.code is ErrorCode.BAD_FORMAT


def test_a_missing_column_names_what_is_there(make):
    with pytest.raises(AutoScorerError, match=r"expected a column 'label'.*'lable'.*did you mean 'lable'") as caught:
        load_aligned(make("id,lable\na,1\n"), Columns(), "text")
    assert caught.value.code is ErrorCode.BAD_FORMAT
    assert caught.value.details["columns"] == ["id", "lable"]


def test_a_link_in_place_of_the_predictions_is_refused(make, tmp_path):
    space = make("id,label\na,1\n")
    os.unlink(tmp_path / "output/pred.csv")
    os.symlink(tmp_path / "input/gt.csv", tmp_path / "output/pred.csv")
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(space, Columns(), "text")
    assert caught.value.code is ErrorCode.OUTPUT_REJECTED


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_numbers_are_the_text_they_were_written_with(make, suffix):
    rows = ['{"id": 1, "label": 1.0}', '{"label": "é\\n", "id": "1.0", "x": {"y": 1}}', '{"id": 1e2, "label": true}']
    text = "[" + ",\n".join(rows) + "]" if suffix == ".json" else "\ufeff" + "\n\n".join(rows)
    table = load_aligned(make(text, suffix=suffix), Columns(), "text")
    assert dict(zip(table.ids, table.truth, strict=True)) == {"1": "1.0", "1.0": "é\n", "1e2": "true"}


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        (['{"id": "a", "label": null}'], 1),
        (['{"id": "a", "label": 1}', '{"id": "b", "label": [1]}'], 2),
        (['{"id": "a", "label": 1}', '{"id": "b"}'], 2),
        (['{"id": "a", "label": 1}', '{"id": "b", "label": "x\\u0000"}'], 2),
        (['{"id": "a", "label": 1}', "3"], 2),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_broken_json_records_are_refused_by_number(make, rows, where, whole):
    suffix, text, unit = (".json", f"[{','.join(rows)}]", "record") if whole else (".jsonl", "\n".join(rows), "line")
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(make(text, suffix=suffix), Columns(), "text")
    assert caught.value.code is ErrorCode.BAD_FORMAT
    assert caught.value.details[unit] == where


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\0", b"\\u0000", b"\\ud83d", b"\xc3"])
@pytest.mark.parametrize("more", [b'"%s": 1', b'"x": "%s"', b'"x": [{"y": ["%s"]}]'])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_text_that_no_file_may_hold_is_refused_where_nobody_reads_it_too(make, text, more, suffix):
    record = b'{"id": "a", "label": 1, %s}' % (more % text)
    whole = b"[%s]" % record if suffix == ".json" else record
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(make(whole, suffix=suffix), Columns(), "text")
    assert caught.value.code is ErrorCode.BAD_FORMAT
    assert str(whole.index(text)) in caught.value.message


def test_lists_nested_too_deeply_are_refused(make):
    for text in ("[" * 200_000, "[" * 9_000 + "]" * 9_000, '[{"id": 1, "label": 1, "x": ' + "[" * 9_000):
        with pytest.raises(AutoScorerError) as caught:
            load_aligned(make(text, suffix=".json"), Columns(), "text")
        assert caught.value.code is ErrorCode.BAD_FORMAT


def test_predictions_of_far_more_rows_are_not_read_to_their_end(make):
    truth = "id,label\n" + "".join(f"{i},1\n" for i in range(100))
    more = "".join(f"{i},1\n" for i in range(100, 400_000))
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(make(truth, truth + "0,1\n" + more + 'never,"closed'), Columns(), "text")
    details = caught.value.details
    assert caught.value.code is ErrorCode.MISMATCH
    assert details["read_to_end"] is False and details["ground_truth_rows"] == 100 and "missing" not in details
    assert 10_000 < details["prediction_rows"] < 200_000
    assert details["extra"]["count"] == details["prediction_rows"] - 101
    assert details["duplicates_in_predictions"] == {"count": 1, "first": ["0"]}
    assert "has more rows than gt.csv" in caught.value.message


def test_a_few_rows_too_many_are_counted_to_the_last(make):
    truth = "id,label\n" + "".join(f"{i},1\n" for i in range(100))
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(make(truth, truth + "".join(f"x{i},1\n" for i in range(9000))), Columns(), "text")
    assert caught.value.details["extra"]["count"] == 9000 and caught.value.details["missing"]["count"] == 0


ODD_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", '"', "\\", "},{", "],[", "é", "\U0001f600", "x" * 90]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "},{", '"', "id"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=examples(300), deadline=None)
@given(
    value=st.lists(ODD_JSON, max_size=8),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    change=st.none() | st.tuples(st.floats(0, 1), st.sampled_from(list(b'[]{},:"\\ 1')), st.booleans()),
)
def test_a_list_read_in_batches_is_the_list_or_refused_as_a_whole(value, ascii_only, indent, change):
    text = bytearray(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode())
    if change is not None:
        at = int(change[0] * len(text))
        text[at : at + change[2]] = bytes([change[1]])
    raw = bytes(text)
    try:
        expected = msgspec.json.decode(raw, type=list)
    except (msgspec.DecodeError, UnicodeError):
        expected = None
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_batches, "_BATCH_BYTES", 64)
        patch.setattr(json_batches, "_STRIDE", 16)
        batches = json_batches.list_batches(raw, json_batches.skip_space(raw, 0), object)
        try:
            while True:
                try:
                    batch = next(batches)
                except StopIteration as stop:
                    assert (json_batches.skip_space(raw, stop.value) == len(raw)) == (expected is not None)
                    break
                assert batch.first == len(found)
                found += batch.records
        except (json_batches.Problem, json_batches.RecordProblem):
            assert expected is None
    if expected is not None:
        assert found == expected


@pytest.mark.parametrize("text", ["", "{}", "[", "[]", '{"id": 1, "label": 2}', "\xff"])
def test_json_that_is_no_list_of_objects_is_refused(make, text):
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(make(text.encode("latin-1"), suffix=".json"), Columns(), "text")
    assert caught.value.code is ErrorCode.BAD_FORMAT


def test_every_format_gives_the_same_table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [("b", 2.5), ("001", -0.1), ("a" * 100, 1e-300), ("é", 3.0)]
    contents = {
        ".csv": ("id,label\n" + "".join(f"{i},{v!r}\n" for i, v in rows)).encode(),
        ".json": json.dumps([{"id": i, "label": v} for i, v in rows]).encode(),
        ".jsonl": "\n".join(json.dumps({"id": i, "label": v}) for i, v in rows).encode(),
    }
    pq.write_table(pa.table({"id": [i for i, _ in rows], "label": [v for _, v in rows]}), tmp_path / "t.parquet")
    contents[".parquet"] = (tmp_path / "t.parquet").read_bytes()
    seen = []
    for suffix, data in contents.items():
        root = tmp_path / suffix[1:]
        (root / "input").mkdir(parents=True)
        (root / "output").mkdir()
        (root / "input" / f"gt{suffix}").write_bytes(data)
        (root / "output" / f"pred{suffix}").write_bytes(data)
        table = load_aligned(Workspace(root), Columns(), "number")
        seen.append((table.ids, table.truth_numbers.tolist(), table.prediction_numbers.tolist()))
    assert all(one == seen[0] for one in seen)
    assert dict(zip(*seen[0][:2], strict=True)) == dict(rows)


def test_parquet_nulls_and_other_files_are_refused(make):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b"], "label": ["x", None]}), sink)
    with pytest.raises(AutoScorerError, match="row 2"):
        load_aligned(make(sink.getvalue().to_pybytes(), suffix=".parquet"), Columns(), "text")
    with pytest.raises(AutoScorerError) as caught:
        load_aligned(make(b"PAR1 but no", suffix=".parquet"), Columns(), "text")
    assert caught.value.code is ErrorCode.BAD_FORMAT


def test_the_digest_is_that_of_the_file(make, tmp_path):
    import hashlib

    data = b'id,label\n"a",1\r\nb,2'
    table = load_aligned(make(data), Columns(), "text")
    assert table.ground_truth_sha256 == table.predictions_sha256 == hashlib.sha256(data).hexdigest()


def test_the_frame_has_the_further_columns_as_text(make):
    space = make("id,label,note,w\nb,1,x,01\na,2,y,02\n", "note,prediction,id,note2\np,1,a,u\nq,1,b,v\n")
    frame = load_aligned(space, Columns(), "text").frame()
    assert frame.to_dict("list") == {
        "id": ["a", "b"],
        "truth": ["2", "1"],
        "prediction": ["1", "1"],
        "note_ground_truth": ["y", "x"],
        "w": ["02", "01"],
        "note_predictions": ["p", "q"],
        "note2": ["u", "v"],
    }


@pytest.mark.parametrize("collide", [False, True])
@pytest.mark.parametrize("classes", [3, 400, 70_000])
def test_labels_keep_their_text_however_many_there_are(make, monkeypatch, classes, collide):
    if collide:
        monkeypatch.setattr(packing, "mix", lambda words: np.zeros(len(words[0]), np.uint64))
    rng = np.random.default_rng(0)
    names = [f"label {i}" + "é" * (i % 3) + "x" * (i % 7 == 0) * 70 for i in range(classes)]
    truth = rng.permutation(max(classes, 2000)) % classes
    text = "id,label\n" + "".join(f"{i},{names[c]}\n" for i, c in enumerate(truth.tolist()))
    table = load_aligned(make(text), Columns(), "text")
    assert table.labels == sorted(names)
    assert dict(zip(table.ids, table.truth, strict=True)) == {str(i): names[c] for i, c in enumerate(truth.tolist())}
    assert np.array_equal(table.truth_codes, table.prediction_codes)
