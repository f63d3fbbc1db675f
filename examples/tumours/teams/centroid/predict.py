"""Tell malignant tumours from benign ones by the nearer of two centres, after scaling. Python alone."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
MODEL = json.loads((Path(__file__).resolve().parent / "model.json").read_text(encoding="utf-8"))


def label_of(row: dict[str, float]) -> str:
    scaled = {name: (value - MODEL["mean"][name]) / MODEL["scale"][name] for name, value in row.items()}

    def distance(centre: dict[str, float]) -> float:
        return sum((scaled[name] - centre[name]) ** 2 for name in centre)

    return min(MODEL["centres"], key=lambda label: distance(MODEL["centres"][label]))


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
