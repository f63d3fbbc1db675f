"""Train the model and lay out the workspace: ``python train.py [FOLDER]`` (needs scikit-image and scikit-learn).

Data: what ships with scikit-image. Coins are learned from the upper two rows of ``coins.png``; the pictures in
NEGATIVES hold none. Faces are found by OpenCV's frontal face cascade, trained by its authors, of which only the
form is changed. The pictures in ``input/``, among them the lower two rows of coins, are never seen in training.
The boxes were drawn by hand. Seeds are fixed, so a second run writes the same data and, up to the last bits of
the linear algebra library, the same weights.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from cascade import Cascade
from hog import BINS, CELL, Template, candidates, gradients, overlap, resize
from skimage import data, io
from skimage.color import rgb2gray
from skimage.util import img_as_float, img_as_float32, img_as_ubyte
from sklearn.linear_model import LogisticRegression, Ridge

SEED = 20260101
FACE, COIN = 1, 2
CELLS = 8  # a window is 8 x 8 cells of 4 x 4 pixels
MARGIN = 1 / 8  # of the window, around the coin, on each side
ROUNDS = 4  # of looking for false alarms and learning from them

# Drawn by hand on the photograph at its full size: left, top, right, bottom. A face goes from the hairline to the
# chin and from ear to ear, the ears left out in front view.
ASTRONAUT_FACE = (180, 79, 269, 179)
CAMERA_FACE = (186, 124, 255, 196)  # in profile
# Drawn on coins.png at twice its size, row by row.
COINS = [
    [(46, 67, 133, 149), (162, 78, 240, 148), (264, 56, 358, 147), (384, 58, 479, 146), (511, 68, 593, 144),
     (610, 31, 729, 145)],
    [(50, 208, 132, 290), (168, 214, 244, 290), (269, 220, 347, 290), (372, 210, 452, 289), (490, 190, 592, 288),
     (635, 210, 712, 289)],
    [(51, 355, 125, 434), (161, 349, 248, 434), (270, 358, 348, 434), (378, 339, 473, 432), (502, 344, 593, 434),
     (630, 311, 759, 436)],
    [(38, 465, 149, 576), (186, 488, 271, 575), (288, 472, 403, 575), (439, 480, 538, 576), (551, 477, 653, 578),
     (671, 495, 761, 578)],
]  # fmt: skip
# The rows lie between these lines of coins.png at its own size.
CUTS = (0, 98, 150, 225, 303)
NEGATIVES = ("brick", "grass", "gravel", "moon", "rocket", "chelsea", "page", "text", "clock", "cell", "retina")


def grey(image: np.ndarray, width: int) -> np.ndarray:
    image = img_as_float(rgb2gray(image) if image.ndim == 3 else image)
    return resize(image, round(image.shape[0] * width / image.shape[1]), width)


def cut(image: np.ndarray, centre: np.ndarray, side: float, pixels: int) -> np.ndarray:
    """Cut a square out, even over the edge, and resize it to ``pixels``."""
    reach = int(side)
    image = np.pad(image, reach, mode="edge")
    left, top = np.round(centre - side / 2).astype(int) + reach
    size = max(2, round(side))
    return resize(image[top : top + size, left : left + size], pixels, pixels)


def look(window: np.ndarray) -> np.ndarray:
    return gradients(window).ravel()


def coin_windows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows about the training coins, turned and mirrored and a little off.

    Returns:
        Features, the shifts that lead from the window's inner box to the coin's box, and the overlap of the two.
    """
    photograph = img_as_float32(data.coins())
    features, shifts, overlaps = [], [], []
    for left, top, right, bottom in (np.array(box) / 2 for row in COINS[:2] for box in row):
        sides = np.array([right - left, bottom - top])
        centre = np.array([left + right, top + bottom]) / 2
        for _ in range(40):
            guess = max(sides) * np.exp(rng.normal(0, 0.12))
            at = centre + rng.normal(0, 0.07, 2) * guess
            window = cut(photograph, at, guess / (1 - 2 * MARGIN), CELLS * CELL)
            shift, size = (centre - at) / guess, np.log(sides / guess)
            inner, box = np.hstack([at - guess / 2, at + guess / 2]), np.array([[left, top, right, bottom]])
            for mirrored in (False, True):
                for turns in range(4):
                    turned = np.rot90(window, turns)
                    (dx, dy), (dw, dh) = shift, size
                    for _ in range(turns):  # a quarter turn to the left
                        (dx, dy), (dw, dh) = (dy, -dx), (dh, dw)
                    features.append(look(turned[:, ::-1] if mirrored else turned))
                    shifts.append((-dx if mirrored else dx, dy, dw, dh))
                    overlaps.append(overlap(inner, box)[0])
    return np.array(features), np.array(shifts), np.array(overlaps)


