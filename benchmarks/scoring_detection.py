"""Scoring of boxes against pycocotools: CPU time and peak memory, each in a process of its own.

    python benchmarks/scoring_detection.py [--shape scattered|clustered] [--repeats N] [--need RATIO]

5,000 images, 36,800 boxes, 80 categories, 150,000 detections, made from a seed. Ours is the whole scoring step
(read, check, evaluate, interval, sha256; no plots); pycocotools loads and evaluates. Both are counted from after
their imports, and as whole processes. ``scattered`` puts boxes and false positives on random images and
categories; ``clustered`` puts several boxes of a category together, as photographs do, which spares pycocotools
half of its calls.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, BOXES, CATEGORIES, DETECTIONS = 5_000, 36_800, 80, 150_000


def make(folder: Path, shape: str) -> None:
    """Write input/gt.json and output/pred.json."""
    rng = np.random.default_rng(7)
    popular = 1 / np.arange(1, CATEGORIES + 1) ** 0.8
    popular /= popular.sum()
    if shape == "clustered":
        # COCO's val2017 has 14,600 pairs of image and category with boxes, 48 images without any.
        cells: set[tuple[int, int]] = set()
        while len(cells) < 14_600:
            cells.add((int(rng.integers(0, IMAGES - 48)), int(rng.choice(CATEGORIES, p=popular))))
        pairs = np.array(sorted(cells))
        weight = np.minimum(rng.pareto(1.2, len(pairs)), 12)
        count = 1 + rng.multinomial(BOXES - len(pairs), weight / weight.sum())
        image, category = np.repeat(pairs[:, 0], count), np.repeat(pairs[:, 1], count)
    else:
        image = np.sort(rng.integers(0, IMAGES, BOXES))
        category = rng.choice(CATEGORIES, BOXES, p=popular)
    side, aspect = np.exp(rng.normal(4, 1, BOXES)).clip(6, 500), np.exp(rng.normal(0, 0.3, BOXES))
    size = np.stack([side * aspect, side / aspect], axis=1).clip(4, 600).round(2)
    boxes = np.column_stack([(rng.random((BOXES, 2)) * np.maximum(640 - size, 1)).round(2), size])
    crowd = (rng.random(BOXES) < 0.01).astype(int)
    truth = {
        "info": {"description": shape},
        "images": [{"id": i + 1, "file_name": f"{i:012d}.jpg", "width": 640, "height": 640} for i in range(IMAGES)],
        "annotations": [
            {
                "id": n + 1,
                "image_id": int(image[n]) + 1,
                "category_id": int(category[n]) + 1,
                "bbox": boxes[n].tolist(),
                "area": round(float(size[n].prod()), 3),
                "iscrowd": int(crowd[n]),
                "segmentation": [],
            }
            for n in range(BOXES)
        ],
        "categories": [{"id": k + 1, "name": f"category {k}"} for k in range(CATEGORIES)],
    }
    # Near a box with its category, near a box with another one, or anywhere.
    kind = rng.choice(3, DETECTIONS, p=[0.6, 0.25, 0.15] if shape == "clustered" else [0.45, 0.1, 0.45])
    source = rng.integers(0, BOXES, DETECTIONS)
    on_image = np.where(kind < 2, image[source], rng.integers(0, IMAGES, DETECTIONS))
    other = rng.choice(CATEGORIES, DETECTIONS, p=popular if shape == "clustered" else None)
    of_category = np.where(kind == 0, category[source], other)
    spread = rng.choice([0.03, 0.1, 0.3], DETECTIONS)[:, None]
    placed = boxes[source] + rng.normal(0, 1, (DETECTIONS, 4)) * np.tile(size[source], 2) * spread
    placed[:, 2:] = placed[:, 2:].clip(1)
    score = np.where(kind == 0, rng.beta(2, 2, DETECTIONS), rng.beta(1, 5, DETECTIONS)).round(6)
    predictions = [
        {
            "image_id": int(on_image[n]) + 1,
            "category_id": int(of_category[n]) + 1,
            "bbox": placed[n].round(2).tolist(),
            "score": float(score[n]),
        }
        for n in np.argsort(on_image, kind="stable")
    ]
    (folder / "input").mkdir(parents=True)
    (folder / "output").mkdir()
    (folder / "input" / "gt.json").write_text(json.dumps(truth))
    (folder / "output" / "pred.json").write_text(json.dumps(predictions))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work(who: str, folder: Path) -> dict[str, Any]:
    """Score in this process."""
    if who == "ours":
        from autoscorer.scorers.detection.scorer import DetectionMAP

        before = cpu()
        result = DetectionMAP().score(folder, {"artifacts": False})
        numbers = list(result.metrics.values())[:12]
        assert "map" in result.intervals and result.versioning.predictions_sha256
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        before = cpu()
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(folder / "input" / "gt.json"))
            run = COCOeval(truth, truth.loadRes(str(folder / "output" / "pred.json")), "bbox")
            run.evaluate()
            run.accumulate()
            run.summarize()
        numbers = run.stats.tolist()
    step, memory = cpu() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"step": step, "process": cpu(), "memory": memory, "numbers": numbers}


def run(who: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Score in ``repeats`` processes; medians."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", who, "--folder", str(folder)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(repeats)
    ]
    return runs[0] | {key: statistics.median(r[key] for r in runs) for key in ("step", "process", "memory")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=["scattered", "clustered"], action="append")
    parser.add_argument("--repeats", type=int, default=5, help="runs of ours; pycocotools runs once")
    parser.add_argument("--need", type=float, default=0, help="exit 1 below this ratio of CPU time of the step")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.work, options.folder)))
        return 0
    enough = True
    for shape in options.shape or ["scattered", "clustered"]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "ws"
            make(folder, shape)
            ours, theirs = run("ours", folder, options.repeats), run("pycocotools", folder, 1)
        difference = max(abs(a - b) for a, b in zip(ours["numbers"], theirs["numbers"], strict=True))
        assert difference < 1e-9, difference
        print(f"{shape}: {DETECTIONS:,} detections, {BOXES:,} boxes; the twelve numbers differ by {difference:.1e}")
        for who, r in (("AutoScorer", ours), ("pycocotools", theirs)):
            print(f"  {who:12} step {r['step']:7.3f} s   process {r['process']:7.3f} s   peak {r['memory']:6.0f} MiB")
        ratio = theirs["step"] / ours["step"]
        enough &= ratio >= options.need
        print(
            f"  {'ratio':12} step {ratio:7.1f}     process {theirs['process'] / ours['process']:7.1f}"
            f"     peak {theirs['memory'] / ours['memory']:6.1f}"
        )
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
