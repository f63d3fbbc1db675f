"""Train the model and lay out the workspace: ``python train.py [FOLDER]`` (needs scikit-learn).

Data: the 1,797 digits that ship with scikit-learn. 70 % train the model; the other 30 %, which it never
sees, become ``input/``. Seeds are fixed, so a second run writes the same data and, up to the last bits of
the linear algebra library, the same weights.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 20260101


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(folder: Path) -> None:
    pixels, digits = load_digits(return_X_y=True)
    # An image keeps its number in the data set, so that anyone can look it up there.
    train, test = train_test_split(np.arange(len(digits)), test_size=0.3, random_state=SEED, stratify=digits)

    network = MLPClassifier(hidden_layer_sizes=(64,), alpha=0.1, max_iter=500, random_state=SEED)
    network.fit(pixels[train] / 16, digits[train])
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    weights = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    np.savez(
        folder / "model.npz",
        labels=np.array([str(label) for label in network.classes_]),
        **{name: value.astype(np.float32) for name, value in weights.items()},
    )

    ids = [f"img-{index:04d}" for index in test]
    write_csv(
        folder / "input" / "data" / "images.csv",
        ["id", *(f"p{i:02d}" for i in range(64))],
        ([name, *row] for name, row in zip(ids, pixels[test].astype(int).tolist(), strict=True)),
    )
    write_csv(folder / "input" / "gt.csv", ["id", "label"], zip(ids, digits[test].tolist(), strict=True))
    print(f"trained on {len(train)} images, held out {len(test)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
