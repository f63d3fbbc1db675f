"""Train the model and lay out the workspace: ``python train.py [FOLDER]`` (needs scikit-learn).

Data: the 442 diabetes patients that ship with scikit-learn (Efron, Hastie, Johnstone and Tibshirani, Least
Angle Regression, 2004), in their original units. A quarter of them, which the model never sees, become
``input/``. Seeds are fixed, so a second run writes the same files.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 20260101


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(folder: Path) -> None:
    data = load_diabetes(scaled=False)
    train, test = train_test_split(np.arange(len(data.target)), test_size=0.25, random_state=SEED)

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 3, 26)))
    model.fit(data.data[train], data.target[train])
    scaler, ridge = model[0], model[1]
    # The scaling is folded in: the container multiplies raw measurements.
    coefficients = ridge.coef_ / scaler.scale_
    intercept = float(ridge.intercept_ - coefficients @ scaler.mean_)
    exported = {
        "intercept": round(intercept, 6),
        "coefficients": {
            name: round(float(value), 6) for name, value in zip(data.feature_names, coefficients, strict=True)
        },
    }
    (folder / "model.json").write_text(json.dumps(exported, indent=2) + "\n", encoding="utf-8")

    # A patient keeps the number of its row in the data set, so that anyone can look it up there.
    ids = [f"patient-{index:03d}" for index in test]
    write_csv(
        folder / "input" / "data" / "patients.csv",
        ["id", *data.feature_names],
        ([name, *(f"{v:g}" for v in row)] for name, row in zip(ids, data.data[test], strict=True)),
    )
    write_csv(
        folder / "input" / "gt.csv", ["id", "label"], zip(ids, (f"{v:g}" for v in data.target[test]), strict=True)
    )
    print(f"trained on {len(train)} patients, held out {len(test)}; ridge penalty {ridge.alpha_:.3g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
