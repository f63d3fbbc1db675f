"""What scoring two tables costs, beside what merely reading them costs.

Every figure is a ratio to a named peer measured in the same run, on the same files, each measurement in a process of
its own: CPU seconds (user and system) and peak memory, over what the process had used once its imports were
done. The median of a few rounds is shown; peers take turns, so that a busy machine slows all of them.

    python benchmarks/scoring.py                 # 1,000,000 rows
    python benchmarks/scoring.py --rows 10000000 --rounds 3 --skip obvious
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# The parent imports neither numpy nor autoscorer: a child's peak memory never starts below its parent's.

GENERATE = """
import sys, numpy as np
root, rows, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
if kind == "numbers":
    truth = rng.normal(50, 20, rows)
    predicted = truth + rng.normal(0, 3, rows)
    texts = [np.char.mod("%.6f", truth).tolist(), list(map(repr, predicted.tolist()))]
else:
    classes = int(kind)
    truth = rng.integers(0, classes, rows)
    predicted = np.where(rng.random(rows) < 0.8, truth, rng.integers(0, classes, rows))
    names = np.array([f"class_{i}" for i in range(classes)])
    texts = [names[truth].tolist(), names[predicted].tolist()]
for name, column in zip(("input/gt.csv", "output/pred.csv"), texts):
    order = rng.permutation(rows).tolist()
    with open(f"{root}/{name}", "w") as file:
        file.write("id,label\\n")
        file.writelines(f"sample-{i:07d},{column[i]}\\n" for i in order)
"""

MEASURE = """
import gc, json, resource
gc.collect()
before = resource.getrusage(resource.RUSAGE_SELF)
work()
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "memory": (after.ru_maxrss - before.ru_maxrss) * 1024,
}))
"""

PEERS = {
    "read": """
import pyarrow.csv
def work():
    return pyarrow.csv.read_csv("input/gt.csv"), pyarrow.csv.read_csv("output/pred.csv")
""",
    "ours": """
from pathlib import Path
from autoscorer.scorers.{module} import {scorer}
scorer = {scorer}()
def work():
    return scorer.score(Path.cwd(), {{"artifacts": False}})
""",
    "obvious": """
import pandas as pd
from sklearn import metrics
def work():
    both = pd.read_csv("input/gt.csv").merge(pd.read_csv("output/pred.csv"), on="id", validate="one_to_one")
    truth, predicted = both["label_x"], both["label_y"]
    for average in ("macro", "micro", "weighted"):
        metrics.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
    metrics.accuracy_score(truth, predicted)
    metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
    metrics.confusion_matrix(truth, predicted)
""",
    "obvious-numbers": """
import pandas as pd
from sklearn import metrics
def work():
    both = pd.read_csv("input/gt.csv").merge(pd.read_csv("output/pred.csv"), on="id", validate="one_to_one")
    truth, predicted = both["label_x"], both["label_y"]
    for name in ("root_mean_squared_error", "mean_squared_error", "mean_absolute_error", "r2_score", "max_error",
                 "mean_absolute_percentage_error", "median_absolute_error", "explained_variance_score"):
        getattr(metrics, name)(truth, predicted)
""",
}

# Counting (codes to confusion matrix) and the interval of macro F1, each many times over.
INTERVAL = """
import json, time
from pathlib import Path
from autoscorer.core.workspace import Workspace
from autoscorer.scorers.metrics.confusion import count_matrix, metrics_of
from autoscorer.scorers.metrics.intervals import classification_interval
from autoscorer.scorers.tables.aligned import Columns, load_aligned
table = load_aligned(Workspace(Path.cwd()), Columns(), "text")
def seconds(call, times):
    call()
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times
count = lambda: count_matrix(table.truth_codes, table.prediction_codes, table.labels)
matrix = count()
value = float(metrics_of(matrix.hits, matrix.truth, matrix.predicted)["f1_macro"])
closed = seconds(lambda: classification_interval(matrix, "f1_macro", value, 0.95), 200)
print(json.dumps({"ratio": closed / seconds(count, 10)}))
"""


def run(code: str, folder: Path, *arguments: str) -> str:
    """Run code in a fresh interpreter, one BLAS thread (idle ones spin, and would be counted)."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout


def compare(rows: int, kind: str, rounds: int, skip: list[str]) -> None:
    """Measure one kind of file and print its line."""
    regression = kind == "numbers"
    names = {"module": "regression", "scorer": "RegressionRMSE"} if regression else {
        "module": "classification", "scorer": "ClassificationF1",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "input").mkdir()
        (folder / "output").mkdir()
        run(GENERATE, folder, str(folder), str(rows), kind)
        files = [folder / "input/gt.csv", folder / "output/pred.csv"]
        size = sum(file.stat().st_size for file in files)
        for file in files:  # into the page cache; a little at a time, as children inherit the parent's peak memory
            with file.open("rb") as opened:
                while opened.read(1 << 16):
                    pass
        seen: dict[str, list[dict[str, float]]] = {"read": [], "ours": []}
        for _ in range(rounds):
            for peer in seen:
                seen[peer].append(json.loads(run(PEERS[peer].format(**names) + MEASURE, folder)))
        middle = {peer: statistics.median(one["cpu"] for one in found) for peer, found in seen.items()}
        memory = max(one["memory"] for one in seen["ours"])
        line = (
            f"{rows:>10,} rows, {kind + (' classes' if not regression else ''):13s}"
            f"  CPU {middle['ours'] / middle['read']:5.2f} x pyarrow.csv.read_csv of both files"
            f" ({middle['ours']:.3f} s / {middle['read']:.3f} s)"
            f"  memory {memory / size:4.2f} x the files' {size / 2**20:.0f} MiB"
        )
        if "obvious" not in skip:
            peer = "obvious-numbers" if regression else "obvious"
            obvious = json.loads(run(PEERS[peer] + MEASURE, folder))["cpu"]
            line += f"  {obvious / middle['ours']:.0f} x faster than pandas merge + scikit-learn"
        if kind == "10":
            ratio = json.loads(run(INTERVAL, folder))["ratio"]
            line += f"  interval {ratio:.3f} x counting"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["10", "1000", "numbers"], help="class counts, or 'numbers'")
    parser.add_argument("--skip", nargs="*", default=[], choices=["obvious"], help="peers that take minutes")
    chosen = parser.parse_args()
    for kind in chosen.kinds:
        compare(chosen.rows, kind, chosen.rounds, chosen.skip)


if __name__ == "__main__":
    main()
