"""The samples of which two tasks say something else, found by their ids."""

from __future__ import annotations

from ..schemas.comparison import Change, SampleChanges, SamplePair
from ..schemas.samples import Sample
from .task_samples import KeptSamples, place_of, shortened

__all__ = ["changes_between"]

_ORDER: dict[Change, int] = {"lost": 0, "gained": 1, "other": 2}


def changes_between(
    a: KeptSamples, b: KeptSamples, *, change: Change | None = None, limit: int, cursor: str | None = None
) -> SampleChanges:
    """One page of the samples that are kept of both and differ.

    Args:
        a: Samples of the one task.
        b: Samples of the other.
        change: Only those.
        limit: Most of them.
        cursor: ``next_cursor`` of the page before.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave.
    """
    start = place_of(cursor)
    of_b = {sample.id: sample for sample in b.samples}
    both = [(sample, of_b[sample.id]) for sample in a.samples if sample.id in of_b]
    valued = a.measure == b.measure
    pairs = [(kind, one, other) for one, other in both if (kind := _change(one, other, valued=valued)) is not None]
    # By the id alone within a kind, so that the order is the same whichever of the two comes first.
    pairs.sort(key=lambda each: (_ORDER[each[0]], each[1].id))
    counts = {kind: sum(1 for each in pairs if each[0] == kind) for kind in _ORDER}
    found = [each for each in pairs if change is None or each[0] == change]
    end = start + limit
    return SampleChanges(
        kept_a=len(a.samples),
        total_a=a.total,
        kept_b=len(b.samples),
        total_b=b.total,
        compared=len(both),
        gained=counts["gained"],
        lost=counts["lost"],
        other=counts["other"],
        measure=a.measure if valued else None,
        found=len(found),
        samples=[
            SamplePair(id=one.id, change=kind, a=shortened(one), b=shortened(other))
            for kind, one, other in found[start:end]
        ],
        next_cursor=str(end) if end < len(found) else None,
    )


def _change(a: Sample, b: Sample, *, valued: bool) -> Change | None:
    """What became of a sample; with ``valued`` the values of both mean the same."""
    if a.verdict is not None and b.verdict is not None and a.verdict != b.verdict:
        return "gained" if b.verdict == "right" else "lost"
    # What is expected counts as well: two ground truths may say something else of one id.
    is_same = (a.predicted, a.expected) == (b.predicted, b.expected)
    if valued:
        is_same = is_same and (a.value, a.metrics) == (b.value, b.metrics)
    return None if is_same else "other"
