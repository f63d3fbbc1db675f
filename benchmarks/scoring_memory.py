"""How much memory scoring takes for files that were made to take much, and for ordinary ones.

Each case is scored in a process of its own, artifacts and report included. Its peak memory (``VmHWM``) may be four
times the bytes of both files and 200 MiB; where it is more, the line says BROKEN and the exit code is 1.

    python benchmarks/scoring_memory.py                 # files of 30 MiB
    python benchmarks/scoring_memory.py --mib 100 --only csv
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

# The parent imports neither numpy nor autoscorer, and writes its files a little at a time.

MIB = 1 << 20
FACTOR, ALLOWANCE = 4, 200 * MIB
TIMEOUT = 120  # seconds

SCORE = """
import json, re, resource, sys
from pathlib import Path
from autoscorer.core.errors import AutoScorerError
from autoscorer.scorers.registry import get_registry
from autoscorer.scorers.report.report import write_report
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a case that breaks the limit must not break the machine
scorer = get_registry().get(sys.argv[1]).create()
before = peak()
try:
    result = scorer.score(Path.cwd(), {})
    write_report(result, Path.cwd())
    outcome = "scored"
except AutoScorerError as error:
    outcome = f"{error.code.value}: {error.message}"
print(json.dumps({"before": before, "peak": peak(), "outcome": outcome[:1000]}))
"""

# Runs in a process of its own as well: pyarrow is large.
PARQUET = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
kind, path, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "repeated":  # a few bytes that unfold to any number of rows
    schema = pa.schema([("id", pa.string()), ("label", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for at in range(0, rows, 1 << 20):
            n = min(1 << 20, rows - at)
            writer.write_table(pa.table({"id": pa.repeat("x", n), "label": pa.repeat("y", n)}, schema))
elif kind == "giant":  # a text of 1 MiB in every row, stored once
    pq.write_table(
        pa.table({"id": pa.array(map(str, range(rows))),
                  "label": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * (1 << 20)])}),
        path, compression="zstd")
elif kind == "page":  # one page that unfolds to 1 GiB
    pq.write_table(
        pa.table({"id": pa.array(["x" * (1 << 20)] * rows), "label": pa.array(["y"] * rows)}),
        path, compression="zstd", use_dictionary=False, data_page_size=1 << 31)
else:
    pq.write_table(pa.table({"id": [f"sample-{i:08d}" for i in range(rows)],
                             "label": [f"class_{i % 10}" for i in range(rows)]}), path)
"""

Text = Iterable[str]


class Case(NamedTuple):
    """What is scored: the two files as (suffix, text), or ``parquet`` and (kind, rows)."""

    scorer: str
    truth: tuple[str, Text | tuple[str, int]]
    predictions: tuple[str, Text | tuple[str, int]]


def up_to(size: int, texts: Iterable[str], before: str = "", after: str = "") -> Iterator[str]:
    """Texts one after the other until they are ``size`` bytes."""
    yield before
    for text in texts:
        size -= len(text)
        if size < 0:
            break
        yield text
    yield after


