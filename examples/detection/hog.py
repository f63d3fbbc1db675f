"""A linear classifier slid over histograms of oriented gradients, and a box regression: finds coins.

After Dalal and Triggs (Histograms of Oriented Gradients for Human Detection, 2005) with the box regression of
Girshick et al. (R-CNN, 2014). NumPy only, because this is what runs in the container; train.py uses the same functions,
so a window means the same in training and in use.

Boxes are float arrays of shape (n, 4): left, top, right, bottom in pixels.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CELL = 4  # pixels on a side
BINS = 9  # orientations, over 180 degrees
FAINT = 0.1  # energy of a block that counts as faint texture, so that noise does not look like form
SCALE_STEP = 1.12  # from one level of the pyramid to the next
LEAST_SCORE = 0.5  # of a detection
MAX_OVERLAP = 0.3  # IoU above which the weaker of two detections goes


@dataclass(frozen=True)
class Template:
    """What was learned of one template.

    Attributes:
        category_id: Its id in the annotations.
        weights: Of the classifier, shape (cells, cells, BINS).
        bias: Of the classifier, one number.
        shift: Box regression, shape (cells * cells * BINS + 1, 4); the last row is the constant.
        margin: Share of the window's side around the object, on each side.
    """

    category_id: int
    weights: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    margin: float

    @property
    def cells(self) -> int:
        return int(self.weights.shape[0])


def read_png(path: Path) -> np.ndarray:
    """Read an 8-bit grey PNG without interlacing as float32 of shape (height, width), 0..1.

    Raises:
        ValueError: Another kind of PNG, or none.
    """
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path.name} is no PNG file")
    position, packed = 8, b""
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position + 8 : position + 8 + size]
        if kind == b"IHDR":
            width, height, *layout = struct.unpack(">IIBBBBB", chunk)
            if layout != [8, 0, 0, 0, 0]:
                raise ValueError(f"{path.name}: expected 8-bit grey without interlacing")
        elif kind == b"IDAT":
            packed += chunk
        position += size + 12
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width + 1)
    image = np.zeros((height + 1, width + 1), np.uint8)  # a black row above and column before, as filters want
    for y, (method, *line) in enumerate(lines.tolist(), start=1):
        up = image[y - 1].tolist()
        row = [0]
        for x, value in enumerate(line, start=1):
            left, above, corner = row[-1], up[x], up[x - 1]
            if method == 1:
                value += left
            elif method == 2:
                value += above
            elif method == 3:
                value += (left + above) // 2
            elif method == 4:
                to_left, to_above = abs(above - corner), abs(left - corner)
                to_corner = abs(left + above - 2 * corner)
                nearest_two = left if to_left <= to_above else above
                value += nearest_two if min(to_left, to_above) <= to_corner else corner
            row.append(value & 255)
        image[y] = row
    return image[1:, 1:].astype(np.float32) / 255


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by linear interpolation, averaging over the shrunk area where it shrinks."""

    def matrix(old: int, new: int) -> np.ndarray:
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        reach = max(old / new, 1.0)
        weights = np.maximum(0, 1 - np.abs(np.arange(old)[None, :] - centres[:, None]) / reach)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(image.dtype)

    return matrix(image.shape[0], height) @ image @ matrix(image.shape[1], width).T


