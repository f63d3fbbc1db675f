"""Which detection found which box: COCO's greedy matching for one area range, in numpy.

The engines give curves, not matches. Matches are needed for the interval and for the table of errors, so
they are made here by the reference's rules (pycocotools' ``evaluateImg``), for all images, categories and
thresholds at once: within a *cell* (an image and a category) detections choose in order of their scores, and
cells can't disturb each other, so the n-th choice of every cell is one vectorised step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tables.arrays import Bools, Floats, Ints
from .coco import Detections, Truth

__all__ = ["Matches", "Pairs", "Ranking", "find_pairs", "match", "rank"]


# Pairs of boxes compared at a time: few enough for the processor's cache.
_CHUNK = 30_000
# The reference's guard against an IoU of 1 that comes out a bit below it.
_ALMOST_ONE = 1 - 1e-10


@dataclass(frozen=True, eq=False)
class Ranking:
    """The E detections that an evaluation looks at, in the reference's order, and what that order hides."""

    order: Ints  # (E,) positions in Detections: by category, then score (best first), then image, then file
    by_cell: Ints  # (E,) positions in ``order``: by image, then category, then score, then file
    place: Ints  # (E,) place of each detection of ``order`` among those of its cell, from 0
    over_cap: int  # detections left out
    tied: int  # detections of one category that share their score


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of E ranked detections to N boxes at T thresholds, for one area range."""

    box: NDArray[np.int32]  # (T, E) matched position in Truth, or -1
    counted: Bools  # (N,) boxes that count: no crowd, and in the area range
    in_range: Bools  # (E,) detections whose area is in the range

    def at(self, t: int) -> tuple[Ints, Bools]:
        """Hits at threshold ``t`` as positions in the ranking, and which detections (E,) are right or wrong at all.

        Neither right nor wrong are those on a box that does not count, and unmatched ones out of the area range.
        """
        matched = np.flatnonzero(self.box[t] >= 0)
        right = self.counted[self.box[t, matched]] if len(matched) else np.zeros(0, np.bool_)
        shown = self.in_range.copy()
        shown[matched] = right
        return matched[right], shown


def rank(truth: Truth, detections: Detections, max_dets: int) -> Ranking:
    """Order detections as the reference does, and leave out those over the cap.

    Args:
        truth: For the number of categories.
        detections: The detections.
        max_dets: Cap for each cell; the best scores stay, of equal ones the first in the file.
    """
    image, category, scores = detections.image, detections.category, detections.scores
    order = _narrow(image).argsort(kind="stable")
    order = order[(-scores[order]).argsort(kind="stable")]
    order = order[_narrow(category[order]).argsort(kind="stable")]
    c, s = category[order], scores[order]
    same = (c[1:] == c[:-1]) & (s[1:] == s[:-1])
    tied = np.zeros(len(order), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    # A stable sort by image leaves categories, and scores within them, in order.
    by_cell = _narrow(image[order]).argsort(kind="stable")
    place = np.empty(len(order), np.int64)
    place[by_cell] = _place_in_run(_cells(truth, image, category)[order[by_cell]])
    kept = place < max_dets
    over = int(len(order) - kept.sum())
    if over:
        order, place = order[kept], place[kept]
        by_cell = _narrow(image[order]).argsort(kind="stable")
    return Ranking(order, by_cell, place, over, int(tied.sum()))


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of a detection and a box of its cell, by cell, then by score, then by the box's place in the file."""

    detection: Ints  # (P,) positions in the ranking
    box: Ints  # (P,) positions in Truth
    iou: Floats  # (P,)
    cell: Ints  # (P,)
    best_iou: Floats  # (E,) of each ranked detection with any box of its cell, 0 without one