def repeated(size: int, text: str, before: str = "", after: str = "") -> Iterator[str]:
    """One text again and again until it is ``size`` bytes, as fast as the disk takes it."""
    yield before
    many = max(1, MIB // len(text))
    for _ in range(size // (len(text) * many) + 1):
        yield text * many
    yield after


DIGITS = "".join(chr(c) for c in range(33, 127) if chr(c) not in '",\\')


def short(number: int) -> str:
    """A number in as few characters as there can be."""
    text = ""
    while True:
        number, digit = divmod(number, len(DIGITS))
        text += DIGITS[digit]
        if not number:
            return text


def cases(size: int) -> dict[str, Callable[[], Case]]:
    """Every case by its name."""
    some = ["id,label\n", *(f"sample-{i:07d},class_{i % 10}\n" for i in range(1000))]
    numbers = range(1 << 40)

    def table(texts: Callable[[], Text], suffix: str = "csv", scorer: str = "classification_f1") -> Callable[[], Case]:
        return lambda: Case(scorer, ("csv", some), (suffix, texts()))

    def both(
        truth: Callable[[], Text],
        predictions: Callable[[], Text] | None = None,
        scorer: str = "classification_f1",
        suffix: str = "csv",
    ) -> Callable[[], Case]:
        return lambda: Case(scorer, (suffix, truth()), (suffix, (predictions or truth)()))

    def csv(row: Callable[[int], str]) -> Callable[[], Text]:
        return lambda: up_to(size, map(row, numbers), "id,label\n")

    def fill(text: str, before: str = "", after: str = "", part: int = 1) -> Callable[[], Text]:
        return lambda: repeated(size // part, text, before, after)

    box = '{"image_id":1,"category_id":1,"bbox":[1,1,9,9]'
    boxes = ["[", ",".join(box.replace(":1,", f":{i},", 1) + "}" for i in range(1000)), "]"]

    def found(texts: Callable[[], Text], suffix: str = "json") -> Callable[[], Case]:
        return lambda: Case("detection_map", ("json", boxes), (suffix, texts()))

    def truth_of_boxes(texts: Callable[[], Text]) -> Callable[[], Case]:
        return lambda: Case("detection_map", ("json", texts()), ("json", ["[]"]))

    def hits(i: int) -> str:
        return f'{"," if i else ""}{{"image_id":{i % 1000},"category_id":1,"bbox":[1,1,9,9],"score":0.{i % 997}}}'

    few_names = "".join(f",{i}" for i in range(900))
    return {
        # Ordinary files.
        "csv: ordinary": both(csv(lambda i: f"sample-{i:07d},class_{i % 10}\n")),
        "csv: ordinary numbers": both(csv(lambda i: f"sample-{i:07d},{i % 997 / 7}\n"), scorer="regression_rmse"),
        "csv: UUIDs": both(csv(lambda i: f"{i * 0x9E3779B97F4A7C15 % 2**128:032x},{i % 1000}\n")),
        "json: ordinary": both(
            lambda: up_to(
                size,
                (f'{"," if i else ""}\n{{"id":"sample-{i:07d}","label":"class_{i % 10}"}}' for i in numbers),
                "[",
                "]",
            ),
            suffix="json",
        ),
        "jsonl: ordinary": both(
            lambda: up_to(size, (f'{{"id":{i},"label":{i % 10}}}\n' for i in numbers)), suffix="jsonl"
        ),
        "coco: ordinary": found(lambda: up_to(size, map(hits, numbers), "[", "]")),
        "coco: ordinary ground truth": truth_of_boxes(
            lambda: up_to(
                size,
                (
                    f'{"," if i else ""}{{"id":{i},"image_id":{i % 5000},"category_id":{i % 80},'
                    f'"bbox":[{i % 600}.5,1,9,9],'
                    f'"area":81,"iscrowd":0,"segmentation":[[1.5,2.5,3.5,4.5,5.5,6.5]]}}'
                    for i in numbers
                ),
                '{"images":['
                + ",".join(f'{{"id":{i}}}' for i in range(5000))
                + '],"categories":['
                + ",".join(f'{{"id":{i},"name":"c{i}"}}' for i in range(80))
                + '],"annotations":[',
                "]}",
            )
        ),
        # Predictions that want to take memory, beside a small ground truth.
        "json: [1,1,1,…": table(fill("1,", "[", "1]"), "json"),
        "json: [[[[…": table(fill("["), "json"),
        "json: [{},{},…": table(fill("{},", "[", "{}]"), "json"),
        "json: one object of many keys": table(
            lambda: up_to(size, (f'"{short(i)}":1,' for i in numbers), '[{"id":"a","label":"b",', '"z":1}]'), "json"
        ),
        "json: an object of many keys, not in a list": table(
            lambda: up_to(size, (f'"{short(i)}":1,' for i in numbers), "{", '"z":1}'), "json"
        ),
        "json: many keys, 12 MiB a record": table(
            lambda: itertools.chain(
                up_to(12 * MIB, (f'"{short(i)}":1,' for i in numbers), '[{"id":"a","label":"b",', '"z":1},\n'),
                up_to(size, (f'"{short(i)}":1,' for i in numbers), '{"id":"a","label":"b",', '"z":1}]'),
            ),
            "json",
        ),
        "json: one text": table(fill("x", '[{"id":"a","label":"', '"}]'), "json"),
        "json: one text of escapes": table(fill("\\ud83d\\ude00", '[{"id":"a","label":"', '"}]'), "json"),
        "json: empty texts, unread": table(fill('"",', '[{"id":"a","label":"b","x":[', '""]}]'), "json"),
        "json: short records, one id": table(fill('{"id":1,"label":1},', "[", '{"id":1,"label":1}]'), "json"),
        "jsonl: short records, one id": table(fill('{"id":1,"label":1}\n'), "jsonl"),
        "jsonl: empty lines": table(fill("\n", '{"id":1,"label":1}\n'), "jsonl"),
        "jsonl: one line of [[[…": table(fill("[", '{"id":1,"label":1}\n'), "jsonl"),
        "jsonl: one line that never ends": table(fill("x", '{"id":1,"label":"'), "jsonl"),
        "csv: rows of two bytes": table(fill("1,\n", "id,label\n")),
        "csv: unique labels": table(csv(lambda i: f"{short(i)},{short(i)}\n")),
        "csv: empty lines": table(fill("\n", "id,label\n1,1\n")),
        "csv: commas": table(fill(",", "id,label\n1,1\n")),
        "csv: a header of commas": table(fill(",")),
        "csv: a header of names": table(lambda: up_to(size, (f"{short(i)}," for i in numbers))),
        "csv: rows of 12 MiB of commas in quotes": table(
            lambda: itertools.chain(
                repeated(12 * MIB, ",", 'id,label,x\n0,1,"', '"\n'), repeated(12 * MIB, ",", '2,2,"', '"\n')
            )
        ),
        "csv: a row that never ends": table(fill("x", "id,label\n")),
        "csv: quoted line breaks": table(fill("\n", 'id,label\na,"', '"\n')),
        "csv: quotes alone": table(fill('""', 'id,label\na,"', '"\n')),
        "csv: quoted rows": table(fill('"1",""\r\n', "id,label\n")),
        "csv: bare CR": table(fill("1,\r", "id,label\r")),
        "csv: a wide table": table(
            lambda: itertools.chain([f"id,label{few_names}\n"], repeated(size, "1,2" + "," * 900 + "\n"))
        ),
        # Both files large.
        "csv: unique labels in both": both(csv(lambda i: f"{short(i)},\n"), csv(lambda i: f"{short(i)},{short(i)}\n")),
        "csv: unique labels in both, no two alike": both(
            csv(lambda i: f"{short(i)},{short(i)}\n"), csv(lambda i: f"{short(i)},!{short(i)}\n")
        ),
        "csv: half a million labels": both(
            csv(lambda i: f"{short(i)},{short(i % 249_000)}\n"),
            csv(lambda i: f"{short(i)},!{short(i * 7 % 249_000)}\n"),
        ),
        "csv: labels of 400 letters and an emoji": both(
            csv(lambda i: f"{short(i)},{short(i):x<400}\U0001f600\n"),
            csv(lambda i: f"{short(i)},{short(i):y<400}\U0001f600\n"),
        ),
        "csv: labels of 70 letters": both(
            csv(lambda i: f"{short(i)},{short(i):x<70}\n"), csv(lambda i: f"{short(i)},{short(i):y<70}\n")
        ),
        "csv: one long label in a thousand": both(
            csv(lambda i: f"{short(i)},{short(i) if i % 1000 else 'x' * 64}\n"),
        ),
        "csv: ids of 70 letters": both(csv(lambda i: f"{short(i):x<70},1\n")),
        "csv: ids of 70 letters, none in the other": both(
            csv(lambda i: f"{short(i):x<70},1\n"), csv(lambda i: f"{short(i):y<70},1\n")
        ),
        "csv: one long id in a thousand": both(csv(lambda i: f"{short(i) if i % 1000 else f'{i:064d}'},1\n")),
        "csv: one long id in a thousand, repeated": both(
            csv(lambda i: f"{short(i) if i % 1000 else f'{i:064d}'},1\n"),
            csv(lambda i: f"{1 if i % 1000 else f'{i:064d}'},\n"),
        ),
        "csv: short unique ids": both(csv(lambda i: f"{short(i)},\n")),
        "csv: short unique ids, none in the other": both(
            csv(lambda i: f"{short(i)},\n"), csv(lambda i: f"é{short(i)},\n")
        ),
        "csv: one id in both": both(fill("1,\n", "id,label\n")),
        "csv: one id in the ground truth": both(fill("1,\n", "id,label\n"), lambda: some),
        "csv: short numbers": both(csv(lambda i: f"{short(i)},{i % 10}\n"), scorer="regression_rmse"),
        "csv: giant errors": both(
            csv(lambda i: f"{i},{'x' * 30_000}\U0001f600{i % 2}\n"),
            csv(lambda i: f"{i},{'y' * 30_000}\U0001f600{i % 2}\n"),
        ),
        "json: small predictions, large ground truth": both(
            lambda: up_to(size, (f'{"," if i else ""}{{"id":{i},"label":1}}' for i in numbers), "[", "]"),
            lambda: ["[]"],
            suffix="json",
        ),
        # Boxes.
        "coco: [1,1,1,…": found(fill("1,", "[", "1]")),
        "coco: [[[[…": found(fill("[")),
        "coco: tiny detections": found(fill(box + ',"score":1},', "[", box + ',"score":1}]')),
        "coco: tiny detections, lines": found(fill(box + ',"score":1}\n'), "jsonl"),
        "coco: an image each": found(
            lambda: up_to(
                size,
                (f'{"," if i else ""}{{"image_id":{i},"category_id":1,"bbox":[1,1,9,9],"score":1}}' for i in numbers),
                "[",
                "]",
            )
        ),
        "coco: a category each": found(
            lambda: up_to(
                size,
                (f'{"," if i else ""}{{"image_id":1,"category_id":{i},"bbox":[1,1,9,9],"score":1}}' for i in numbers),
                "[",
                "]",
            )
        ),
        "coco: a segmentation of [1,1,1…": found(fill("1,", f'[{box},"score":1,"note":"\\n","segmentation":[', "1]}]")),
        "coco: an unknown key of many keys": found(
            lambda: up_to(
                size, (f'"{short(i)}":1,' for i in numbers), f'[{box},"score":1,"note":"\\n","x":{{', '"z":1}}]'
            )
        ),
        "coco: many unknown keys": found(
            lambda: up_to(size, (f'"{short(i)}":1,' for i in numbers), f'[{box},"score":1,"note":"\\n",', '"z":1}]')
        ),
        "coco: unknown keys in every record": found(
            fill(box + ',"score":1,"note":"score \\n"},', "[", box + ',"score":1}]')
        ),
        "coco: a large info": truth_of_boxes(
            fill('"",', '{"images":[],"annotations":[],"categories":[],"info":[', '""]}')
        ),
        "coco: tiny annotations": truth_of_boxes(fill(box + "},", "[", box + "}]")),
        "coco: tiny annotations with ids": truth_of_boxes(
            lambda: up_to(size, (f'{"," if i else ""}{box},"id":{i}}}' for i in numbers), "[", "]")
        ),
        "coco: tiny images": truth_of_boxes(
            lambda: up_to(
                size,
                (f'{"," if i else ""}{{"id":{i}}}' for i in numbers),
                '{"annotations":[],"categories":[],"images":[',
                "]}",
            )
        ),
        # Parquet.
        "parquet: ordinary": lambda: Case(
            "classification_f1", ("parquet", ("ordinary", size // 20)), ("parquet", ("ordinary", size // 20))
        ),
        "parquet: 100 million rows": lambda: Case(
            "classification_f1", ("csv", some), ("parquet", ("repeated", 100_000_000))
        ),
        "parquet: a giant text in every row": lambda: Case(
            "classification_f1", ("csv", some), ("parquet", ("giant", 1000))
        ),
        "parquet: a page of 1 GiB": lambda: Case("classification_f1", ("csv", some), ("parquet", ("page", 1000))),
    }


def write(place: Path, what: tuple[str, Text | tuple[str, int]]) -> int:
    """Write one file; returns its bytes."""
    suffix, content = what
    path = place.with_suffix(f".{suffix}")
    if isinstance(content, tuple):
        kind, rows = content
        subprocess.run([sys.executable, "-c", PARQUET, kind, str(path), str(rows)], check=True)
    else:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(content)
    return path.stat().st_size


def measure(name: str, case: Case) -> bool:
    """Score one case and print its line; whether it kept the limit."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "input").mkdir()
        (root / "output").mkdir()
        size = write(root / "input/gt", case.truth) + write(root / "output/pred", case.predictions)
        (root / "meta.json").write_text("{}")
        try:
            done = subprocess.run(
                [sys.executable, "-c", SCORE, case.scorer], cwd=root, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                capture_output=True, text=True, timeout=TIMEOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{name:45s}  FAILED: not done after {TIMEOUT} s", flush=True)
            return False
    if done.returncode:
        print(f"{name:45s}  FAILED: exit code {done.returncode} {done.stderr[-300:]}", flush=True)
        return False
    seen = json.loads(done.stdout.splitlines()[-1])
    limit = FACTOR * size + ALLOWANCE
    kept = seen["peak"] <= limit
    print(
        f"{name:45s}  {size / MIB:6.1f} MiB  peak {seen['peak'] / MIB:7.0f} MiB"
        f" ({(seen['peak'] - seen['before']) / size:6.2f} x the files over {seen['before'] / MIB:3.0f} MiB at rest)"
        f"  limit {limit / MIB:5.0f}  {'ok    ' if kept else 'BROKEN'}  {seen['outcome'][:90]!r}",
        flush=True,
    )
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=30, help="size of each large file")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    chosen = parser.parse_args()
    broken = [
        name for name, case in cases(chosen.mib * MIB).items() if chosen.only in name and not measure(name, case())
    ]
    if broken:
        sys.exit(f"{len(broken)} cases break the limit: {', '.join(broken)}")


if __name__ == "__main__":
    main()
