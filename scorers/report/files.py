"""The sections of the report that show files of ``output/artifacts/``: plots, errors.csv, the list of files."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Mapping
from html import unescape
from math import isfinite
from pathlib import Path

from ...core.errors import AutoScorerError
from ...core.workspace import open_regular
from ...schemas.result import Artifact
from ..translation.words import Language
from .html import as_served, label, link, number, size, table, text

__all__ = ["errors", "figures", "listing"]

MAX_PLOT = 1 << 20  # bytes of one picture
MAX_PLOTS = 12
MAX_ROWS, MAX_COLUMNS, MAX_CELL = 20, 12, 120
_READ = 1 << 18  # bytes of errors.csv that are looked at
_SLIM = 480  # pixels of width that fit a phone


def figures(artifacts: Mapping[str, Artifact], workspace: Path, say: Language) -> str:
    """The SVG artifacts, embedded as images: a script or a link inside one is dead there."""
    shown: list[str] = []
    for name, artifact in artifacts.items():
        if not artifact.path.endswith(".svg") or len(shown) == MAX_PLOTS:
            continue
        content = _read(workspace, artifact.path, MAX_PLOT + 1)
        if content is None or len(content) > MAX_PLOT:
            continue
        described = (
            (say.words and _found(rb'<desc lang="zh-CN">([^<]{1,2000})</desc>', content))
            or _found(rb"<desc>([^<]{1,2000})</desc>", content)
            or _found(rb"<title>([^<]{1,300})</title>", content)
        )
        if say.words and content.startswith(b"<svg xmlns="):  # one of ours, which holds both languages
            content = content.replace(b"<svg ", f'<svg lang="{say.code}" '.encode(), 1)
        width = re.search(rb'^<svg [^>]{0,300}?\bwidth="(\d{1,5})', content)
        slim = ' class="slim"' if width and int(width[1]) <= _SLIM else ""
        address = link(artifact.path)
        source = f"data:image/svg+xml;base64,{base64.b64encode(content).decode('ascii')}"
        picture = f'<img{slim} alt="{text(described or name, longest=2000)}" src="{source}">'
        title = label(artifact.path.rsplit("/", 1)[-1])
        # On a telephone a large picture keeps its size, so that its words can be read; half of it is beyond the edge.
        more = "" if slim else f'<p class="sideways">{say("Scroll sideways to see the whole.")}</p>'
        caption = f'<figcaption><a href="{address}">{title}</a></figcaption>' if address else ""
        shown.append(f"{more}<figure>{picture}{caption}</figure>")
    if not shown:
        return ""
    return f'<section class="card"><h2>{say("Plots")}</h2><div class="figures">{"".join(shown)}</div></section>'


def _found(pattern: bytes, content: bytes) -> str:
    match = re.search(pattern, content[:8192])
    return unescape(match[1].decode("utf-8", "replace")) if match else ""


def errors(artifacts: Mapping[str, Artifact], workspace: Path, say: Language) -> str:
    """The first rows of errors.csv."""
    item = next((item for item in artifacts.values() if item.path.rsplit("/", 1)[-1] == "errors.csv"), None)
    content = _read(workspace, item.path, _READ) if item is not None else None
    if item is None or not content:
        return ""
    decoded = content.decode("utf-8-sig", "replace").replace("\0", "\ufffd")
    whole = len(content) < _READ
    rows: list[list[str]] = []
    try:
        for row in csv.reader(decoded.splitlines(keepends=True)):
            rows.append(row)
            if len(rows) > MAX_ROWS + 1:
                break
        else:
            # Cut off in the middle of a row.
            rows = rows if whole else rows[:-1]
    except csv.Error:
        whole = False
    if len(rows) < 2 or not rows[0]:
        return ""
    head, body = rows[0][:MAX_COLUMNS], [row for row in rows[1 : MAX_ROWS + 1] if row]
    more = not whole or len(rows) > MAX_ROWS + 1
    width = len(head)
    # Of regression, all but the id are numbers; elsewhere a label may look like one, and stays as it is.
    rounded = "residual" in head
    cells = (
        [
            _rounded(cell) if rounded and column else label(cell, longest=MAX_CELL, say=say)
            for column, cell in enumerate((row + [""] * width)[:width])
        ]
        for row in body
    )
    lead = _lead(item, len(body), say, more=more)
    return (
        f'<section class="card"><h2>{say("Errors")}</h2><p class="muted small">{lead}</p>'
        + table([(label(name, longest=MAX_CELL), False) for name in head], cells, name=say("Errors"))
        + "</section>"
    )


def _lead(item: Artifact, shown: int, say: Language, *, more: bool) -> str:
    """How many rows are shown, of how many, and where the others are."""
    address, rows, total = link(item.path), item.rows, item.rows_total
    if total is not None and rows is not None and shown < total:
        one, several = "The first row of {total}.", "The first {count} rows of {total}."
        lead = say(one, total=f"{total:,}") if shown == 1 else say(several, count=shown, total=f"{total:,}")
        if rows < total:
            file = f'<a href="{address}">errors.csv</a>' if address else "errors.csv"
            held = say(
                "{file} holds the first {count} of {total}.", file="{file}", count=f"{rows:,}", total=f"{total:,}"
            )
            return f"{lead} {held.replace('{file}', file)}"
    else:
        one = "The first row of errors.csv." if more else "1 row, from errors.csv."
        several = "The first {count} rows of errors.csv." if more else "{count} rows, from errors.csv."
        lead = say(one) if shown == 1 else say(several, count=shown)
    return f'{lead} <a href="{address}">{say("All of them")}</a>.' if more and address else lead


def _rounded(cell: str) -> str:
    try:
        value = float(cell)
    except ValueError:
        return label(cell, longest=MAX_CELL)
    return f'<span title="{text(cell, longest=MAX_CELL)}">{number(value)}</span>' if isfinite(value) else label(cell)


def listing(artifacts: Mapping[str, Artifact], workspace: Path, say: Language) -> str:
    """The files, with relative links."""
    if not artifacts:
        return ""
    rows = []
    for name, artifact in artifacts.items():
        address = link(artifact.path)
        shown = label(as_served(artifact.path).removeprefix("output/artifacts/"))
        count = artifact.size if artifact.size is not None else _size(workspace, artifact.path)
        digest = artifact.sha256 or ""
        short = text(digest[:12]) + ("…" if len(digest) > 12 else "")
        rows.append(
            [
                label(name),
                f'<a href="{address}">{shown}</a>' if address else shown,
                size(count) if count is not None else "",
                f'<span class="mono" title="{text(digest)}">{short}</span>',
            ]
        )
    head = [(say("Name"), False), (say("File"), False), (say("Size"), True), ("sha256", False)]
    return f'<section class="card"><h2>{say("Artifacts")}</h2>{table(head, rows, name=say("Artifacts"))}</section>'


def _inside(workspace: Path, path: str) -> Path | None:
    """The file, if it lies in ``output/artifacts/`` once every link is followed."""
    if "\0" in path:
        return None
    try:
        root = workspace.resolve()
        parent = (root / path).parent.resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return parent / Path(path).name if parent.is_relative_to(root / "output" / "artifacts") else None


def _read(workspace: Path, path: str, most: int) -> bytes | None:
    file = _inside(workspace, path)
    if file is None:
        return None
    try:
        with open_regular(file) as opened:
            return opened.read(most)
    except (AutoScorerError, OSError, ValueError):
        return None


def _size(workspace: Path, path: str) -> int | None:
    file = _inside(workspace, path)
    try:
        return file.lstat().st_size if file is not None else None
    except (OSError, ValueError):
        return None
