"""Predicted against true values, and the residuals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...core.errors import AutoScorerError, ErrorCode
from .axes import Panel
from .svg import LEVELS, document, heading, num, ramp_css, svg_text, svg_words, words_width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "coarse_residual_svg", "residual_svg"]

MAX_POINTS = 2000
_LARGEST = 1e150  # beyond it, differences and squares of values overflow
_BIN = 6  # pixels
_STRIDE = 1 << 15  # rows that are drawn at a time: arrays of all of them take more memory than the table
_WIDTH, _HEIGHT = 336, 300


def residual_svg(truth: np.ndarray, predicted: np.ndarray) -> str:
    """Draw two panels: predicted against true values with the diagonal, and residuals against predictions.

    Above ``MAX_POINTS`` rows the panels show how many rows fall into each small cell (logarithmic colour) in place
    of points, so that the file stays small and no region is painted over.

    Args:
        truth: (N,) true values.
        predicted: (N,) predicted values in the same order. The residual is true minus predicted.

    Returns:
        An SVG document.

    Raises:
        AutoScorerError: ``SCORER_ERROR`` when the shapes differ.
    """
    import numpy as np

    y, p = np.asarray(truth, dtype=np.float64).ravel(), np.asarray(predicted, dtype=np.float64).ravel()
    if y.shape != p.shape:
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR, f"A residual plot needs as many predictions as truths, got {p.size} and {y.size}."
        )
    with np.errstate(invalid="ignore"):
        keep = (np.abs(y) <= _LARGEST) & (np.abs(p) <= _LARGEST)
    left_out = int(y.size - keep.sum())
    if left_out:
        y, p = y[keep], p[keep]
    residual = y - p
    binned = y.size > MAX_POINTS

    both = _limits(np.array([y.min(), y.max(), p.min(), p.max()]) if y.size else y)
    far = float(np.abs(residual).max(initial=0.0))
    spread = _limits(np.array([-far, far]))
    top = 84
    first = Panel(0, top, _WIDTH, _HEIGHT, both, both)
    first = Panel(24 + first.label_room(), top, _WIDTH, _HEIGHT, both, both)
    second = Panel(0, top, _WIDTH, _HEIGHT, _limits(p), spread)
    second = Panel(first.left + _WIDTH + 40 + second.label_room(), top, _WIDTH, _HEIGHT, second.xlim, second.ylim)
    width = second.left + _WIDTH + 24

    subtitle = f"{y.size:,} rows" + (", counted in small cells" if binned else "")
    subtitle += f"; {left_out:,} too large or not finite left out." if left_out else "."
    head, _ = heading("Predictions and residuals", subtitle, width)
    parts = [head, first.frame("true value", "predicted value"), second.frame("predicted value", "true − predicted")]
    css = ".pt{stroke-opacity:.6}"
    most = 0
    for panel, xs, ys in ((first, y, p), (second, p, residual)):
        if binned:
            drawn, count = _density(panel, xs, ys)
            most = max(most, count)
        else:
            drawn = _points(panel, xs, ys)
        parts.append(drawn)
    parts.append(_no_error(first, second))
    height = top + _HEIGHT + 54.0
    if binned:
        css = ramp_css("b", range(1, LEVELS + 1))
        parts.append(_legend(24, height + 4, most))
        height += 24
    root_mean_square = math.sqrt(float(np.mean((residual / far) ** 2))) * far if far else 0.0
    return document(
        width,
        height,
        "".join(parts),
        title="Predictions and residuals",
        description=(
            f"{subtitle} Left: predicted against true values, dashed where they are equal. Right: true minus "
            f"predicted, against the predicted value; root mean square {root_mean_square:.4g}, largest {far:.4g}."
        ),
        css=css,
    )


def coarse_residual_svg(truth: np.ndarray, predicted: np.ndarray, min_count: int) -> str:
    """Draw the same two panels so that they tell nothing of few rows, for those who may not see the ground truth.

    Rows are counted in cells whatever their number, a column of cells being a group of rows that whoever chose the
    predictions knows (``coarse.protected``). The axes follow from means over all rows, rounded to two digits, and
    not from the outermost rows: what lies beyond is not drawn.

    Args:
        truth: (N,) true values.
        predicted: (N,) predicted values in the same order.
        min_count: Cells of fewer rows are not drawn, and counts are in steps of it.

    Returns:
        An SVG document.
    """
    import numpy as np

    y, p = np.asarray(truth, dtype=np.float64).ravel(), np.asarray(predicted, dtype=np.float64).ravel()
    keep = (np.abs(y) <= _LARGEST) & (np.abs(p) <= _LARGEST)
    y, p = y[keep], p[keep]
    residual = y - p
    centre, spread = _rounded_spread(y)
    both = (centre - 3 * spread, centre + 3 * spread)
    around = 3 * _rounded_spread(residual, centre=0.0)[1]
    top = 84
    first = Panel(0, top, _WIDTH, _HEIGHT, both, both)
    first = Panel(24 + first.label_room(), top, _WIDTH, _HEIGHT, both, both)
    second = Panel(0, top, _WIDTH, _HEIGHT, both, (-around, around))
    left = first.left + _WIDTH + 40 + second.label_room()
    second = Panel(left, top, _WIDTH, _HEIGHT, both, (-around, around))
    # Predictions run along x in both: a column of cells is then a group of rows that were chosen together.
    cells = [_density(panel, p, ys, min_count=min_count) for panel, ys in ((first, y), (second, residual))]
    most = max(count for _, count in cells)
    if not most:
        subtitle = f"There are too few rows for a plot: no cell of it holds {min_count} that may be shown."
    elif min_count <= 1:
        subtitle = "Counted in cells. Rows far out are not drawn."
    else:
        subtitle = f"Counted in cells, in steps of {min_count}. Cells of fewer rows and rows far out are not drawn."
    width = second.left + _WIDTH + 24
    head, _ = heading("Predictions and residuals", subtitle, width)
    parts = [head, first.frame("predicted value", "true value"), second.frame("predicted value", "true − predicted")]
    parts += [drawn for drawn, _ in cells]
    parts.append(_no_error(first, second))
    height = top + _HEIGHT + 54.0
    if most:
        parts.append(_legend(24, height + 4, most, least=min_count))
        height += 24
    return document(
        width,
        height,
        "".join(parts),
        title="Predictions and residuals",
        description=f"{subtitle} Left: true against predicted values, dashed where they are equal. Right: true minus "
        "predicted, against the predicted value.",
        css=ramp_css("b", range(1, LEVELS + 1)),
    )


def _no_error(first: Panel, second: Panel) -> str:
    """Where rows without an error lie: on the first panel's diagonal, at the second one's zero."""
    return (
        f'<path class="rf" fill="none" stroke-width="1.3" stroke-dasharray="5 4" '
        f'd="M{num(first.left)} {num(first.top + _HEIGHT)}L{num(first.left + _WIDTH)} {first.top}'
        f'M{num(second.left)} {num(second.y(0.0))}H{num(second.left + _WIDTH)}"/>'
    )


def _rounded_spread(values: NDArray[np.float64], *, centre: float | None = None) -> tuple[float, float]:
    """Mean (unless it is given) and root mean square distance from it, to two digits: means of all rows, no row's."""
    import numpy as np

    if not values.size:
        return 0.0, 1.0
    scale = float(np.abs(values).max()) or 1.0
    middle = float((values / scale).mean()) * scale if centre is None else centre
    spread = math.sqrt(float(np.mean(((values - middle) / scale) ** 2))) * scale
    spread = float(f"{spread:.1e}") if spread > abs(middle) * 1e-9 else abs(middle) * 0.05
    spread = max(spread, 1e-150)
    if centre is None:  # to a tenth of the spread
        step = 10.0 ** math.floor(math.log10(spread))
        middle = round(middle / step) * step
    return middle, spread if spread > 1e-150 else 1.0


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """The range of ``values`` with a margin, wide enough to be drawn even if they are all the same."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if largest < 1e-150:
        return -1.0, 1.0
    if high - low <= largest * 1e-9:
        margin = largest * 0.05
        return low - margin, high + margin
    margin = (high - low) * 0.04
    return low - margin, high + margin


def _axes(
    panel: Panel, xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels relative to the panel's top left corner."""
    across = (xs - panel.xlim[0]) / (panel.xlim[1] - panel.xlim[0]) * panel.width
    return across, (panel.ylim[1] - ys) / (panel.ylim[1] - panel.ylim[0]) * panel.height


