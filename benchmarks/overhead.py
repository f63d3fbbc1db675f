"""What the whole pipeline costs over a bare ``docker run`` of the same image and command.

    python benchmarks/overhead.py [--runs N] [--image IMAGE]

Both are whole processes, in turn, and both mount input and output; printed are medians and the difference. The limit is
0.5 s: interpreter, validation, sealing, collecting, scoring, plots and report together.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 0.5
ROWS = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--image", default="autoscorer-test-busybox", help="tests/images/build-busybox makes it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace, command = _workspace(root / "ws", args.image)
        output = root / "bare"
        output.mkdir(mode=0o777)
        output.chmod(0o777)
        bare = [
            *("docker", "run", "--rm", "--network", "none"),
            *("-v", f"{workspace}/input/data:/workspace/input/data:ro", "-v", f"{output}:/workspace/output"),
            args.image,
            *command,
        ]
        ours = [sys.executable, "-m", "autoscorer", "pipeline", str(workspace), "--backend", "docker"]
        environment = {**os.environ, "AUTOSCORER_HOME": str(root / "home")}
        bare_times, our_times = [], []
        for turn in range(args.runs + 1):
            first, second = _timed(bare, environment), _timed(ours, environment)
            if turn:  # the first warms caches
                bare_times.append(first)
                our_times.append(second)
        result = json.loads((workspace / "output" / "result.json").read_text())
        assert result["error"] is None and result["summary"]["score"] == 1.0, result["error"]
    bare_median, our_median = statistics.median(bare_times), statistics.median(our_times)
    overhead = statistics.median(b - a for a, b in zip(bare_times, our_times, strict=True))
    print(f"bare docker run        {bare_median:.3f} s")
    print(f"autoscorer pipeline    {our_median:.3f} s   ({our_median / bare_median:.2f} x)")
    print(f"overhead (paired)      {overhead:.3f} s   limit {LIMIT} s   {'ok' if overhead < LIMIT else 'TOO SLOW'}")
    return 0 if overhead < LIMIT else 1


def _workspace(root: Path, image: str) -> tuple[Path, list[str]]:
    (root / "input" / "data").mkdir(parents=True)
    rows = "".join(f"sample-{number:05},class-{number % 7}\n" for number in range(ROWS))
    (root / "input" / "gt.csv").write_text("id,label\n" + rows)
    # The model's "knowledge" reversed in order, so that it is not the ground truth's bytes.
    lines = rows.splitlines(keepends=True)[::-1]
    (root / "input" / "data" / "answers.csv").write_text("id,label\n" + "".join(lines))
    command = ["cp", "/workspace/input/data/answers.csv", "/workspace/output/pred.csv"]
    meta = {"scorer": "classification_f1", "container": {"image": image, "cmd": command}}
    (root / "meta.json").write_text(json.dumps(meta))
    return root, command


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
