"""Two pictures of a page are compared by what a person would notice.

Another version of a browser or of a font draws letters otherwise, and may move a line by some pixels. So pictures are
compared by cells of 8 x 8 pixels, each of them with its neighbours, and a cell of one may be what the other one has up
to two cells away. What is left is a part that has moved, that is gone, or that has another colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Difference", "compare", "keep"]

Cells = NDArray[np.float32]

CELL = 8
# How many cells away the same may be.
REACH = 2
# How far light and colour may be from what they were, of 255: in the worst of all cells, and on average. What stands in
# tests/page/test_golden.py is what they lie between.
WORST = (20.0, 5.5)
MEAN = (0.6, 0.1)


@dataclass(frozen=True)
class Difference:
    """What one picture has that the other one has nowhere near, for each cell: of light, and of colour."""

    light: Cells
    colour: Cells

    @property
    def is_seen(self) -> bool:
        """Whether a person would say that something has changed."""
        return any(
            each.max() > worst or each.mean() > mean
            for each, worst, mean in zip((self.light, self.colour), WORST, MEAN, strict=True)
        )

    def __str__(self) -> str:
        parts = [f"{each.max():.1f} at worst, {each.mean():.2f} on average" for each in (self.light, self.colour)]
        return f"light: {parts[0]}; colour: {parts[1]}"

    def draw(self, picture: Path, file: Path) -> None:
        """Write the picture in grey, with what has changed in red."""
        bounded = np.maximum(self.light / WORST[0], self.colour / WORST[1])
        shade = Image.fromarray((np.minimum(bounded, 1) * 255).astype(np.uint8))
        with Image.open(picture) as shown:
            grey = shown.convert("L").point(lambda value: 128 + value // 2).convert("RGB")
        whole = (shade.width * CELL, shade.height * CELL)
        over = shade.resize(whole, Image.Resampling.NEAREST).crop((0, 0, *grey.size))
        grey.paste((200, 0, 0), mask=over)
        grey.save(file)


def compare(one: Path, other: Path) -> Difference:
    """How two pictures of one size differ."""
    a, b = _cells(one), _cells(other)
    assert a.shape == b.shape, f"{one} and {other} are not of one size"
    beyond = np.maximum(_beyond(a, b), _beyond(b, a))
    return Difference(beyond[..., 0], beyond[..., 1:].max(axis=2))


def keep(picture: Path, file: Path) -> None:
    """Write a picture so that it is small, and no colour of an area is lost."""
    few = Image.Quantize.MAXCOVERAGE
    with Image.open(picture) as shown:
        shown.convert("RGB").quantize(256, method=few, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)


def _cells(file: Path) -> Cells:
    """Light, and how much more of red and of blue there is, of each cell with its neighbours."""
    with Image.open(file) as picture:
        size = (-(-picture.width // CELL), -(-picture.height // CELL))
        whole = Image.new("RGB", (size[0] * CELL, size[1] * CELL))
        whole.paste(picture.convert("RGB"))
    rgb = np.asarray(whole.resize(size, Image.Resampling.BOX), dtype=np.float32)
    rgb = _windows(rgb, 1).mean(axis=(3, 4))
    light = rgb.mean(axis=2)
    return np.stack([light, rgb[..., 0] - light, rgb[..., 2] - light], axis=2)


def _beyond(a: Cells, b: Cells) -> Cells:
    """By how much each cell of one lies outside of what the other one has near it."""
    near = _windows(b, REACH)
    return np.maximum(0, np.maximum(a - near.max(axis=(3, 4)), near.min(axis=(3, 4)) - a))


def _windows(cells: Cells, reach: int) -> Cells:
    around = np.pad(cells, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    windows: Cells = sliding_window_view(around, (2 * reach + 1, 2 * reach + 1), axis=(0, 1))
    return windows
