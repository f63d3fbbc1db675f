"""What a scoring of tables keeps of each row, for whoever looks at rows, or at those in which two Results differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.sample_file import ARTIFACT, FILE, Measure, SampleFile, pack
from ..core.workspace import ArtifactWriter
from .tables.aligned import AlignedTable
from .tables.arrays import Floats

__all__ = ["MAX_SAMPLES", "RowValues", "write_samples"]

# Rows that are kept. Beyond them writing would take longer than scoring; decision 0029 has the measurements.
MAX_SAMPLES = 5_000
# Characters of an id: a longer one is no name that a person goes by. And of a label, which is cut.
_LONGEST = 1000
# Characters of ids and labels together, and rows that are read at a time: neither may take more memory than the table.
_MOST_TEXT = 8 * 1024**2
_TOGETHER = 1000
# Rows that are looked through at a time.
_STRIDE = 1 << 16


@dataclass(frozen=True, slots=True)
class RowValues:
    """What a scorer says of each row.

    Args:
        measure: What the values are.
        values: Of all rows, shape (n,).
    """

    measure: Measure
    values: Floats


def write_samples(writer: ArtifactWriter, table: AlignedTable, given: RowValues | None = None) -> None:
    """samples.json.gz: rows with truth and prediction; the wrong ones first, else the worst. At most 5,000 of them.

    Which ones are kept does not depend on the order of the files.

    Args:
        writer: Of the workspace.
        table: What was compared.
        given: What the scorer says of each row. Where all of it is 0 or 1 that is right or wrong; without it labels are
            right where they are equal, and numbers have their absolute error.
    """
    is_right = _verdicts(table, given)
    if given is None and table.values == "number":
        given = _absolute_errors(table)
    places = _order(is_right, given)
    kept = SampleFile(total=len(table), ids=[], expected=[], predicted=[])
    if table.values == "text":
        kept.labels = []
    if is_right is not None:
        kept.verdicts, kept.right = [], int(np.count_nonzero(is_right))
    if given is not None:
        kept.measure, kept.values = given.measure, []
    known: dict[int, int] = {}
    room = _MOST_TEXT
    for start in range(0, len(places), _TOGETHER):
        some = places[start : start + _TOGETHER]
        ids = table.ids_at(some)
        room -= sum(map(len, ids))
        if any(len(each) > _LONGEST for each in ids):
            fit = [at for at, each in enumerate(ids) if len(each) <= _LONGEST]
            ids, some = [ids[at] for at in fit], some[fit]
        room -= _add(kept, table, some, known)
        kept.ids += ids
        if kept.verdicts is not None and is_right is not None:
            kept.verdicts += is_right[some].tolist()
        if kept.values is not None and given is not None:
            kept.values += [value if math.isfinite(value) else None for value in given.values[some].tolist()]
        if room < 0:
            break
    writer.write(ARTIFACT, FILE, pack(kept), rows=len(kept.ids), rows_total=kept.total)


def _absolute_errors(table: AlignedTable) -> RowValues:
    with np.errstate(over="ignore"):
        sizes = np.abs(table.truth_numbers - table.prediction_numbers)
    return RowValues(Measure("absolute_error", higher_is_better=False), sizes)


def _verdicts(table: AlignedTable, given: RowValues | None) -> NDArray[np.bool_] | None:
    if given is not None:
        ones: NDArray[np.bool_] = given.values == 1.0
        if (ones | (given.values == 0.0)).all():
            return ones if given.measure.higher_is_better else ~ones
    if table.values == "text":
        equal: NDArray[np.bool_] = table.truth_codes == table.prediction_codes
        return equal
    return None


def _order(is_right: NDArray[np.bool_] | None, given: RowValues | None) -> NDArray[np.intp]:
    """Where the rows are that are kept: the wrong ones first, of these and of the right ones the worst first."""
    if is_right is not None:
        wrong = _first(is_right, False, MAX_SAMPLES)
        return np.concatenate([wrong, _first(is_right, True, MAX_SAMPLES - len(wrong))])
    assert given is not None
    badness = -given.values if given.measure.higher_is_better else given.values
    if len(badness) > MAX_SAMPLES:
        # Without an order of all of them, which would take longer than all else.
        least = np.partition(badness, len(badness) - MAX_SAMPLES)[len(badness) - MAX_SAMPLES]
        worse = np.flatnonzero(badness > least)
        places = np.sort(np.concatenate([worse, np.flatnonzero(badness == least)[: MAX_SAMPLES - len(worse)]]))
    else:
        places = np.arange(len(badness))
    return places[np.argsort(-badness[places], kind="stable")]


def _first(flags: NDArray[np.bool_], wanted: bool, most: int) -> NDArray[np.intp]:
    """Where the first flags of a kind are. A list of all of them would take eight times the memory of the flags."""
    found: list[NDArray[np.intp]] = []
    for start in range(0, len(flags), _STRIDE):
        some = np.flatnonzero(flags[start : start + _STRIDE] == wanted)[:most] + start
        found.append(some)
        most -= len(some)
        if most == 0:
            break
    return np.concatenate([np.zeros(0, np.intp), *found])


def _add(kept: SampleFile, table: AlignedTable, places: NDArray[np.intp], known: dict[int, int]) -> int:
    """Add truth and prediction of some rows; how many characters of labels that took."""
    if kept.labels is None:
        kept.expected += table.truth_numbers[places].tolist()
        kept.predicted += table.prediction_numbers[places].tolist()
        return 0
    taken = 0
    columns: tuple[tuple[list[Any], NDArray[np.integer]], ...] = (
        (kept.expected, table.truth_codes),
        (kept.predicted, table.prediction_codes),
    )
    for column, codes in columns:
        for code in codes[places].tolist():
            place = known.setdefault(code, len(known))
            if place == len(kept.labels):
                label = table.labels[code]
                label = label if len(label) <= _LONGEST else label[:_LONGEST] + "…"
                kept.labels.append(label)
                taken += len(label)
            column.append(place)
    return taken
