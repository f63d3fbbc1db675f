"""What the plots are made of: safe text, colours, and the SVG document around them.

Hand-written SVG: no plotting library is imported, the files are small, and the same input gives the same bytes.
Labels come from strangers, so every text passes ``svg_text``; the numbers in attributes are formatted here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape

from ...core.text import visible
from ..translation.words import in_chinese

__all__ = [
    "LEVELS",
    "OwnName",
    "document",
    "heading",
    "num",
    "ramp_css",
    "shorten",
    "svg_name",
    "svg_text",
    "svg_words",
    "text_width",
    "words_width",
    "wrap",
]

_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"

# Characters per pixel of font size: the mean advance of the system fonts, rounded up.
_ADVANCE = 0.57

_LIGHT = {
    "bg": "fill:#fff",
    "tx": "fill:#14171c",
    "mu": "fill:#59616e",
    "gr": "stroke:#e4e8ee",
    "ax": "stroke:#aab3c0",
    "rf": "stroke:#59616e",
    "a": "fill:#2166ac",
    "al": "stroke:#2166ac",
    "tr": "fill:#edf0f4",
}
_DARK = {
    "bg": "fill:#161b22",
    "tx": "fill:#e8ebf0",
    "mu": "fill:#9aa4b2",
    "gr": "stroke:#262d37",
    "ax": "stroke:#4a5464",
    "rf": "stroke:#9aa4b2",
    "a": "fill:#5aa2e6",
    "al": "stroke:#5aa2e6",
    "tr": "fill:#222933",
}

# Sequential ramps, lightest first in light mode; blue against orange is told apart by every kind of colour vision.
_RAMPS = {
    "b": (((222, 235, 247), (107, 167, 218), (8, 64, 129)), ((26, 46, 71), (40, 104, 170), (158, 202, 245))),
    "o": (((254, 232, 211), (245, 152, 76), (158, 60, 4)), ((66, 40, 20), (172, 84, 20), (255, 190, 128))),
}
LEVELS = 10


def _columns(text: str) -> int:
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def text_width(text: str, size: float) -> float:
    """Estimated width of ``text`` in pixels at font size ``size``; East Asian wide characters count twice."""
    return _columns(text) * size * _ADVANCE


class OwnName(str):
    """A name of ours among names of the submission's, such as that of a mean: it is told in both languages."""


