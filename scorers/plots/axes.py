"""A plotting area: its ticks with their numbers, its grid, and the way from data to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .svg import num, svg_text, svg_words, text_width

__all__ = ["Panel", "nice_ticks", "tick_labels"]


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside ``[low, high]``, about ``count`` of them.

    Args:
        low: Finite.
        high: Finite, above ``low``.
        count: Wanted number.
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if raw <= m * power * 1.0001), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Texts for ticks: the same number of decimals for all, and enough of them to tell them apart."""
    if not ticks:
        return []
    largest = max(abs(t) for t in ticks)
    step = min((b - a for a, b in pairwise(ticks)), default=largest or 1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if largest < 1e6 and decimals <= 5:
        labels = [f"{t:,.{decimals}f}" for t in ticks]
    else:
        digits = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
        labels = [f"{t:.{min(digits, 15)}e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-") for t in ticks]
    return [
        "0" if t == 0 else text.replace("-", "−", 1) if t < 0 else text for t, text in zip(ticks, labels, strict=True)
    ]


@dataclass(frozen=True)
class Panel:
    """A plotting area: maps data to pixels and draws its own frame.

    Args:
        left: Pixels of the area's left edge.
        top: Pixels of its top edge.
        width: Pixels.
        height: Pixels.
        xlim: Data range, low to high.
        ylim: Data range, low (bottom) to high (top).
    """

    left: float
    top: float
    width: float
    height: float
    xlim: tuple[float, float]
    ylim: tuple[float, float]

    def x(self, value: float) -> float:
        """Pixels of a data x."""
        return self.left + (value - self.xlim[0]) / (self.xlim[1] - self.xlim[0]) * self.width

    def y(self, value: float) -> float:
        """Pixels of a data y; up is more."""
        return self.top + (self.ylim[1] - value) / (self.ylim[1] - self.ylim[0]) * self.height

    def frame(self, xlabel: str, ylabel: str, title: str = "") -> str:
        """Grid, ticks with their numbers, axis titles."""
        bottom, right = self.top + self.height, self.left + self.width
        xticks, yticks = nice_ticks(*self.xlim), nice_ticks(*self.ylim)
        grid = "".join(f"M{num(self.x(t))} {num(self.top)}V{num(bottom)}" for t in xticks)
        grid += "".join(f"M{num(self.left)} {num(self.y(t))}H{num(right)}" for t in yticks)
        parts = [f'<path class="gr" fill="none" d="{grid}"/>']
        xtexts = tick_labels(xticks)
        # Where the numbers are long, every second one, so that they do not run into each other.
        room = self.width / max(1, len(xticks))
        every = 1 + int(max((text_width(t, 11) + 8 for t in xtexts), default=0) // room)
        for tick, text in list(zip(xticks, xtexts, strict=True))[::every]:
            parts.append(svg_text(self.x(tick), bottom + 16, text, 11, css="mu", anchor="middle"))
        for tick, text in zip(yticks, tick_labels(yticks), strict=True):
            parts.append(svg_text(self.left - 7, self.y(tick) + 4, text, 11, css="mu", anchor="end"))
        parts.append(f'<path class="ax" fill="none" d="M{num(self.left)} {num(self.top)}V{num(bottom)}H{num(right)}"/>')
        parts.append(svg_words(self.left + self.width / 2, bottom + 36, xlabel, 12, anchor="middle"))
        x, y = self.left - self.label_room(), self.top + self.height / 2
        parts.append(svg_words(x, y, ylabel, 12, anchor="middle", extra=f'transform="rotate(-90 {num(x)} {num(y)})"'))
        if title:
            parts.append(svg_text(self.left, self.top - 10, title, 13, extra='font-weight="600"'))
        return "".join(parts)

    def label_room(self) -> float:
        """Pixels from the left edge of the area to the baseline of the y axis' title."""
        return 16 + max((text_width(t, 11) for t in tick_labels(nice_ticks(*self.ylim))), default=20)
