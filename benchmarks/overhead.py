"""What the whole pipeline costs over a bare run of the same image and command, on Docker and under bubblewrap.

    python benchmarks/overhead.py [--runs N] [--image IMAGE] [--large IMAGE]

All are whole processes, in turn, and all mount input and output; printed are medians and differences. Limits: 0.5 s
over ``docker run`` and 0.3 s over ``bwrap`` (interpreter, validation, sealing, collecting, scoring, plots and report
together); under bubblewrap half of the time on Docker; a large image unpacked in three times the time of ``tar x`` of
its layers, and then never again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autoscorer.core.config import load_settings
from autoscorer.executors.bubblewrap.command import find_bubblewrap
from autoscorer.executors.images.unpacked import ImageStore

LIMIT, SANDBOX_LIMIT = 0.5, 0.3
ROWS = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--image", default="autoscorer-test-busybox", help="tests/images/build-busybox makes it")
    parser.add_argument("--large", default="autoscorer-base:bookworm", help="scripts/build-base-image makes it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        fine = [_runs(root, args.image, args.runs), _unpacking(root, args.large)]
    return 0 if all(fine) else 1


def _runs(root: Path, image: str, runs: int) -> bool:
    """The pipeline beside the bare engine and the bare sandbox."""
    named, command = _workspace(root / "named", {"image": image})
    brought, _ = _workspace(root / "brought", {})
    _save(image, brought / "image.tar")
    output, rootfs = root / "bare", root / "rootfs"
    output.mkdir(mode=0o777)
    output.chmod(0o777)
    rootfs.mkdir()
    _untar(brought / "image.tar", rootfs, root / "layers")
    for place in ("workspace/input/data", "workspace/output", "proc", "dev", "tmp"):
        (rootfs / place).mkdir(parents=True, exist_ok=True)
    data = f"{named}/input/data"
    commands = {
        "bare docker run": [
            *("docker", "run", "--rm", "--network", "none"),
            *("-v", f"{data}:/workspace/input/data:ro", "-v", f"{output}:/workspace/output", image, *command),
        ],
        "pipeline on docker": _pipeline(named, "docker"),
        "bare bwrap": [
            *(str(find_bubblewrap(load_settings()).path), "--unshare-all", "--die-with-parent"),
            *("--ro-bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
            *("--ro-bind", data, "/workspace/input/data", "--bind", str(output), "/workspace/output", *command),
        ],
        "pipeline on bubblewrap": _pipeline(brought, "bubblewrap"),
    }
    environment = {**os.environ, "AUTOSCORER_HOME": str(root / "home")}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, line in commands.items():
            took = _timed(line, environment)
            if turn:  # the first warms caches
                times[name].append(took)
    for workspace in (named, brought):
        result = json.loads((workspace / "output" / "result.json").read_text())
        assert result["error"] is None and result["summary"]["score"] == 1.0, result["error"]
    for name, taken in times.items():
        print(f"{name:<24}{statistics.median(taken):.3f} s")
    docker, sandbox = times["pipeline on docker"], times["pipeline on bubblewrap"]
    return all(
        [
            _limited("over docker run (paired)", _paired(times["bare docker run"], docker), LIMIT, "s"),
            _limited("over bwrap (paired)", _paired(times["bare bwrap"], sandbox), SANDBOX_LIMIT, "s"),
            _limited("bubblewrap / docker", statistics.median(sandbox) / statistics.median(docker), 0.5, "x"),
        ]
    )


def _unpacking(root: Path, image: str) -> bool:
    """A large image into the store, beside ``tar`` of its layers."""
    archive = root / "large.tar"
    _save(image, archive)
    store = ImageStore(root / "store", 20 * 1024**3)
    plain, ours = [], []
    for turn in range(3):
        target = root / f"plain-{turn}"
        target.mkdir()
        started = time.perf_counter()
        _untar(archive, target, root / f"parts-{turn}")
        plain.append(time.perf_counter() - started)
        for folder in (target, root / f"parts-{turn}"):
            shutil.rmtree(folder)
        shutil.rmtree(root / "store", ignore_errors=True)
        started = time.perf_counter()
        with store.archive(archive, 20 * 1024**3):
            ours.append(time.perf_counter() - started)
    started = time.perf_counter()
    with store.archive(archive, 20 * 1024**3):
        again = time.perf_counter() - started
    size = archive.stat().st_size / 1024**2
    print(f"tar x of {size:.0f} MiB        {statistics.median(plain):.3f} s")
    print(f"unpacked into the store {statistics.median(ours):.3f} s, used again {again:.3f} s")
    ratio = statistics.median(ours) / statistics.median(plain)
    return all([_limited("store / tar x", ratio, 3, "x"), _limited("used again", again, 0.2, "s")])


def _paired(before: list[float], after: list[float]) -> float:
    return statistics.median(b - a for a, b in zip(before, after, strict=True))


def _limited(name: str, value: float, limit: float, unit: str) -> bool:
    print(f"{name:<28}{value:.3f} {unit}   limit {limit} {unit}   {'ok' if value <= limit else 'MISSED'}")
    return value <= limit


def _pipeline(workspace: Path, backend: str) -> list[str]:
    return [sys.executable, "-m", "autoscorer", "pipeline", str(workspace), "--backend", backend]


def _save(image: str, archive: Path) -> None:
    subprocess.run(["docker", "save", "-o", str(archive), image], check=True, capture_output=True)


def _untar(archive: Path, target: Path, layers: Path) -> None:
    """Unpack an archive and its layers, in order, as two commands of a shell would; whiteouts are not looked at."""
    layers.mkdir()
    subprocess.run(["tar", "xf", str(archive), "-C", str(layers)], check=True)
    (manifest,) = json.loads((layers / "manifest.json").read_text())
    for layer in manifest["Layers"]:
        subprocess.run(["tar", "xf", str(layers / layer), "-C", str(target)], check=True)


def _workspace(root: Path, image: dict[str, str]) -> tuple[Path, list[str]]:
    (root / "input" / "data").mkdir(parents=True)
    rows = "".join(f"sample-{number:05},class-{number % 7}\n" for number in range(ROWS))
    (root / "input" / "gt.csv").write_text("id,label\n" + rows)
    # The model's "knowledge" reversed in order, so that it is not the ground truth's bytes.
    lines = rows.splitlines(keepends=True)[::-1]
    (root / "input" / "data" / "answers.csv").write_text("id,label\n" + "".join(lines))
    command = ["cp", "/workspace/input/data/answers.csv", "/workspace/output/pred.csv"]
    meta = {"scorer": "classification_f1", "container": {**image, "cmd": command}}
    (root / "meta.json").write_text(json.dumps(meta))
    return root, command


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