def find_pairs(truth: Truth, detections: Detections, ranking: Ranking, lowest_iou: float) -> Pairs:
    """Every detection with every box of its cell from an IoU of ``lowest_iou`` on."""
    best_iou = np.zeros(len(ranking.order))
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for detection, box, iou in _pairs(truth, detections, ranking):
        starts = _run_starts(detection)
        best_iou[detection[starts]] = np.maximum.reduceat(iou, starts)
        near = iou >= min(lowest_iou, _ALMOST_ONE)
        found.append((detection[near], box[near], iou[near]))
    detection, box, iou = (np.concatenate(columns) for columns in zip(*found, strict=True))
    cells = _cells(truth, truth.image, truth.category)
    return Pairs(detection, box, iou, cells[box] if len(box) else box, best_iou)


def match(
    truth: Truth,
    detections: Detections,
    ranking: Ranking,
    pairs: Pairs,
    iou_thresholds: Sequence[float] | Floats,
    area_ranges: Iterable[tuple[float, float]],
) -> Iterator[Matches]:
    """Match detections to boxes as the reference does, for one area range after the other.

    Args:
        truth: N boxes.
        detections: The detections.
        ranking: Of ``rank``, for the same two.
        pairs: Of ``find_pairs``, from the lowest threshold or below.
        iou_thresholds: (T,) IoU that a match needs at least.
        area_ranges: Boxes of an area (pixels²) out of it are ignored, and so are unmatched detections.
    """
    thresholds = np.minimum(np.asarray(iou_thresholds, np.float64), _ALMOST_ONE)
    area = detections.boxes[ranking.order, 2] * detections.boxes[ranking.order, 3]
    starts = _run_starts(pairs.detection)
    cell = _run_numbers(pairs.cell)
    box = np.full((len(thresholds), len(ranking.order)), -1, np.int32)
    swayed_before: Bools | None = None
    for low, high in area_ranges:
        counted = ~(truth.crowd | (truth.area < low) | (truth.area > high))
        # What counts sways a choice only where a detection has candidates of both kinds. Cells without such a
        # detection, here and in the range before, keep their matches.
        if len(starts):
            counts = counted[pairs.box]
            both = np.logical_or.reduceat(counts, starts) & ~np.logical_and.reduceat(counts, starts)
            swayed = np.zeros(cell[-1] + 1, np.bool_)
            swayed[cell[starts[both]]] = True
            anew = np.ones(len(cell), np.bool_) if swayed_before is None else (swayed | swayed_before)[cell]
            swayed_before = swayed
            if anew.any():
                box = box.copy()
                box[:, pairs.detection[anew]] = -1
                part = pairs.detection[anew], pairs.box[anew], pairs.iou[anew], pairs.cell[anew]
                _choose(*part, thresholds, truth.crowd, counted, box)
        yield Matches(box, counted, (area >= low) & (area <= high))


