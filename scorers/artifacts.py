"""What scorers of tables write beside their Result: CSV files, the errors, the matrix that submitters may see."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.spreadsheet import safe_cell
from ..core.workspace import ArtifactWriter
from .metrics.coarse import CoarseMatrix
from .tables.aligned import AlignedTable
from .tables.arrays import Floats

__all__ = ["MAX_ERROR_ROWS", "csv_text", "share_matrix", "write_errors"]

MAX_ERROR_ROWS = 1000
_MAX_CELL = 1000  # characters


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV text, quoted where needed; floats as Python writes them, so that they read back exactly.

    Labels and ids are a submitter's text: one that a spreadsheet would run gets an apostrophe in front (``safe_cell``),
    and one of more than 1,000 characters is cut.
    """
    lines: list[str] = []
    # With an LF alone as the line's end, the csv module would leave a CR inside of a cell unquoted.
    writer = csv.writer(_Lines(lines), lineterminator="\r\n")
    writer.writerow(map(safe_cell, header))
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return "".join(lines)


def _cell(value: object) -> object:
    if isinstance(value, str) and len(value) > _MAX_CELL:
        value = value[:_MAX_CELL] + "…"
    return safe_cell(value)


class _Lines:
    """Takes the csv module's lines, and ends them in LF."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, line: str) -> None:
        self._lines.append(line.removesuffix("\r\n") + "\n")


def write_errors(writer: ArtifactWriter, table: AlignedTable) -> None:
    """errors.csv: rows whose label is wrong, in id order; or the largest errors first. At most 1,000 of them.

    The artifact says how many there are in all. Which ones are kept does not depend on the order of the files.
    """
    if table.values == "number":
        with np.errstate(over="ignore"):
            residual = table.truth_numbers - table.prediction_numbers
        worst = _largest(residual)
        total, kept = len(residual), len(worst)
        columns = (table.truth_numbers[worst], table.prediction_numbers[worst], residual[worst])
        rows = zip(table.ids_at(worst), *(column.tolist() for column in columns), strict=True)
        text = csv_text(("id", "truth", "prediction", "residual"), rows)
    else:
        wrong = np.flatnonzero(table.truth_codes != table.prediction_codes)
        total, wrong = len(wrong), wrong[:MAX_ERROR_ROWS]
        kept = len(wrong)
        truth, prediction = (
            [table.labels[code] for code in codes[wrong].tolist()]
            for codes in (table.truth_codes, table.prediction_codes)
        )
        text = csv_text(("id", "truth", "prediction"), sorted(zip(table.ids_at(wrong), truth, prediction, strict=True)))
    writer.write("errors", "errors.csv", text, rows=kept, rows_total=total)


def _largest(residual: Floats) -> NDArray[np.intp]:
    """Where the largest errors are, the largest first, of equal ones the first first."""
    sizes = np.abs(residual)
    if len(sizes) > MAX_ERROR_ROWS:
        # Without an order of all of them, which would take more memory than the table.
        least = np.partition(sizes, len(sizes) - MAX_ERROR_ROWS)[len(sizes) - MAX_ERROR_ROWS]
        larger = np.flatnonzero(sizes > least)
        places = np.sort(np.concatenate([larger, np.flatnonzero(sizes == least)[: MAX_ERROR_ROWS - len(larger)]]))
    else:
        places = np.arange(len(sizes))
    return places[np.argsort(-sizes[places], kind="stable")]


def share_matrix(writer: ArtifactWriter, coarse: CoarseMatrix, *, plot_only: bool = False) -> None:
    """Write confusion_matrix.json, confusion_matrix.svg, per_class.csv and per_class.svg as they may be shown.

    Args:
        writer: Of the workspace.
        coarse: The matrix.
        plot_only: Of these only confusion_matrix.svg, as scorers of one's own write it.
    """
    from .plots import curves_and_bars as plots
    from .plots.svg import OwnName

    svg = plots.confusion_matrix_svg([*coarse.labels, OwnName("(all others)")], coarse.counts, note=coarse.note())
    writer.share("confusion_matrix_plot", "confusion_matrix.svg", svg)
    if plot_only:
        return
    names: Sequence[str | None] = [*coarse.labels, None]
    content = {
        "format": "coarse",
        "step": coarse.min_count,
        "note": coarse.note() + " A label of null stands for them.",
        "labels": names,
        "matrix": coarse.counts.tolist(),
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    writer.share("confusion_matrix", "confusion_matrix.json", text)
    shown = (
        [None if value != value else value for value in column.tolist()]
        for column in (coarse.precision, coarse.recall, coarse.f1)
    )
    rows = zip(coarse.labels, *shown, coarse.support.tolist(), strict=True)
    writer.share("per_class", "per_class.csv", csv_text(("label", "precision", "recall", "f1", "support"), rows))
    title = "F1 by class, from counts in steps"
    svg = plots.per_class_svg(coarse.labels, coarse.f1.tolist(), title=title, absent="not shown: too few rows")
    writer.share("per_class_plot", "per_class.svg", svg)
