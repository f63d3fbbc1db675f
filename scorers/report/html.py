"""The few pieces of HTML and of number formatting that the report is made of; all text is escaped here."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from ...core.text import visible
from ...core.workspace import SHARED
from ..translation.words import ENGLISH, Language

__all__ = [
    "as_served",
    "data",
    "definitions",
    "duration",
    "label",
    "link",
    "number",
    "scale_of",
    "size",
    "table",
    "text",
]

_LONGEST = 300
_ARTIFACTS = "output/artifacts"

# Metrics that live between 0 and 1 (or -1 and 1), by the words in their names. Only the drawing depends on it.
_UNIT = frozenset(
    "accuracy acc auc auroc auprc roc ap map ar mar precision recall f f1 fbeta dice iou miou jaccard ndcg mrr hit "  # noqa: SIM905
    "sensitivity specificity r2 brier".split()
)
_SIGNED = frozenset(["mcc", "kappa", "pearson", "spearman", "kendall", "correlation", "silhouette", "ari"])
_OPEN = frozenset(["rmse", "mse", "mae", "loss", "error", "errors", "count", "n", "seconds", "time", "logloss"])


def text(value: object, *, longest: int = _LONGEST, keep: str = "") -> str:
    """Any value as escaped, visible text, cut at ``longest`` characters."""
    whole = value if isinstance(value, str) else str(value)
    shown = visible(whole[:longest], keep=keep)
    if len(whole) > longest:
        shown = f"{shown[: longest - 1].rstrip()}…"
    return escape(shown)


def label(value: object, *, longest: int = _LONGEST, say: Language = ENGLISH) -> str:
    """A name from outside: escaped, and isolated so that its writing direction stays its own."""
    shown = text(value, longest=longest)
    return f"<bdi>{shown}</bdi>" if shown.strip() else f'<span class="muted">{say("(empty)")}</span>'


def number(value: float) -> str:
    """A metric for reading: four decimals, or four digits where that would hide it."""
    if value == 0:
        return "0"
    size_ = abs(value)
    if value == int(value) and 2 <= size_ < 1e15:
        shown = f"{int(value):,}"
    elif size_ >= 1e6 or size_ < 1e-3:
        shown = f"{value:.4g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    elif size_ >= 10:
        shown = f"{value:,.{max(1, 4 - len(str(int(size_))) + 1)}f}"
    else:
        shown = f"{value:.4f}"
        if shown in ("1.0000", "-1.0000") and size_ != 1:
            shown = f"{value:.8f}".rstrip("0")  # 0.99996 is not 1
            shown = shown if float(shown) not in (1.0, -1.0) else repr(value)
    return shown.replace("-", "−", 1) if value < 0 else shown


def data(value: float | None, say: Language = ENGLISH) -> str:
    """A number with its full precision as the machine-readable value; undefined where it is None."""
    if value is None:
        return f'<span class="muted">{say("undefined")}</span>'
    return f'<data value="{value!r}" title="{value!r}">{number(value)}</data>'


def duration(seconds: float, say: Language = ENGLISH) -> str:
    """Seconds for reading."""
    if seconds < 0.001:
        return say("< 1 ms") if seconds > 0 else say("{count} s", count=0)
    if seconds < 0.9995:
        return say("{count} ms", count=f"{seconds * 1000:.0f}")
    if seconds < 59.95:
        return say("{count} s", count=f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2f}")
    whole = round(seconds)
    if whole < 3600:
        return say("{minutes} min {seconds} s", minutes=whole // 60, seconds=f"{whole % 60:02d}")
    return say("{hours} h {minutes} min", hours=whole // 3600, minutes=f"{whole % 3600 // 60:02d}")


def size(count: int) -> str:
    """Bytes for reading, in powers of 1024."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:,.1f} TiB"


def as_served(path: str) -> str:
    """A shared artifact's path is that of the complete one, at whose address it is served."""
    return path.replace(f"{_ARTIFACTS}/{SHARED}/", f"{_ARTIFACTS}/", 1)


