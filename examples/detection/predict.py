"""Find faces and coins in photographs: what the container runs. Python and NumPy only.

Reads ``input/data/images.json`` (COCO's ``images`` list) and the pictures it names, and writes
``output/pred.json``, a COCO results list.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cascade
import hog
import numpy as np

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
MODEL = Path(__file__).resolve().parent / "model.npz"


def load_model() -> tuple[cascade.Cascade, hog.Template]:
    # Weights alone: a pickled model could run any code when it is loaded.
    with np.load(MODEL, allow_pickle=False) as file:
        parts: dict[str, dict[str, np.ndarray]] = {"face": {}, "coin": {}}
        for key in file:
            category, field = key.split(".")
            parts[category][field] = file[key]
    return cascade.Cascade(**parts["face"]), hog.Template(**parts["coin"])


def main() -> None:
    data = WORKSPACE / "input" / "data"
    face, coin = load_model()
    found = []
    for entry in json.loads((data / "images.json").read_text(encoding="utf-8"))["images"]:
        image = hog.read_png(data / entry["file_name"])
        faces, coins = cascade.detect(image, face), hog.detect(image, coin)
        for category_id, (boxes, scores) in ((face.category_id, faces), (coin.category_id, coins)):
            for (left, top, right, bottom), score in zip(boxes.tolist(), scores.tolist(), strict=True):
                found.append(
                    {
                        "image_id": entry["id"],
                        "category_id": int(category_id),
                        "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
                        "score": round(score, 5),  # another machine's linear algebra may differ in the last bits
                    }
                )
        print(f"{entry['file_name']}: {len(faces[1])} faces, {len(coins[1])} coins", flush=True)
    (WORKSPACE / "output" / "pred.json").write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