def train_coins() -> Template:
    """Train the classifier, looking again and again for what it takes for a coin and is none."""
    photograph = img_as_float32(data.coins())[: CUTS[2]]
    boxes = np.array([box for row in COINS[:2] for box in row]) / 2
    pictures = [(grey(getattr(data, name)(), 256), np.zeros((0, 4))) for name in NEGATIVES]
    pictures.append((photograph, boxes))

    features, shifts, overlaps = coin_windows(np.random.default_rng(SEED))
    ridge = Ridge(alpha=10).fit(features, shifts)
    positive = features[overlaps > 0.75]
    background = data.lfw_subset()[100:].astype(np.float32)
    negative = np.array([look(resize(window, CELLS * CELL, CELLS * CELL)) for window in background])
    for remaining in reversed(range(ROUNDS)):
        counts = [len(positive), len(negative)]
        classifier = LogisticRegression(C=10, max_iter=1000)
        # Both kinds weigh the same, however many windows there are of each.
        weight = np.repeat([1, counts[0] / counts[1]], counts)
        classifier.fit(np.vstack([positive, negative]), np.repeat([1, 0], counts), sample_weight=weight)
        template = Template(
            category_id=COIN,
            weights=classifier.coef_[0].reshape(CELLS, CELLS, BINS).astype(np.float32),
            bias=classifier.intercept_[0],
            shift=np.vstack([ridge.coef_.T, ridge.intercept_]).astype(np.float32),
            margin=MARGIN,
        )
        print(f"{counts[0]} windows with a coin, {counts[1]} without")
        if not remaining:
            break
        alarms = [negative]
        for image, coins in pictures:
            found, where, scores = candidates(image, template)
            wrong = np.array([not len(coins) or overlap(box, coins).max() < 0.3 for box in where], bool)
            worst = np.argsort(-scores[wrong], kind="stable")[:300]
            alarms.append(found[wrong][worst])
        negative = np.vstack(alarms)
    return template


def convert_faces() -> Cascade:
    """Read the cascade that ships with scikit-image, as OpenCV stores it."""
    root = ElementTree.parse(data.lbp_frontal_face_cascade_filename()).getroot()[0]
    rectangles = [[int(v) for v in rectangle.text.split()] for rectangle in root.iter("rect")]
    stages = list(root.find("stages"))
    weak, subsets = [], []
    for classifier in root.find("stages").iter("internalNodes"):
        # Two links that a tree of one node has no use for, the feature, and 256 bits: the subset of patterns.
        _, _, feature, *words = (int(v) for v in classifier.text.split())
        weak.append(rectangles[feature])
        subsets.append([words[pattern >> 5] >> (pattern & 31) & 1 for pattern in range(256)])
    return Cascade(
        category_id=FACE,
        side=int(root.findtext("width")),
        stages=np.array([float(stage.findtext("stageThreshold")) for stage in stages]),
        sizes=np.array([int(stage.findtext("maxWeakCount")) for stage in stages]),
        rectangles=np.array(weak),
        subsets=np.array(subsets, dtype=bool),
        leaves=np.array([[float(v) for v in leaf.text.split()] for leaf in root.iter("leafValues")]),
    )


def lay_out(folder: Path) -> None:
    """Write ``input/``: the pictures, their list, and the ground truth."""
    coins = img_as_float32(data.coins())
    pictures = [
        ("astronaut", grey(data.astronaut(), 256), FACE, np.array([ASTRONAUT_FACE]) / 2),
        ("camera", grey(data.camera(), 256), FACE, np.array([CAMERA_FACE]) / 2),
        ("coffee", grey(data.coffee(), 300), COIN, np.zeros((0, 4))),
    ]
    for row in (2, 3):
        boxes = np.array(COINS[row]) / 2 - np.array([0, CUTS[row], 0, CUTS[row]])
        pictures.append((f"coins-{row - 1}", coins[CUTS[row] : CUTS[row + 1]], COIN, boxes))

    (folder / "input" / "data").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, (name, image, category_id, boxes) in enumerate(pictures, start=1):
        io.imsave(folder / "input" / "data" / f"{name}.png", img_as_ubyte(np.clip(image, 0, 1)), check_contrast=False)
        images.append({"id": number, "file_name": f"{name}.png", "width": image.shape[1], "height": image.shape[0]})
        for left, top, right, bottom in boxes.tolist():
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_id,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": FACE, "name": "face"}, {"id": COIN, "name": "coin"}]
    listing = {"images": images, "categories": categories}
    write_json(folder / "input" / "data" / "images.json", listing)
    write_json(folder / "input" / "gt.json", {**listing, "annotations": annotations})


def write_json(path: Path, value: dict[str, list[dict[str, object]]]) -> None:
    lists = (f"  {json.dumps(key)}: [\n    " + ",\n    ".join(map(json.dumps, rows)) + "\n  ]"
             for key, rows in value.items())  # fmt: skip
    path.write_text("{\n" + ",\n".join(lists) + "\n}\n", encoding="utf-8")


def main(folder: Path) -> None:
    lay_out(folder)
    parts = {"face": convert_faces(), "coin": train_coins()}
    arrays = {f"{name}.{field}": value for name, part in parts.items() for field, value in vars(part).items()}
    np.savez_compressed(folder / "model.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
