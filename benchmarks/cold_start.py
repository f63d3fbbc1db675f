"""What a command costs as a whole process, against ``python -c "import numpy, pandas"`` in the same run.

    python benchmarks/cold_start.py [--runs N]

``autoscorer score`` on 1,000 rows, of a workspace and of two files: at most 1.5 x. ``autoscorer --help``: at most
0.3 x. The commands take turns, so a drifting machine drifts under all of them; printed are median wall and CPU seconds
and the median of the paired ratios.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    args = parser.parse_args()
    autoscorer = str(Path(sys.executable).with_name("autoscorer"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace = _workspace(root / "ws")
        environment = {**os.environ, "AUTOSCORER_HOME": str(root / "home")}
        commands = {
            "import numpy, pandas": [sys.executable, "-c", "import numpy, pandas"],
            "autoscorer score": [autoscorer, "score", str(workspace)],
            "score --truth …": [autoscorer, "score", *_two_files(workspace)],
            "autoscorer --help": [autoscorer, "--help"],
        }
        limits = {"autoscorer score": 1.5, "score --truth …": 1.5, "autoscorer --help": 0.3}
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(args.runs + 1):
            for name, command in commands.items():
                spent = _spent(command, environment)
                if turn:  # the first warms caches
                    seen[name].append(spent)
    base = seen["import numpy, pandas"]
    good = True
    for name, spent in seen.items():
        wall, cpu = (statistics.median(item[kind] for item in spent) for kind in (0, 1))
        ratios = [statistics.median(a[k] / b[k] for a, b in zip(spent, base, strict=True)) for k in (0, 1)]
        line = f"{name:<22} {wall:.3f} s wall, {cpu:.3f} s CPU   {ratios[0]:.2f} x wall, {ratios[1]:.2f} x CPU"
        if name in limits:
            ok = ratios[0] <= limits[name]
            good &= ok
            line += f"   limit {limits[name]} x  {'ok' if ok else 'TOO SLOW'}"
        print(line)
    return 0 if good else 1


def _workspace(root: Path) -> Path:
    (root / "input").mkdir(parents=True)
    (root / "output").mkdir()
    truth = [(f"sample-{number:05}", number % 7) for number in range(ROWS)]
    (root / "input" / "gt.csv").write_text("id,label\n" + "".join(f"{id_},c{label}\n" for id_, label in truth))
    guess = [(id_, label if number % 9 else (label + 1) % 7) for number, (id_, label) in enumerate(truth)]
    (root / "output" / "pred.csv").write_text("id,label\n" + "".join(f"{id_},c{label}\n" for id_, label in guess))
    (root / "meta.json").write_text('{"scorer": "classification_f1", "task_type": "classification"}')
    return root


def _two_files(workspace: Path) -> list[str]:
    files = ["--truth", str(workspace / "input" / "gt.csv"), "--predictions", str(workspace / "output" / "pred.csv")]
    return [*files, "--scorer", "classification_f1"]


def _spent(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True)
    wall = time.perf_counter() - started
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
