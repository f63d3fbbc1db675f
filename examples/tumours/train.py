"""Train the three teams' models and lay out the benchmark: ``python train.py [FOLDER]`` (needs scikit-learn).

Data: the 569 tumours of the Breast Cancer Wisconsin (Diagnostic) set that ships with scikit-learn. 60 % train the
models; the other 40 %, which they never see, become ``input/``: 60 % of them public, 40 % private. Seeds are fixed.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

SEED = 20260101
Json = dict[str, Any]


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_model(folder: Path, team: str, model: Json) -> None:
    path = folder / "teams" / team / "model.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")


def branch(tree: Any, node: int, names: list[str]) -> Json | str:
    """A decision tree from one of its nodes on: a label, or a question with two branches."""
    if tree.children_left[node] < 0:
        return "benign" if tree.value[node][0].argmax() else "malignant"
    return {
        "column": names[tree.feature[node]],
        "most": round(float(tree.threshold[node]), 4),
        "yes": branch(tree, tree.children_left[node], names),
        "no": branch(tree, tree.children_right[node], names),
    }


def main(folder: Path) -> None:
    found = load_breast_cancer()
    names = [name.replace(" ", "_") for name in found.feature_names]
    labels = np.array(["malignant", "benign"])[found.target]
    # A tumour keeps its number in the data set, so that anyone can look it up there.
    rows = np.arange(len(labels))
    train, test = train_test_split(rows, test_size=0.4, random_state=SEED, stratify=labels)
    _, private = train_test_split(test, test_size=0.4, random_state=SEED, stratify=labels[test])

    mean, scale = found.data[train].mean(axis=0), found.data[train].std(axis=0)
    scaled = (found.data[train] - mean) / scale
    common = {"mean": dict(zip(names, mean.round(6).tolist(), strict=True))}
    common |= {"scale": dict(zip(names, scale.round(6).tolist(), strict=True))}
    centres = {
        label: dict(zip(names, scaled[labels[train] == label].mean(axis=0).round(6).tolist(), strict=True))
        for label in ("benign", "malignant")
    }
    write_model(folder, "centroid", {**common, "centres": centres})
    line = LogisticRegression(C=0.5, max_iter=1000).fit(scaled, labels[train] == "malignant")
    weights = dict(zip(names, line.coef_[0].round(6).tolist(), strict=True))
    write_model(folder, "logistic", {**common, "weights": weights, "bias": round(float(line.intercept_[0]), 6)})
    tree = DecisionTreeClassifier(max_depth=4, random_state=SEED).fit(found.data[train], found.target[train])
    write_model(folder, "tree", {"root": branch(tree.tree_, 0, names)})

    ids = {row: f"tumour-{row:03d}" for row in test}
    write_csv(
        folder / "input" / "data" / "tumours.csv",
        ["id", *names],
        ([ids[row], *(f"{value:.6g}" for value in found.data[row])] for row in test),
    )
    parts = dict.fromkeys(private, "Private")
    write_csv(
        folder / "input" / "gt.csv",
        ["id", "label", "Usage"],
        ([ids[row], labels[row], parts.get(row, "Public")] for row in test),
    )
    print(f"trained on {len(train)} tumours, held out {len(test)}, {len(private)} of them private")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