def _pairs(truth: Truth, detections: Detections, ranking: Ranking) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Every detection with every box of its cell: position in the ranking, position in Truth, IoU.

    They come by cell, then by score; a cell's boxes in the order of the file.
    """
    order = ranking.order[ranking.by_cell]
    cells = _cells(truth, detections.image, detections.category)[order]
    truth_cells = _cells(truth, truth.image, truth.category)
    by_cell = truth_cells.argsort(kind="stable")
    truth_cells = truth_cells[by_cell]
    starts = _run_starts(cells)
    lengths = np.diff(np.r_[starts, len(cells)])
    first = np.repeat(truth_cells.searchsorted(cells[starts], "left"), lengths)
    count = np.repeat(truth_cells.searchsorted(cells[starts], "right"), lengths) - first
    some = np.flatnonzero(count)
    if not len(some):
        return
    own, theirs = _edges(detections.boxes[order]), _edges(truth.boxes[by_cell])
    crowd = truth.crowd[by_cell]
    parts = np.flatnonzero(np.diff(count[some].cumsum() // _CHUNK)) + 1
    for part in np.split(some, parts):
        n = count[part]
        within = np.arange(n.sum()) - np.repeat(n.cumsum() - n, n)
        boxes = np.repeat(first[part], n) + within
        dets = np.repeat(part, n)
        yield (
            ranking.by_cell[dets],
            by_cell[boxes],
            _iou([e[dets] for e in own], [e[boxes] for e in theirs], crowd[boxes]),
        )


def _edges(boxes: Floats) -> list[Floats]:
    """Left, top, right, bottom and area of (N, 4) boxes, each (N,)."""
    x, y, w, h = np.ascontiguousarray(boxes.T)
    return [x, y, x + w, y + h, w * h]


def _iou(a: list[Floats], b: list[Floats], crowd: Bools) -> Floats:
    """IoU of P pairs, with the reference's operations in its order, so that no threshold falls between.

    The reference (``bbIou`` of pycocotools' maskApi.c) divides by the detection's area alone on a crowd.
    """
    w = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    h = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    shared = w * h
    shared[(w <= 0) | (h <= 0)] = 0
    union = np.where(crowd, a[4], a[4] + b[4] - shared)
    iou: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return iou


def _choose(
    detection: Ints,
    candidate: Ints,
    iou: Floats,
    cells: Ints,
    thresholds: Floats,
    crowd: Bools,
    counted: Bools,
    box: NDArray[np.int32],
) -> None:
    """Let detections choose, best score first; fills ``box`` (T, E) in. Pairs come as from ``_pairs``."""
    # A detection prefers a box that counts to an ignored one, then the greater IoU, then the later box.
    starts = _run_starts(detection)
    lengths = np.diff(np.r_[starts, len(detection)])
    many = np.flatnonzero(np.repeat(lengths > 1, lengths))
    if len(many):
        run = np.repeat(np.arange(len(starts)), lengths)[many]
        preference = np.lexsort((-candidate[many], -iou[many], ~counted[candidate[many]], run))
        candidate[many], iou[many] = candidate[many][preference], iou[many][preference]
    # The n-th detection of every cell that has a candidate chooses in turn n.
    turn = _place_in_run(cells[starts])
    pairs = _narrow(np.repeat(turn, lengths)).argsort(kind="stable")
    choosers = _narrow(turn).argsort(kind="stable")
    detection, candidate, iou, lengths = detection[starts][choosers], candidate[pairs], iou[pairs], lengths[choosers]
    chooser_ends = np.bincount(turn).cumsum()
    pair_ends = lengths.cumsum()[chooser_ends - 1]
    taken = np.zeros((len(thresholds), len(crowd)), np.bool_)
    chooser = pair = 0
    for chooser_end, pair_end in zip(chooser_ends.tolist(), pair_ends.tolist(), strict=True):
        boxes, n = candidate[pair:pair_end], pair_end - pair
        free = (iou[pair:pair_end] >= thresholds[:, None]) & ~taken[:, boxes]
        if n == chooser_end - chooser:
            at, place = free.nonzero()
            chosen = place
        else:
            counts = lengths[chooser:chooser_end]
            first = np.minimum.reduceat(np.where(free, np.arange(n), n), counts.cumsum() - counts, axis=1)
            at, place = (first < n).nonzero()
            chosen = first[at, place]
        box[at, detection[chooser:chooser_end][place]] = boxes[chosen]
        # A crowd holds any number of detections.
        taken[at, boxes[chosen]] = ~crowd[boxes[chosen]]
        chooser, pair = chooser_end, pair_end


def _cells(truth: Truth, image: Ints, category: Ints) -> Ints:
    return image * len(truth.category_ids) + category


def _run_starts(values: NDArray[Any]) -> Ints:
    """Positions where a run of equal values begins."""
    return np.flatnonzero(np.r_[np.ones(min(1, len(values)), np.bool_), values[1:] != values[:-1]])


def _run_numbers(values: NDArray[Any]) -> Ints:
    """The number of each value's run of equal values, from 0."""
    starts = _run_starts(values)
    return np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))


def _place_in_run(values: NDArray[Any]) -> Ints:
    """Place of each value in its run of equal values, from 0."""
    starts = _run_starts(values)
    return np.arange(len(values)) - np.repeat(starts, np.diff(np.r_[starts, len(values)]))


def _narrow(codes: Ints) -> NDArray[Any]:
    """Codes in 16 bits where they fit: numpy sorts those by radix, ten times as fast."""
    return codes.astype(np.uint16) if not len(codes) or codes.max() < 2**16 else codes
