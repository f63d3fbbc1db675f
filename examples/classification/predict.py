"""Recognise handwritten digits: what the container runs. Python and NumPy only.

Reads ``input/data/images.csv`` (an id and 64 grey values, 0 to 16, a row) and writes ``output/pred.csv``.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
MODEL = Path(__file__).resolve().parent / "model.npz"


def read_images(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the ids and the pixels, float32 of shape (images, 64), scaled to 0..1."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=np.float32) / 16


def classify(images: np.ndarray, model: dict[str, np.ndarray]) -> np.ndarray:
    """Return the label of each image: one hidden layer of rectified units, the largest output wins."""
    hidden = np.maximum(images @ model["w1"] + model["b1"], 0)
    return model["labels"][np.argmax(hidden @ model["w2"] + model["b2"], axis=1)]


def main() -> None:
    # Weights alone: a pickled model could run any code when it is loaded.
    with np.load(MODEL, allow_pickle=False) as file:
        model = dict(file)
    ids, images = read_images(WORKSPACE / "input" / "data" / "images.csv")
    labels = classify(images, model)
    with (WORKSPACE / "output" / "pred.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label"])
        writer.writerows(zip(ids, labels.tolist(), strict=True))
    print(f"{len(ids)} images classified")


if __name__ == "__main__":
    main()
