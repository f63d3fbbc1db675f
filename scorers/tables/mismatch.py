"""Why two files do not have the same ids: what is missing, extra and repeated, counted and with the first few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError, ErrorCode
from .columns import LongIds, texts_of
from .id_order import Rows, SqueezedIds, sort_hashed, strides
from .packing import Words

__all__ = ["chained", "mismatch", "words_of"]

_FEW = 5
_KINDS = ("missing", "extra", "duplicates_in_ground_truth", "duplicates_in_predictions")


class _Chained:
    """A word of both files' ids, one file after the other, without a copy of them."""

    def __init__(self, first: Words, second: Words) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, places: slice | NDArray[np.integer]) -> Words:
        rows = np.arange(*places.indices(len(self))) if isinstance(places, slice) else places
        out = np.empty(len(rows), np.uint64)
        mine = rows < len(self._first)
        out[mine] = self._first[rows[mine]]
        out[~mine] = self._second[rows[~mine] - len(self._first)]
        return out


def chained(words: Sequence[Words], others: Sequence[Words]) -> list[Words]:
    return [_Chained(*pair) for pair in zip(words, others, strict=True)]  # type: ignore[misc]


class _Expanded:
    """One of the words that a squeezed id was made of."""

    def __init__(self, source: SqueezedIds, number: int) -> None:
        self._source, self._number = source, number

    def __len__(self) -> int:
        return len(self._source.heads)

    def __getitem__(self, places: slice | NDArray[np.integer]) -> Words:
        return self._source.words_at(places)[self._number]


def words_of(source: SqueezedIds) -> list[Words]:
    return [_Expanded(source, number) for number in range(source.count)]  # type: ignore[misc]


class _Tally:
    """Ids of one kind: how many, and the first few of them in text order."""

    def __init__(self) -> None:
        self.count = 0
        self.few: Rows = np.zeros(0, np.uint32)

    def add(self, words: Sequence[Words], rows: Rows) -> None:
        if len(rows):
            self.count += len(rows)
            rows = np.concatenate([self.few, rows])
            self.few = rows[_smallest(words, rows)]


def _tally(words: Sequence[Words], truths: int) -> dict[str, _Tally]:
    """Count what is missing, extra and repeated over both files, whose ids stand one after the other."""
    total = len(words[0]) if words else 0
    order, _ = sort_hashed(words, max(total, 2).bit_length())
    tallies = {name: _Tally() for name in _KINDS}
    # The id that the last part ended with: its row, and how often it occurs in either file.
    leader, carried = np.zeros(0, np.uint32), np.zeros((2, 0), np.int64)
    for part in strides(total):
        rows = order[part]
        values = [word[np.concatenate([leader, rows])] for word in words]
        fresh = np.zeros(len(rows), np.bool_)
        for value in values:
            fresh |= value[1:] != value[:-1] if len(leader) else np.r_[True, value[1:] != value[:-1]]
        group = np.cumsum(fresh) - (0 if len(leader) else 1)
        leaders = np.concatenate([leader, rows[fresh]])
        in_truth, in_predictions = (
            np.bincount(group[chosen], minlength=len(leaders)) for chosen in (rows < truths, rows >= truths)
        )
        in_truth[: len(leader)] += carried[0]
        in_predictions[: len(leader)] += carried[1]
        # Whether the last one goes on is not known before the next part.
        last = len(leaders) if part.stop == total else len(leaders) - 1
        leader, carried = leaders[last:], np.stack([in_truth[last:], in_predictions[last:]])
        leaders, in_truth, in_predictions = leaders[:last], in_truth[:last], in_predictions[:last]
        for name, rows_of in (
            ("missing", (in_truth > 0) & (in_predictions == 0)),
            ("extra", (in_truth == 0) & (in_predictions > 0)),
            ("duplicates_in_ground_truth", in_truth > 1),
            ("duplicates_in_predictions", in_predictions > 1),
        ):
            tallies[name].add(words, leaders[rows_of])
    return tallies


def mismatch(
    words: Sequence[Words],
    truths: int,
    long_ids: LongIds,
    names: tuple[str, str],
    *,
    complete: bool = True,
    rows: tuple[int, int] | None = None,
) -> AutoScorerError:
    """Tell what is missing, extra and repeated over both files, whose ids stand one after the other.

    Args:
        words: Their ids.
        truths: How many of them are the ground truth's.
        long_ids: The store of long ids.
        names: What to call the files; the second one is empty where there is one file alone.
        complete: Whether the predictions were read to their end. Else what they lack is not known.
        rows: The rows of either file, where ``words`` holds fewer.
    """
    truth_name, name = names
    total = len(words[0]) if words else 0
    truth_rows, prediction_rows = rows or (truths, total - truths)
    wording = {
        "missing": f"missing from {name}",
        "extra": f"in {name} but not in {truth_name}",
        "duplicates_in_ground_truth": f"more than once in {truth_name}",
        "duplicates_in_predictions": f"more than once in {name}",
    }
    details: dict[str, object] = {"ground_truth_rows": truth_rows, "prediction_rows": prediction_rows if name else None}
    if not complete:
        details["read_to_end"] = False
    parts = []
    for kind, tally in _tally(words, truths).items():
        if kind == "missing" and not (name and complete):
            tally = _Tally()
        few = texts_of([word[tally.few] for word in words], long_ids)
        shown = [text if len(text) <= 80 else text[:80] + "…" for text in few]
        if kind != "missing" or complete:
            details[kind] = {"count": tally.count, "first": shown}
        if shown:
            dots = ", …" if tally.count > len(shown) else ""
            parts.append(f"{tally.count:,} {wording[kind]} ({', '.join(map(repr, shown))}{dots})")
    found = "; ".join(parts)
    if not complete:
        return AutoScorerError(
            ErrorCode.MISMATCH,
            f"{name} has more rows than {truth_name}, which has {truth_rows:,}: expected one row for each of its ids. "
            f"Reading stopped after {prediction_rows:,} rows; so far, ids {found}.",
            details=details,
        )
    expected = f"Expected {truth_name} and {name} to hold the same ids, each once" if name else "Expected each id once"
    return AutoScorerError(ErrorCode.MISMATCH, f"{expected}. Ids {found}.", details=details)


def _smallest(words: Sequence[Words], rows: Rows) -> NDArray[np.intp]:
    """Where in ``rows`` the first few ids in text order stand."""
    sure: list[NDArray[np.intp]] = []
    tied = np.arange(len(rows))
    for word in words:
        wanted = _FEW - sum(map(len, sure))
        if len(tied) <= wanted:
            break
        values = word[rows[tied]]
        limit = np.partition(values, wanted - 1)[wanted - 1]
        sure.append(tied[values < limit])
        tied = tied[values == limit]
    places = np.concatenate([*sure, tied])
    order = np.lexsort([word[rows[places]] for word in reversed(words)])
    return places[order][:_FEW]
