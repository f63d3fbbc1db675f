"""Files that were made to take memory: scoring takes at most four times their bytes and 200 MiB.

Each case is scored in a process of its own, whose peak memory the kernel keeps. benchmarks/scoring_memory.py has more
of them, larger.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MIB = 1 << 20
SCORE = """
import json, re, resource, sys
from pathlib import Path
from autoscorer.core.errors import AutoScorerError
from autoscorer.scorers.registry import get_registry
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
scorer = get_registry().get(sys.argv[1]).create()
try:
    scorer.score(Path.cwd(), {})
    code = message = ""
except AutoScorerError as error:
    code, message = error.code.value, error.message
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps([code, message[:2000], peak]))
"""
TRUTH = "id,label\n" + "".join(f"s{i},c{i % 10}\n" for i in range(1000))
BOX = '{"image_id":1,"category_id":1,"bbox":[1,1,9,9]'
TRUTH_BOXES = f"[{BOX}}}]"


def short(numbers: Iterator[int] | range, row: str) -> str:
    return "".join(row.format(f"{i:x}") for i in numbers)


# name: scorer, suffix and text of the predictions, and what is said of them
PREDICTIONS = {
    "a list of numbers": ("classification_f1", "json", lambda: "[" + "1," * (12 * MIB) + "1]", "record 1"),
    "lists within lists": ("classification_f1", "json", lambda: "[" * (20 * MIB), "larger than"),
    "a record of many keys": (
        "classification_f1", "json",
        lambda: '[{"id":1,"label":1},{"id":2,"label":2,' + short(range(900_000), '"{0}":1,') + '"z":1}]', "missing",
    ),
    "a first record of many keys": (
        "classification_f1", "json", lambda: '[{"id":1,' + short(range(900_000), '"{0}":1,') + '"label":1}]', "keys",
    ),
    "more records than the ground truth": (
        "classification_f1", "json", lambda: "[" + '{"id":1,"label":1},' * MIB + '{"id":1,"label":1}]', "more rows",
    ),
    "a line that never ends": ("classification_f1", "jsonl", lambda: '{"id":"' + "x" * (24 * MIB), "longer than"),
    "rows of two bytes": ("classification_f1", "csv", lambda: "id,label\n" + "1,\n" * (8 * MIB), "more rows"),
    "unique labels": (
        "classification_f1", "csv", lambda: "id,label\n" + short(range(2 * MIB), "{0},{0}\n"), "more rows",
    ),
    "a header of commas": ("classification_f1", "csv", lambda: "," * (20 * MIB), "fields"),
    "a row of commas": ("classification_f1", "csv", lambda: "id,label\n" + "," * (20 * MIB), "fields"),
    "a row that never ends": ("classification_f1", "csv", lambda: "id,label\n" + "x" * (20 * MIB), "longer than"),
    "commas in quotes": (
        "classification_f1", "csv", lambda: 'id,label,x\ns1,1,"' + "," * (12 * MIB) + '"\n', "missing from pred.csv",
    ),
    "quotes in quotes": (
        "classification_f1", "csv", lambda: 'id,label,x\ns1,1,"' + '""' * (6 * MIB) + '"\n', "missing from pred.csv",
    ),
    "a label of 12 MiB": ("classification_f1", "csv", lambda: "id,label\ns1," + "x" * (12 * MIB), "at most 65,536"),
    "numbers of a list as detections": ("detection_map", "json", lambda: "[" + "1," * (12 * MIB) + "1]", "record 0"),
    "a segmentation of numbers": (
        "detection_map", "json",
        lambda: f'[{BOX},"score":1,"note":"\\u0041","segmentation":[' + "1," * (7 * MIB) + "1]}]", "",
    ),
    "a detection of many keys": (
        "detection_map", "json",
        lambda: f'[{BOX},"score":1,"note":"\\u0041",' + short(range(900_000), '"{0}":1,') + '"z":1}]', "keys",
    ),
    "many detections": (
        "detection_map", "json", lambda: "[" + f'{BOX},"score":1}},' * 400_000 + f'{BOX},"score":1}}]', "",
    ),
}  # fmt: skip


def score(root: Path, scorer: str) -> tuple[str, str, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCORE, scorer], cwd=root, capture_output=True, text=True, check=True, timeout=300
    )
    code, message, peak = json.loads(done.stdout.splitlines()[-1])
    size = sum(path.stat().st_size for folder in ("input", "output") for path in (root / folder).glob("*.*"))
    return code, message, peak, 4 * size + 200 * MIB


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "input").mkdir()
    (tmp_path / "output").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_take_no_more_memory_than_they_may(root: Path, name: str) -> None:
    scorer, suffix, text, expected = PREDICTIONS[name]
    truth = ("gt.json", TRUTH_BOXES) if scorer == "detection_map" else ("gt.csv", TRUTH)
    (root / "input" / truth[0]).write_text(truth[1])
    (root / f"output/pred.{suffix}").write_text(text())
    code, message, peak, limit = score(root, scorer)
    assert code in (("BAD_FORMAT", "MISMATCH") if expected else ("",)), message
    assert expected in message
    assert peak <= limit, f"{peak / MIB:.0f} MiB of {limit / MIB:.0f}"


BOTH = {
    "labels of their own": ("{0},t{0}\n", "{0},p{0}\n", 240_000, ""),
    "too many labels": ("{0},t{0}\n", "{0},p{0}\n", 700_000, "BAD_FORMAT"),
    "a long id here and there": ("{0},1\n", "{0},1\n", 1_500_000, ""),
    "ids that never meet": ("t{0},1\n", "p{0},1\n", 1_500_000, "MISMATCH"),
    "one id again and again": ("{0},1\n", "1,1\n", 1_500_000, "MISMATCH"),
    "labels that are wide in memory": ("{0},{0:x<300}\U0001f600\n", "{0},{0:y<300}\U0001f600\n", 60_000, ""),
}


@pytest.mark.parametrize("name", BOTH)
def test_a_large_ground_truth_takes_no_more_memory_than_it_may(root: Path, name: str) -> None:
    truth, predictions, rows, code = BOTH[name]
    for path, row in (("input/gt.csv", truth), ("output/pred.csv", predictions)):
        ids = (f"{i:x}" if "long" not in name or i % 1000 else f"{i:064x}" for i in range(rows))
        (root / path).write_text("id,label\n" + "".join(map(row.format, ids)), encoding="utf-8")
    found, message, peak, limit = score(root, "classification_f1")
    assert found == code, message
    assert peak <= limit, f"{peak / MIB:.0f} MiB of {limit / MIB:.0f}"


PARQUET = {
    "rows that unfold": (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "t = pa.table({'id': pa.repeat('x', 1 << 20), 'label': pa.repeat('y', 1 << 20)})\n"
        "w = pq.ParquetWriter('output/pred.parquet', t.schema, compression='zstd')\n"
        "for _ in range(20): w.write_table(t)\n"
        "w.close()\n",
        "more rows",
    ),
    "a text of 1 MiB in every row": (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ['x' * (1 << 20)])\n"
        "pq.write_table(pa.table({'id': pa.array(map(str, range(1000))), 'label': texts}), 'output/pred.parquet')\n",
        "at most 65,536",
    ),
    "a text of 60 KiB in every row": (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "texts = pa.DictionaryArray.from_arrays(pa.array([0] * 9000, pa.int32()), ['x' * 60000])\n"
        "pq.write_table(pa.table({'id': pa.array(map(str, range(9000))), 'label': texts}), 'output/pred.parquet')\n",
        "missing from",
    ),
    "a page of 256 MiB": (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "t = pa.table({'id': pa.array(['x' * (1 << 20)] * 256), 'label': pa.array(['y'] * 256)})\n"
        "pq.write_table(t, 'output/pred.parquet', compression='zstd', use_dictionary=False, data_page_size=1 << 30)\n",
        "unfolds to",
    ),
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_that_unfolds_takes_no_more_memory_than_it_may(root: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    code, expected = PARQUET[name]
    (root / "input/gt.csv").write_text(TRUTH)
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
    found, message, peak, limit = score(root, "classification_f1")
    assert found in ("BAD_FORMAT", "MISMATCH") and expected in message, message
    assert peak <= limit, f"{peak / MIB:.0f} MiB of {limit / MIB:.0f}"
