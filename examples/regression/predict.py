"""Predict the progression of diabetes: what the container runs. Python's standard library only.

Reads ``input/data/patients.csv`` (an id and ten measurements a row) and writes ``output/pred.csv``.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
MODEL = Path(__file__).resolve().parent / "model.json"


def main() -> None:
    model = json.loads(MODEL.read_text(encoding="utf-8"))
    coefficients, intercept = model["coefficients"], model["intercept"]
    with (WORKSPACE / "input" / "data" / "patients.csv").open(newline="", encoding="utf-8") as file:
        patients = list(csv.DictReader(file))
    with (WORKSPACE / "output" / "pred.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label"])
        for patient in patients:
            progression = intercept + sum(weight * float(patient[name]) for name, weight in coefficients.items())
            writer.writerow([patient["id"], f"{progression:.4f}"])
    print(f"{len(patients)} patients predicted")


if __name__ == "__main__":
    main()
