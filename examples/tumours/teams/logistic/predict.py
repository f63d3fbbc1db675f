"""Tell malignant tumours from benign ones by a weighted sum, after scaling. Python alone."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
MODEL = json.loads((Path(__file__).resolve().parent / "model.json").read_text(encoding="utf-8"))


def label_of(row: dict[str, float]) -> str:
    total: float = MODEL["bias"]
    for name, weight in MODEL["weights"].items():
        total += weight * (row[name] - MODEL["mean"][name]) / MODEL["scale"][name]
    return "malignant" if total > 0 else "benign"


def main() -> None:
    with (WORKSPACE / "input" / "data" / "tumours.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (WORKSPACE / "output" / "pred.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label"])
        for row in rows:
            ident = row.pop("id")
            writer.writerow([ident, label_of({name: float(value) for name, value in row.items()})])
    print(f"{len(rows)} tumours")


if __name__ == "__main__":
    main()
