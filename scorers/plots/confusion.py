"""The confusion matrix as a heatmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...core.errors import AutoScorerError, ErrorCode
from .svg import (
    LEVELS,
    document,
    heading,
    num,
    ramp_css,
    shorten,
    svg_name,
    svg_text,
    svg_words,
    text_width,
    words_width,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..metrics.confusion import ConfusionMatrix

__all__ = ["MAX_CLASSES", "confusion_matrix_svg", "counted_confusion_svg"]

MAX_CLASSES = 40


def confusion_matrix_svg(labels: Sequence[str], matrix: np.ndarray, *, note: str = "") -> str:
    """Draw a confusion matrix: counts as numbers, the share of the true class as colour.

    Correct cells are blue and mistakes orange, so that a few mistakes still stand out. Above ``MAX_CLASSES`` the
    classes with the most mistakes are shown, and the subtitle says so; the colours still are shares of all rows
    of the true class.

    Args:
        labels: Class names, C of them.
        matrix: (C, C), counts or weights: rows are the true class, columns the predicted one.
        note: What the counts are, in place of how many rows there are.

    Returns:
        An SVG document.

    Raises:
        AutoScorerError: ``SCORER_ERROR`` when the shapes do not fit.
    """
    import numpy as np

    counts = np.asarray(matrix, dtype=np.float64)
    if counts.shape != (len(labels), len(labels)):
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"A confusion matrix of {len(labels)} labels must be {len(labels)} × {len(labels)}, got {counts.shape}.",
        )
    # Sums of all cells must stay finite too.
    counts = np.where(np.isfinite(counts) & (counts > 0), np.minimum(counts, 1e200), 0.0)
    n, totals, hits = len(counts), counts.sum(axis=1), np.diag(counts)
    if n <= MAX_CLASSES:
        return _shaded(labels, counts, totals, note or _whole(n, counts.sum()))
    chosen = _most_confused(counts.sum(axis=0) + totals - 2 * hits)
    shown = counts[np.ix_(chosen, chosen)]
    subtitle = note or _part(n, counts.sum(), mistakes=counts.sum() - hits.sum(), between=shown.sum() - shown.trace())
    return _shaded([labels[i] for i in chosen], shown, totals[chosen], subtitle)


def counted_confusion_svg(matrix: ConfusionMatrix) -> str:
    """Draw a counted confusion matrix, of however many classes: what it says is true of all of them.

    Args:
        matrix: The counts.

    Returns:
        An SVG document, as ``confusion_matrix_svg``.
    """
    n = len(matrix.labels)
    if n <= MAX_CLASSES:
        return confusion_matrix_svg(matrix.labels, matrix.dense())
    # Never all cells of many classes: a million classes have 10^12.
    chosen = _most_confused(matrix.truth + matrix.predicted - 2 * matrix.hits)
    shown = matrix.dense(chosen).astype(float)
    mistakes = matrix.n - int(matrix.hits.sum())
    subtitle = _part(n, matrix.n, mistakes=mistakes, between=shown.sum() - shown.trace())
    return _shaded([matrix.labels[i] for i in chosen], shown, matrix.truth[chosen].astype(float), subtitle)


def _most_confused(mistakes: NDArray[np.number]) -> NDArray[np.intp]:
    """Indices of the classes to show, in their order."""
    import numpy as np

    order: NDArray[np.intp] = np.sort(np.argsort(-mistakes, kind="stable")[:MAX_CLASSES])
    return order


def _whole(n: int, rows: float) -> str:
    return f"{_rows(rows)}, {n} {'class' if n == 1 else 'classes'}. Colour: share of the true class."


def _part(n: int, rows: float, *, mistakes: float, between: float) -> str:
    covered = f" {100 * between / mistakes:.0f} % of all mistakes are between them." if mistakes > 0 else ""
    return (
        f"The {MAX_CLASSES} most confused of {n:,} classes; {_rows(rows)} in all.{covered} "
        "Colour: share of the true class."
    )


def _rows(count: float) -> str:
    return f"{_count(count)} {'row' if count == 1 else 'rows'}"


def _shaded(labels: Sequence[str], shown: NDArray[np.float64], totals: NDArray[np.float64], subtitle: str) -> str:
    """Draw these cells, coloured by their share of ``totals``, all rows of each true class."""
    import numpy as np

    shares = np.divide(shown, totals[:, None], out=np.zeros_like(shown), where=totals[:, None] > 0)
    # Up to the next tenth: whatever is not zero can be seen.
    levels = np.clip(np.ceil(shares * LEVELS - 1e-9), (shown > 0).astype(float), LEVELS).astype(int)
    return _draw(labels, shown, shares, levels, subtitle)


def _draw(
    labels: Sequence[str],
    counts: NDArray[np.float64],
    shares: NDArray[np.float64],
    levels: NDArray[np.int_],
    subtitle: str,
) -> str:
    n = len(labels)
    cell = max(22, min(96, 560 // max(n, 1)))
    label_size = 12 if n <= 20 else 11
    names = [shorten(label, 24) for label in labels]
    longest = max((text_width(name, label_size) for name in names), default=0.0)
    left = 50 + longest
    width = max(460.0, left + n * cell + 24)
    head, top = heading("Confusion matrix", subtitle, width)
    top += 6
    upright = all(text_width(name, label_size) <= cell - 4 for name in names)
    bottom = top + n * cell
    under = bottom + (22 if upright else 14 + (longest + label_size) * 0.72)
    parts = [head]

    # One path a colour and one group of numbers a colour: small files even for 40 classes.
    fills: dict[str, list[str]] = {}
    numbers: dict[str, list[str]] = {}
    compact = cell < 40
    texts = {(i, j): _count(counts[i, j], compact=compact) for i, j in zip(*counts.nonzero(), strict=True)}
    widest = max((len(text) for text in texts.values()), default=1)
    size = max(6.5, min(15.0, (cell - 4) / (0.6 * widest)))
    percents = cell >= 56
    for (i, j), text in texts.items():
        key = f"{'b' if i == j else 'o'}{levels[i, j]}"
        x, y = left + j * cell, top + i * cell
        fills.setdefault(key, []).append(f"M{num(x)} {num(y)}h{cell}v{cell}h-{cell}z")
        middle = y + cell / 2 + (-1 if percents else size * 0.36)
        numbers.setdefault(key, []).append(f'<text x="{num(x + cell / 2)}" y="{num(middle)}">{text}</text>')
        if percents:
            numbers[key].append(
                f'<text x="{num(x + cell / 2)}" y="{num(middle + 15)}" font-size="11">{_percent(shares[i, j])}</text>'
            )
    parts.append(f'<rect class="tr" x="{num(left)}" y="{num(top)}" width="{n * cell}" height="{n * cell}"/>')
    parts += [f'<path class="{key}" d="{"".join(paths)}"/>' for key, paths in sorted(fills.items())]
    grid = "".join(
        f"M{num(left + k * cell)} {num(top)}v{n * cell}M{num(left)} {num(top + k * cell)}h{n * cell}"
        for k in range(1, n)
    )
    if grid:
        parts.append(f'<path class="ln" fill="none" d="{grid}"/>')
    parts += [
        f'<g class="{key[0]}t{key[1:]}" font-size="{num(size)}" text-anchor="middle">{"".join(items)}</g>'
        for key, items in sorted(numbers.items())
    ]
    for k, name in enumerate(names):
        centre = (k + 0.5) * cell
        parts.append(svg_name(left - 8, top + centre + label_size * 0.35, name, label_size, anchor="end"))
        x, y = left + centre, bottom + 16
        if upright:
            parts.append(svg_name(x, y, name, label_size, anchor="middle"))
        else:
            x += label_size * 0.35
            turn = f'transform="rotate(-45 {num(x)} {num(y)})"'
            parts.append(svg_name(x, y, name, label_size, anchor="end", extra=turn))
    side = top + n * cell / 2
    turn = f'transform="rotate(-90 26 {num(side)})"'
    parts.append(svg_words(26, side, "True class", 12, css="mu", anchor="middle", extra=turn))
    parts.append(svg_words(left + n * cell / 2, under + 16, "Predicted class", 12, css="mu", anchor="middle"))
    parts.append(_legend(20, under + 42))
    wrong = float(counts.sum() - counts.trace())
    ramps = {kind: list(range(1, LEVELS + 1)) for kind in "bo"}
    css = ".ln{stroke:#fff;stroke-width:1}@media(prefers-color-scheme:dark){.ln{stroke:#161b22}}"
    return document(
        width,
        under + 64,
        "".join(parts),
        title="Confusion matrix",
        description=f"{subtitle} Shown: {_count(float(counts.trace()))} correct, {_count(wrong)} mistaken.",
        css=css + "".join(ramp_css(kind, used) for kind, used in ramps.items()),
    )


def _legend(x: float, y: float) -> str:
    parts = []
    for kind, name in (("b", "correct"), ("o", "mistaken")):
        parts.append(svg_words(x, y + 4, name, 11, css="mu"))
        x += words_width(name, 11) + 8
        for level in range(1, LEVELS + 1):
            parts.append(f'<rect class="{kind}{level}" x="{num(x)}" y="{num(y - 6)}" width="10" height="12"/>')
            x += 10
        parts.append(svg_text(x + 6, y + 4, "100 %", 11, css="mu"))
        x += 66
    return "".join(parts)


def _percent(share: float) -> str:
    """A share as a percentage that never rounds to a plain 0 or 100 when it is not."""
    if 0 < share < 0.001:
        return "&lt;0.1 %"
    if 0.999 < share < 1:
        return "&gt;99.9 %"
    return f"{100 * share:.1f} %" if share < 1 else "100 %"


def _count(value: float, *, compact: bool = False) -> str:
    """A count with thousands separators, or in three or four characters where there is no room."""
    if value != int(value):
        return f"{value:.3g}"
    if not compact and value < 1e9:
        return f"{int(value):,}"
    if value < 1000:
        return str(int(value))
    for power, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        scaled = value / power
        if scaled < 9.95:
            return f"{scaled:.1f}{unit}"
        if scaled < 999.5:
            return f"{scaled:.0f}{unit}"
    return f"{value:.0e}".replace("e+", "e")