def shorten(label: object, columns: int) -> str:
    """``label`` made printable and cut to ``columns`` with an ellipsis; an empty one is named."""
    text = visible(label)
    if not text.strip():
        return OwnName("(empty)" if not text else "(blank)")
    # Combining marks have no width of their own: a pile of them must end too.
    if len(text) <= 4 * columns and _columns(text) <= columns:
        return OwnName(text) if isinstance(label, OwnName) else text
    kept: list[str] = []
    room = columns - 1
    for char in text[: 4 * columns]:
        room -= _columns(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def num(value: float) -> str:
    """A coordinate: at most one decimal, no exponent, no ``-0``."""
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def svg_text(
    x: float,
    y: float,
    text: str,
    size: float = 12,
    *,
    css: str = "tx",
    anchor: str = "",
    extra: str = "",
    zh: str | None = None,
) -> str:
    """A ``<text>`` element; the text is made printable and escaped.

    Args:
        x: Pixels.
        y: Pixels, of the baseline.
        text: Any text.
        size: Font size in pixels.
        css: Class; empty to inherit the fill.
        anchor: ``middle`` or ``end``; start otherwise.
        extra: Further attributes, from us and not from data (``transform="…"``).
        zh: The same in Chinese: an element of its own, which shows where the root says ``lang="zh-CN"``.
    """
    if zh is not None and zh != text:
        here = {"size": size, "anchor": anchor}
        english = svg_text(x, y, text, css=f"{css} en".strip(), extra=extra, **here)  # type: ignore[arg-type]
        hidden = f'display="none" {extra}'.strip()
        return english + svg_text(x, y, zh, css=f"{css} zh".strip(), extra=hidden, **here)  # type: ignore[arg-type]
    kind = f' class="{css}"' if css else ""
    where = f' text-anchor="{anchor}"' if anchor else ""
    more = f" {extra}" if extra else ""
    return (
        f'<text x="{num(x)}" y="{num(y)}" font-size="{num(size)}"{kind}{where}{more}>'
        f"{escape(visible(text), quote=False)}</text>"
    )


def svg_name(
    x: float, y: float, name: str, size: float = 12, *, css: str = "tx", anchor: str = "", extra: str = ""
) -> str:
    """``svg_text`` of a name of the submission's, as it is; one of ours among them (``OwnName``) in both languages."""
    draw = svg_words if isinstance(name, OwnName) else svg_text
    return draw(x, y, name, size, css=css, anchor=anchor, extra=extra)


def svg_words(
    x: float, y: float, text: str, size: float = 12, *, css: str = "tx", anchor: str = "", extra: str = ""
) -> str:
    """``svg_text`` of words of ours: in both languages, where the table has them. Never for a label."""
    return svg_text(x, y, text, size, css=css, anchor=anchor, extra=extra, zh=in_chinese(text))


def words_width(text: str, size: float) -> float:
    """The width of words of ours in the language in which they are wider."""
    return max(text_width(text, size), text_width(in_chinese(text) or "", size))


def wrap(text: str, width: float, size: float, *, between: str = " ") -> list[str]:
    """Break ``text`` at spaces into lines of at most ``width`` pixels (estimated).

    Args:
        text: Any text.
        width: Pixels.
        size: Font size in pixels.
        between: What stands between its words; empty for Chinese, which breaks anywhere.
    """
    lines: list[str] = []
    for word in text.split(" ") if between else text:
        if lines and text_width(f"{lines[-1]}{between}{word}", size) <= width:
            lines[-1] += f"{between}{word}"
        else:
            lines.append(word)
    return lines


def document(
    width: float, height: float, body: str, *, title: str, description: str, css: str = "", zh: str = ""
) -> str:
    """The SVG file around ``body``: a card with its own background, fine on light and on dark pages.

    Args:
        width: Pixels.
        height: Pixels.
        body: Elements.
        title: Accessible name.
        description: What the picture shows, in words.
        css: Further rules.
        zh: The description in Chinese, where the table does not have it word by word.
    """
    chinese = zh or in_chinese(description)
    # Shown in Chinese when the root element says so: a report puts it there.
    css += "svg:lang(zh) .zh{display:inline}svg:lang(zh) .en{display:none}"
    light = "".join(f".{name}{{{rule}}}" for name, rule in _LIGHT.items())
    dark = "".join(f".{name}{{{rule}}}" for name, rule in _DARK.items())
    w, h = num(width), num(height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
        f'font-family="{_FONT}">'
        f"<title>{escape(visible(title), quote=False)}</title>"
        f"<desc>{escape(visible(description), quote=False)}</desc>"
        + (f'<desc lang="zh-CN">{escape(visible(chinese), quote=False)}</desc>' if chinese else "")
        + f"<style>{light}{css}@media(prefers-color-scheme:dark){{{dark}}}</style>"
        f'<rect class="bg" width="{w}" height="{h}" rx="8" fill="#fff"/>{body}</svg>\n'
    )


def heading(title: str, subtitle: str, width: float, *, left: float = 20) -> tuple[str, float]:
    """Title and wrapped subtitle at the top of a plot.

    Returns:
        The elements, and the y below them.
    """
    y = 30.0
    parts = []
    for text, size, most, step, css, extra in (
        (title, 16.0, 3, 21, "tx", 'font-weight="600"'),
        (subtitle, 12.5, 5, 17, "mu", ""),
    ):
        chinese = in_chinese(text)
        wide = size + 1 if size == 16 else size
        lines = wrap(text, width - 2 * left, wide)[:most] if text else []
        ours = wrap(chinese, width - 2 * left, wide, between="")[:most] if chinese else []
        for number in range(max(len(lines), len(ours))):
            here = {"css": css, "extra": extra}
            if not ours:
                parts.append(svg_text(left, y, lines[number], size, **here))
            else:
                english, other = (each[number] if number < len(each) else "" for each in (lines, ours))
                parts.append(svg_text(left, y, english, size, zh=other, **here))
            y += step
    return "".join(parts), y


def _blend(stops: Sequence[tuple[int, int, int]], share: float) -> tuple[int, int, int]:
    low, high, part = (stops[0], stops[1], share * 2) if share < 0.5 else (stops[1], stops[2], share * 2 - 1)
    r, g, b = (round(a + (c - a) * part) for a, c in zip(low, high, strict=True))
    return r, g, b


def _luminance(rgb: tuple[int, int, int]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ramp_css(kind: str, levels: Sequence[int]) -> str:
    """Rules for the levels of a ramp: ``.b7`` fills with level 7, ``.bt7`` is the text that reads on it.

    Args:
        kind: ``b`` (blue) or ``o`` (orange).
        levels: Levels in use, each 1 to ``LEVELS``.

    Returns:
        CSS for light, followed by a media block for dark.
    """
    blocks = []
    for stops in _RAMPS[kind]:
        rules = []
        for level in levels:
            rgb = _blend(stops, (level - 1) / (LEVELS - 1))
            # Black where it contrasts better than white; the better of the two is always at least 4.58.
            ink = "#000" if _luminance(rgb) > 0.1791 else "#fff"
            rules.append(f".{kind}{level}{{fill:#{rgb[0]:02x}{rgb[1]:02x}{rgb[2]:02x}}}.{kind}t{level}{{fill:{ink}}}")
        blocks.append("".join(rules))
    return f"{blocks[0]}@media(prefers-color-scheme:dark){{{blocks[1]}}}"