def link(path: str) -> str | None:
    """The relative address of a workspace path, seen from ``output/artifacts/``; None when it leaves the workspace.

    The address always begins with a dot and has every other special character percent-encoded, so it can be
    neither a scheme (``javascript:``) nor another host (``//host``).
    """
    path = as_served(path)
    clean = posixpath.normpath(path)
    if not path or "\\" in path or clean.startswith(("/", "..")) or any(ord(c) < 32 for c in path):
        return None
    relative = posixpath.relpath(f"/{clean}", f"/{_ARTIFACTS}")
    address = quote(relative.encode("utf-8", "replace"), safe="/")
    return address if address.startswith("../") else f"./{address}"


def table(
    head: Sequence[tuple[str, bool]],
    rows: Iterable[Sequence[str]],
    *,
    name: str,
    main: bool = False,
    tall: bool = False,
    caption: str = "",
) -> str:
    """A table in a frame that scrolls on its own, so that the page never does sideways.

    Args:
        head: Header (HTML) of each column, and whether its cells are numbers.
        rows: Cells (HTML); the first of each row is its header.
        name: Accessible name of the scrolling frame (text).
        main: Emphasise the first row.
        tall: Also limit the height.
        caption: Text above the table.
    """
    numeric = [is_number for _, is_number in head]
    out = [
        f'<div class="scroll{" tall" if tall else ""}" role="region" aria-label="{escape(name)}" tabindex="0"><table>'
    ]
    if caption:
        out.append(f"<caption>{escape(caption)}</caption>")
    out.append("<thead><tr>")
    out += [f'<th scope="col" class="{"n" if is_number else "t"}">{title}</th>' for title, is_number in head]
    out.append("</tr></thead><tbody>")
    for k, row in enumerate(rows):
        out.append('<tr class="main">' if main and k == 0 else "<tr>")
        out.append(f'<th scope="row">{row[0]}</th>')
        out += [
            f'<td class="{"n" if is_number else "cell"}">{cell}</td>'
            for cell, is_number in zip(row[1:], numeric[1:], strict=True)
        ]
        out.append("</tr>")
    out.append("</tbody></table></div>")
    return "".join(out)


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A definition list of (term, HTML); terms are escaped."""
    items = "".join(f"<dt>{text(term)}</dt><dd>{value}</dd>" for term, value in pairs)
    return f"<dl>{items}</dl>" if items else ""


def value(item: Any) -> str:
    """A JSON value as HTML: plain where it is plain, preformatted where it has structure or lines."""
    if isinstance(item, bool) or item is None or isinstance(item, (int, float)):
        return f"<code>{text(json.dumps(item))}</code>"
    if isinstance(item, str):
        return f"<pre>{text(item, longest=20_000, keep=_LINES)}</pre>" if "\n" in item else label(item, longest=2000)
    if isinstance(item, list) and item and all(isinstance(line, str) for line in item):
        if max(map(len, item)) <= 40 and len(item) <= 40:
            return ", ".join(label(line) for line in item)
        return lines(item)
    return (
        f"<pre>{text(json.dumps(item, ensure_ascii=False, indent=1, default=str), longest=20_000, keep=_LINES)}</pre>"
    )


def lines(items: Sequence[str]) -> str:
    """Lines of a log, the last 200 of them."""
    return f"<pre>{text(chr(10).join(items[-200:]), longest=40_000, keep=_LINES)}</pre>"


_LINES = "\n\t"


def scale_of(metric: str, values: Sequence[float]) -> tuple[float, float] | None:
    """The scale a metric lives on, where its name tells and its values agree.

    Args:
        metric: Name, such as ``f1_macro`` or ``AP50``.
        values: The score and the ends of its interval.

    Returns:
        ``(0, 1)``, ``(-1, 1)``, or None for an open scale (an RMSE).
    """
    words = re.findall(r"f1|r2|[a-z]+", re.sub(r"([a-z])([A-Z][a-z])", r"\1_\2", metric).lower())
    if _OPEN.intersection(words):
        return None
    for known, limits in ((_UNIT, (0.0, 1.0)), (_SIGNED, (-1.0, 1.0))):
        if known.intersection(words) and all(limits[0] <= v <= limits[1] for v in values):
            return limits
    return None