def gradients(image: np.ndarray) -> np.ndarray:
    """Return the normalised histograms of gradients, shape (height // CELL, width // CELL, BINS)."""
    rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
    padded = np.pad(image, 1, mode="edge")
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2])[: rows * CELL, : columns * CELL]
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1])[: rows * CELL, : columns * CELL]
    # A gradient's strength is shared by the two nearest of BINS directions; light on dark equals dark on light.
    turn = np.arctan2(dy, dx) / np.pi * BINS % BINS
    low = np.floor(turn).astype(int) % BINS
    strength, share = np.hypot(dx, dy), turn - np.floor(turn)
    cell = np.arange(rows * CELL)[:, None] // CELL * columns + np.arange(columns * CELL)[None, :] // CELL
    size = rows * columns * BINS
    cells = np.bincount((cell * BINS + low).ravel(), (strength * (1 - share)).ravel(), size)
    cells += np.bincount((cell * BINS + (low + 1) % BINS).ravel(), (strength * share).ravel(), size)
    cells = cells.reshape(rows, columns, BINS)
    # Divided by the energy of each of the four 2 x 2 blocks a cell belongs to, and averaged over them.
    energy = np.pad((cells**2).sum(axis=2), 1, mode="edge")
    blocks = energy[:-1, :-1] + energy[1:, :-1] + energy[:-1, 1:] + energy[1:, 1:]
    blocks = np.sqrt(blocks + FAINT)[..., None]
    corners = (blocks[:-1, :-1], blocks[1:, :-1], blocks[:-1, 1:], blocks[1:, 1:])
    return sum(np.minimum(cells / corner, 0.3) for corner in corners) / 4


def windows(cells: np.ndarray, side: int) -> np.ndarray:
    """Return every window of ``side`` x ``side`` cells, shape (rows, columns, side * side * BINS)."""
    view = np.lib.stride_tricks.sliding_window_view(cells, (side, side), axis=(0, 1))
    return view.transpose(0, 1, 3, 4, 2).reshape(*view.shape[:2], -1)


def pyramid(image: np.ndarray, side: int, scale: float = 1.0) -> list[np.ndarray]:
    """Return the image smaller and smaller, from ``scale`` times its size until ``side`` pixels no longer fit."""
    levels = []
    while min(image.shape) * scale >= side:
        levels.append(resize(image, round(image.shape[0] * scale), round(image.shape[1] * scale)))
        scale /= SCALE_STEP
    return levels


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU of one box with each of ``boxes``."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return common / (area - common)


def move(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move boxes by ``shifts``: centre in units of the box's sides, and the logarithm of the sides' growth."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + shifts[:, :2] * sides
    half = sides * np.exp(np.clip(shifts[:, 2:], -0.7, 0.7)) / 2
    return np.hstack([centres - half, centres + half])


def candidates(image: np.ndarray, template: Template) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all windows above the threshold: their features, unmoved boxes and scores (0..1)."""
    side = template.cells * CELL
    features, boxes, scores = [], [], []
    # Objects may touch the picture's edge; the window's margin must not.
    pad = round(template.margin * max(image.shape) / 4)
    for level in pyramid(np.pad(image, pad, mode="edge"), side):
        all_windows = windows(gradients(level), template.cells)
        score = 1 / (1 + np.exp(-(all_windows @ template.weights.ravel() + template.bias)))
        rows, columns = np.nonzero(score >= LEAST_SCORE)
        scale = (image.shape[0] + 2 * pad) / level.shape[0]
        corner = np.stack([columns, rows], axis=1) * float(CELL)
        inset = template.margin * side
        features.append(all_windows[rows, columns])
        boxes.append(np.hstack([corner + inset, corner + side - inset]) * scale - pad)
        scores.append(score[rows, columns])
    return np.concatenate(features), np.concatenate(boxes), np.concatenate(scores)


def detect(image: np.ndarray, template: Template) -> tuple[np.ndarray, np.ndarray]:
    """Find the objects of one template.

    Args:
        image: Grey values 0..1, shape (height, width).
        template: What was learned.

    Returns:
        The boxes, shape (n, 4), and their scores (0..1), best first.
    """
    features, boxes, scores = candidates(image, template)
    boxes = move(boxes, features @ template.shift[:-1] + template.shift[-1])
    limits = np.array([image.shape[1], image.shape[0]] * 2, dtype=float)
    boxes = np.clip(boxes, 0, limits)
    left = np.argsort(-scores, kind="stable")
    keep = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        left = left[overlap(boxes[best], boxes[left]) <= MAX_OVERLAP]
    return boxes[keep], scores[keep]