def _points(panel: Panel, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    """Round dots, as zero-length strokes: a tenth of the bytes of circles.

    Six paths of half-transparent dots, so that where many overlap it shows.
    """
    import numpy as np

    px, py = _axes(panel, xs, ys)
    spots = np.unique(np.column_stack([np.round(px, 1), np.round(py, 1)]), axis=0)
    size = 4.5 if len(spots) > 200 else 6.5
    out = []
    for part in range(6):
        d = "".join(f"M{num(panel.left + x)} {num(panel.top + y)}h0" for x, y in spots[part::6].tolist())
        if d:
            out.append(f'<path class="al pt" fill="none" stroke-width="{size}" stroke-linecap="round" d="{d}"/>')
    return "".join(out)


def _density(
    panel: Panel, xs: NDArray[np.float64], ys: NDArray[np.float64], *, min_count: int | None = None
) -> tuple[str, int]:
    """Counts in square cells, one path a colour; neighbours of one colour are joined.

    With ``min_count``, counts are protected in their columns, and points outside of the panel are left out.

    Returns:
        The paths, and the largest count.
    """
    import numpy as np

    # Few rows are in a small cell, and cells of few rows are not drawn.
    size = _BIN if min_count is None else 2 * _BIN
    columns, rows = int(panel.width // size), int(panel.height // size)
    cells, group = np.zeros(rows * columns, np.int64), np.zeros(columns, np.int64)
    for at in range(0, len(xs), _STRIDE):
        px, py = _axes(panel, xs[at : at + _STRIDE], ys[at : at + _STRIDE])
        ix = np.clip(px / size, 0, columns - 1).astype(np.int64)
        iy = np.clip(py / size, 0, rows - 1).astype(np.int64)
        if min_count is not None:
            # Those beyond the edges above and below still are rows of their column's group.
            across, inside = (px >= 0) & (px <= panel.width), (py >= 0) & (py <= panel.height)
            group += np.bincount(ix[across], minlength=columns)
            ix, iy = ix[across & inside], iy[across & inside]
        cells += np.bincount(iy * columns + ix, minlength=rows * columns)
    counts = cells.reshape(rows, columns)
    if min_count is not None:
        from ..metrics.coarse import protected

        counts = protected(counts, group, min_count)
    most = int(counts.max(initial=0))
    with np.errstate(divide="ignore"):
        share = np.log(counts) / math.log(most) if most > 1 else np.zeros(counts.shape)
    levels = np.where(counts > 0, 1 + np.floor(np.clip(share, 0, 1) * (LEVELS - 1) + 1e-9), 0).astype(int)
    paths: dict[int, list[str]] = {}
    for r in range(rows):
        line = levels[r]
        edges = np.flatnonzero(np.diff(line, prepend=-1))
        for start, end in zip(edges.tolist(), [*edges[1:].tolist(), columns], strict=True):
            if line[start]:
                w = (end - start) * size
                where = f"M{num(panel.left + start * size)} {num(panel.top + r * size)}"
                paths.setdefault(int(line[start]), []).append(f"{where}h{w}v{size}h-{w}z")
    drawn = "".join(f'<path class="b{level}" d="{"".join(paths[level])}"/>' for level in sorted(paths))
    return f'<g shape-rendering="crispEdges">{drawn}</g>', most


def _legend(x: float, y: float, most: int, *, least: int = 1) -> str:
    name = "rows in a cell (logarithmic)"
    parts = [svg_words(x, y + 4, name, 11, css="mu")]
    x += words_width(name, 11) + 10
    parts.append(svg_text(x, y + 4, f"{least:,}", 11, css="mu"))
    x += 4 + 8 * len(f"{least:,}")
    for level in range(1, LEVELS + 1):
        parts.append(f'<rect class="b{level}" x="{num(x)}" y="{num(y - 6)}" width="14" height="12"/>')
        x += 14
    parts.append(svg_text(x + 6, y + 4, f"{most:,}", 11, css="mu"))
    return "".join(parts)
