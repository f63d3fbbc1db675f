"""The plots of a report, as SVG text: confusion matrix, residuals, precision-recall curves, values by class.

>>> import numpy as np
>>> confusion_matrix_svg(["cat", "dog"], np.array([[8, 2], [1, 9]])).startswith("<svg")
True
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...core.errors import AutoScorerError, ErrorCode
from ..translation.words import CHINESE
from .axes import Panel
from .confusion import confusion_matrix_svg, counted_confusion_svg
from .residuals import coarse_residual_svg, residual_svg
from .svg import OwnName, document, heading, num, shorten, svg_name, svg_text, svg_words, text_width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "coarse_residual_svg",
    "confusion_matrix_svg",
    "counted_confusion_svg",
    "lowest",
    "per_class_svg",
    "pr_curves_svg",
    "residual_svg",
]

MAX_CURVES = 10
MAX_BARS = 40

# Five colours that stay apart for every kind of colour vision (after Okabe and Ito, 2008, darkened or lightened to
# a contrast of 3 against the card), each solid and dashed: ten curves.
_LIGHT_LINES = ("#0068a8", "#c24e00", "#00835f", "#a8528a", "#3d434d")
_DARK_LINES = ("#56b4e9", "#f0883e", "#2cc295", "#e08fc4", "#d5dae2")


def pr_curves_svg(recall: np.ndarray, curves: Mapping[str, np.ndarray], *, title: str) -> str:
    """Draw precision over recall, one line a curve, with a legend.

    Args:
        recall: (R,) recalls, 0 to 1, in the order in which the points are joined.
        curves: Name → (R,) precisions, 0 to 1. Negative (COCO's -1) or non-finite values are absent: the line is
            broken there. The first ``MAX_CURVES`` are drawn, and the subtitle says so.
        title: Title of the plot.

    Returns:
        An SVG document.

    Raises:
        AutoScorerError: ``SCORER_ERROR`` when a curve's length is not that of ``recall``.
    """
    import numpy as np

    x = np.asarray(recall, dtype=np.float64).ravel()
    shown = dict(list(curves.items())[:MAX_CURVES])
    subtitle = "" if len(shown) == len(curves) else f"The first {len(shown)} of {len(curves):,} curves."
    names = [shorten(name, 26) for name in shown]
    legend = 34 + max((text_width(name, 12) for name in names), default=0.0) + text_width(" (no data)", 12)
    width = 64 + 400 + 28 + legend + 16
    head, top = heading(shorten(title, 120), subtitle, width)
    top += 8
    panel = Panel(64, top, 400, 320, (0.0, 1.0), (0.0, 1.0))
    parts = [head, panel.frame("recall", "precision")]
    absent = []
    for k, ((name, values), text) in enumerate(zip(shown.items(), names, strict=True)):
        y = np.asarray(values, dtype=np.float64).ravel()
        if y.shape != x.shape:
            raise AutoScorerError(
                ErrorCode.SCORER_ERROR,
                f"The curve {name!r} must have {x.size} points, as recall has; got {y.size}.",
            )
        dash = ' stroke-dasharray="6 4"' if k >= len(_LIGHT_LINES) else ""
        # What is drawn from all the others, their mean, is told from them at once.
        thick = 4 if isinstance(name, OwnName) else 2
        line = f'class="k{k % len(_LIGHT_LINES)}" fill="none" stroke-width="{thick}" stroke-linejoin="round"{dash}'
        d = _line(panel, x, y)
        if d:
            parts.append(f'<path {line} d="{d}"/>')
        else:
            absent.append(text)
        at = top + 12 + k * 22
        parts.append(f'<path {line} d="M492 {num(at)}h26"/>')
        ours = CHINESE.again(text) if isinstance(text, OwnName) else None
        missing = None if d else CHINESE("{name} (no data)", name=ours or text)
        told = text if d else f"{text} (no data)"
        parts.append(svg_text(526, at + 4, told, 12, css="tx" if d else "mu", zh=ours if d else missing))
    if len(absent) == len(shown):
        parts.append(svg_words(264, top + 164, "No curve is defined.", 13, css="mu", anchor="middle"))
    css = "".join(f".k{i}{{stroke:{c}}}" for i, c in enumerate(_LIGHT_LINES))
    dark = "".join(f".k{i}{{stroke:{c}}}" for i, c in enumerate(_DARK_LINES))
    none = f" Without data: {', '.join(absent)}." if absent else ""
    told = ", ".join(CHINESE.again(text) or text if isinstance(text, OwnName) else text for text in names)
    chinese = CHINESE("Precision over recall for {names}.", names=told or CHINESE("no curve"))
    chinese += (CHINESE.again(subtitle) or "") if subtitle else ""
    if absent:
        chinese += CHINESE("Without data: {names}.", names=", ".join(absent))
    return document(
        width,
        max(top + 320 + 54, top + 12 + 22 * len(shown)),
        "".join(parts),
        title=shorten(title, 120),
        description=f"Precision over recall for {', '.join(names) or 'no curve'}. {subtitle}{none}".strip(),
        zh=chinese,
        css=f"{css}@media(prefers-color-scheme:dark){{{dark}}}",
    )


def _line(panel: Panel, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    """A path through the points that are there, at most one a pixel; a lone point becomes a short dash."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        there = np.isfinite(xs) & np.isfinite(ys) & (ys >= 0)
    runs: list[list[str]] = []
    previous = -2
    for i in np.flatnonzero(there).tolist():
        x, y = min(1.0, max(0.0, float(xs[i]))), min(1.0, float(ys[i]))
        spot = f"{num(round(panel.x(x) * 2) / 2)} {num(round(panel.y(y) * 2) / 2)}"
        if i != previous + 1:
            runs.append([spot])
        elif runs[-1][-1] != spot:
            runs[-1].append(spot)
        previous = i
    return "".join(f"M{run[0]}L{' '.join(run[1:])}" if len(run) > 1 else f"M{run[0]}h2" for run in map(_straight, runs))


def _straight(spots: list[str]) -> list[str]:
    """Leave out the points inside a horizontal or vertical stretch: precision steps have many."""
    if len(spots) < 3:
        return spots
    places = [spot.split() for spot in spots]
    keep = [spots[0]]
    for k, (before, after) in enumerate(zip(places, places[2:], strict=False), start=1):
        here = places[k]
        level = before[1] == here[1] == after[1] and float(before[0]) <= float(here[0]) <= float(after[0])
        if not level:
            keep.append(spots[k])
    return [*keep, spots[-1]]


def lowest(values: np.ndarray) -> NDArray[np.intp]:
    """Indices of the ``MAX_BARS`` lowest values, lowest first; of all, in their order, where there are no more.

    Args:
        values: (C,) finite numbers.
    """
    import numpy as np

    if len(values) <= MAX_BARS:
        return np.arange(len(values))
    return np.argsort(values, kind="stable")[:MAX_BARS]


def per_class_svg(
    labels: Sequence[str],
    values: Sequence[float | None],
    *,
    title: str,
    total: int | None = None,
    absent: str = "undefined",
) -> str:
    """Draw one horizontal bar a class, on a scale from 0 to 1.

    Args:
        labels: Class names, C of them.
        values: C numbers; None or a non-finite number where the value is undefined. A number outside 0 to 1 ends
            at the edge, its text tells the value. Above ``MAX_BARS`` the lowest are shown, and the subtitle says so.
        title: Title of the plot.
        total: How many classes there are, where these are the ``lowest`` of them.
        absent: What stands where there is no number.

    Returns:
        An SVG document.

    Raises:
        AutoScorerError: ``SCORER_ERROR`` when the lengths differ.
    """
    if len(labels) != len(values):
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"Values by class need one value a label, got {len(values)} for {len(labels)} labels.",
        )
    bars = [
        (label, float(value) if value is not None and math.isfinite(value) else None)
        for label, value in zip(labels, values, strict=True)
    ]
    undefined = sum(value is None for _, value in bars)
    subtitle = ""
    classes = max(len(labels), total or 0)
    if classes > MAX_BARS:
        bars = sorted(bars, key=lambda bar: (bar[1] is None, bar[1] or 0.0))[:MAX_BARS]
        subtitle = f"The {MAX_BARS} lowest of {classes:,} classes."
    if undefined:
        subtitle += f"{' ' if subtitle else ''}{undefined:,} {absent}."
    names = [shorten(label, 28) for label, _ in bars]
    left = 30 + max((text_width(name, 12) for name in names), default=0.0)
    length, step = 360.0, 24 if len(bars) <= 20 else 20
    width = left + length + 84
    head, top = heading(shorten(title, 120), subtitle, width)
    top += 4
    bottom = top + step * len(bars)
    grid = "".join(f"M{num(left + length * tenth / 10)} {num(top)}V{num(bottom)}" for tenth in range(0, 11, 2))
    parts = [head]
    track, filled = [], []
    for k, ((_, value), name) in enumerate(zip(bars, names, strict=True)):
        y = top + k * step
        bar, middle = step - 8, y + step / 2 + 4
        parts.append(svg_name(left - 8, middle, name, 12, anchor="end"))
        if value is None:
            parts.append(svg_words(left + 8, middle, absent, 12, css="mu", extra='font-style="italic"'))
            continue
        reach = length * min(1.0, max(0.0, value))
        track.append(f"M{num(left)} {num(y + 4)}h{num(length)}v{bar}h-{num(length)}z")
        if reach > 0:
            filled.append(f"M{num(left)} {num(y + 4)}h{num(reach)}v{bar}h-{num(reach)}z")
        parts.append(svg_text(left + length + 10, middle, _value(value), 12))
    parts.insert(1, f'<path class="tr" d="{"".join(track)}"/>' if track else "")
    parts.insert(2, f'<path class="gr" fill="none" d="{grid}"/>')
    parts.insert(3, f'<path class="a" d="{"".join(filled)}"/>' if filled else "")
    for tenth in range(0, 11, 2):
        at = left + length * tenth / 10
        parts.append(svg_text(at, bottom + 18, num(tenth / 10), 11, css="mu", anchor="middle"))
    defined = [value for _, value in bars if value is not None]
    summary = f" Shown: from {_value(min(defined))} to {_value(max(defined))}." if defined else ""
    return document(
        width,
        bottom + 34,
        "".join(parts),
        title=shorten(title, 120),
        description=f"{len(bars)} classes. {subtitle}{summary}".replace(".  ", ". ").strip(),
    )


def _value(value: float) -> str:
    if 0 <= value < 1e5 and value >= 5e-4:
        return f"{value:.3f}"
    return "0" if value == 0 else f"{value:.3g}".replace("-", "−", 1)
