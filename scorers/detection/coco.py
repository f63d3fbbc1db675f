"""Reading boxes: COCO ground truth, COCO results and plain lists, checked record by record.

Whatever pycocotools would guess, drop or crash on is settled here, so that matching only ever sees positions
instead of ids, finite boxes and finite scores. The ground truth is either a COCO object (``images``,
``annotations``, ``categories``) or a plain list of boxes (``[{"image_id", "bbox", "category_id"}]``);
predictions are a COCO results list; both lists may be JSON lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import open_regular
from ..tables.arrays import Bools, Floats, Ints
from ..tables.encodings import as_utf_8
from ..tables.json_batches import skip_space
from .coco_columns import MOST_IDS, BoxColumns, Ident, TruthColumns, first_true, joined, lookup, shown
from .coco_json import (
    AnnotationRecord,
    CategoryRecord,
    DetectionRecord,
    ImageRecord,
    bad_file,
    bad_record,
    file_name,
    first_repeated,
    read_bytes,
    read_list,
    read_members,
)

__all__ = ["Detections", "Ident", "RawDetections", "Truth", "join", "read_detections", "read_truth"]

ExtraImages = Literal["refuse", "count"]

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth as columns; N boxes, I images, K categories.

    ``image`` and ``category`` are positions in ``image_ids`` and ``category_ids``, which are sorted as the
    reference sorts them (numbers by value, text by code point).
    """

    image_ids: list[Ident]
    category_ids: list[Ident]
    category_names: list[str]
    image: Ints  # (N,)
    category: Ints  # (N,)
    boxes: Floats  # (N, 4): x, y, width, height in pixels
    area: Floats  # (N,) pixels²
    crowd: Bools  # (N,)
    names_all_images: bool  # True for a COCO object, False for a plain list
    areas_filled: int
    sha256: str


@dataclass(frozen=True, eq=False)
class RawDetections:
    """Predictions as columns, not yet joined with a ground truth; D boxes in file order.

    ``image`` and ``category`` are positions in ``image_ids`` and ``category_ids``, which hold each id once, in the
    order of the file.
    """

    image_ids: list[Ident]
    category_ids: list[Ident]
    image: NDArray[np.int32]  # (D,)
    category: NDArray[np.int32]  # (D,)
    boxes: Floats  # (D, 4)
    scores: Floats  # (D,)
    file: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Detections:
    """Predictions joined with a ground truth; D boxes of known categories in file order."""

    image: Ints  # (D,)
    category: Ints  # (D,)
    boxes: Floats  # (D, 4)
    scores: Floats  # (D,)
    record: Ints  # (D,) index of the record in the file
    records: int  # in the file, unknown categories included
    unknown_categories: list[tuple[Ident, int]]  # id and count, in order of the ids
    sha256: str


def read_truth(path: Path, encoding: str = "utf-8") -> Truth:
    """Read and check a ground truth.

    Args:
        path: ``gt.json`` (COCO object or plain list) or ``gt.jsonl`` (plain list, a box a line).
        encoding: Of its text.

    Raises:
        AutoScorerError: ``MISSING_FILE``, or ``BAD_FORMAT`` with the record's index in ``details``.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.MISSING_FILE,
            f"{file_name(path)} can't be opened: {error.strerror}.",
            details={"file": file_name(path)},
        ) from None
    raw, sha256 = read_bytes(as_utf_8(file, path, encoding), path)
    boxes = TruthColumns(path)
    if path.suffix == ".json" and raw[(at := skip_space(raw, 0)) : at + 1] == b"{":
        images, names = _read_coco(raw, path, boxes)
        image_index = _index(images, "image", "images", path)
        category_index = _index(names, "category", "categories", path)
    else:
        for batch in read_list(raw, path, AnnotationRecord):
            boxes.add(batch)
        image_index = _index(boxes.images.index, "image", "record", path)
        category_index = _index(boxes.categories.index, "category", "record", path)
        names = {ident: str(ident) for ident in category_index}
    del raw
    where = boxes.where
    boxes.refuse_duplicate_ids()
    n = boxes.count
    image, category = boxes.images.positions(image_index), boxes.categories.positions(category_index)
    for codes, kind, attribute, idents in (
        (image, "images", "image_id", boxes.images),
        (category, "categories", "category_id", boxes.categories),
    ):
        if (i := first_true(codes < 0)) is not None:
            bad_record(path, where, i, f"{attribute} {shown(idents.at(i))} is not among the file's {kind}")
    xywh, area, given = boxes.boxes(), joined(boxes.areas, np.float64), joined(boxes.given, np.bool_)
    return Truth(
        image_ids=list(image_index),
        category_ids=list(category_index),
        category_names=_unique_names(names, category_index),
        image=image,
        category=category,
        boxes=xywh,
        area=np.where(given, area, xywh[:, 2] * xywh[:, 3]),
        crowd=joined(boxes.crowds, np.bool_),
        names_all_images=where == "annotations",
        areas_filled=int(n - given.sum()),
        sha256=sha256,
    )


def _read_coco(raw: bytes, path: Path, boxes: TruthColumns) -> tuple[list[Ident], dict[Ident, str]]:
    """The three lists of a COCO object: image ids, category id → name, and the boxes."""
    images: list[Ident] = []
    categories: list[CategoryRecord] = []
    boxes.where = "annotations"
    kinds: dict[str, Any] = {"images": ImageRecord, "annotations": AnnotationRecord, "categories": CategoryRecord}
    missing = set(kinds)
    walk = read_members(raw, path)
    end: int | None = None
    while True:
        try:
            key, at = walk.send(end)
        except StopIteration:
            break
        end = None
        if key not in kinds:
            continue
        if key not in missing:
            bad_file(path, f"the key {key!r} appears twice in one object")
        missing.remove(key)
        batches = read_list(raw, path, kinds[key], key, at)
        while True:
            try:
                batch = next(batches)
            except StopIteration as stop:
                end = stop.value
                break
            if key == "annotations":
                boxes.add(batch)
            elif key == "images":
                images.extend(map(attrgetter("id"), batch.records))
            else:
                categories.extend(batch.records)
            if max(len(images), len(categories)) > MOST_IDS:
                bad_file(path, f"it has more than {MOST_IDS:,} {key}")
    if missing:
        bad_file(
            path,
            f"{', '.join(map(repr, sorted(missing)))} is missing; expected a COCO object with 'images', "
            "'annotations' and 'categories', or a list of boxes",
        )
    if (i := first_repeated([c.id for c in categories])) is not None:
        bad_record(path, "categories", i, f"category id {shown(categories[i].id)} appears twice", "id")
    return images, {c.id: c.name or str(c.id) for c in categories}


def read_detections(path: Path, encoding: str = "utf-8") -> RawDetections:
    """Read and check predictions: a COCO results list, or one record a line.

    Args:
        path: ``pred.json`` or ``pred.jsonl``; opened without following links.
        encoding: Of its text.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``OUTPUT_REJECTED``, or ``BAD_FORMAT`` with the record's index.
    """
    raw, sha256 = read_bytes(as_utf_8(open_regular(path), path, encoding), path)
    boxes = BoxColumns(path)
    scores: list[Floats] = []
    for batch in read_list(raw, path, DetectionRecord):
        boxes.add(batch)
        part = np.fromiter(map(attrgetter("score"), batch.records), np.float64, len(batch.records))
        if (i := first_true(~np.isfinite(part))) is not None:
            bad_record(path, "record", batch.first + i, f"score must be a finite number, got {part[i]}")
        scores.append(part)
    del raw
    return RawDetections(
        image_ids=list(boxes.images.index),
        category_ids=list(boxes.categories.index),
        image=boxes.images.codes(),
        category=boxes.categories.codes(),
        boxes=boxes.boxes(),
        scores=joined(scores, np.float64),
        file=file_name(path),
        sha256=sha256,
    )


def join(truth: Truth, raw: RawDetections, extra_images: ExtraImages = "refuse") -> tuple[Truth, Detections]:
    """Join predictions to a ground truth by image and category id.

    Args:
        truth: The ground truth.
        raw: What ``read_detections`` gave.
        extra_images: What to do with images that a *plain list* does not name. Such a list can't name an image
            without boxes: ``refuse`` them, or ``count`` them as images without boxes (every detection there is
            a false positive). A COCO object names all its images, so others are always refused.

    Returns:
        The ground truth (with the extra images, where counted) and the joined detections.

    Raises:
        AutoScorerError: ``MISMATCH``: an unknown image, or ids of another type than the ground truth's.
    """
    if raw.scores.size:
        _same_type("image", truth.image_ids, raw.image_ids, raw.image, raw.file)
        _same_type("category", truth.category_ids, raw.category_ids, raw.category, raw.file)
    n = len(raw.image)
    image = _positions(truth.image_ids, raw.image_ids, raw.image)
    if (image < 0).any():
        unknown = _in_order(set(raw.image_ids).difference(truth.image_ids))
        if truth.names_all_images or (extra_images == "refuse" and truth.image_ids):
            _refuse_images(truth, raw.file, unknown, int((image < 0).sum()))
        truth = _with_images(truth, unknown)
        image = _positions(truth.image_ids, raw.image_ids, raw.image)
    category = _positions(truth.category_ids, raw.category_ids, raw.category)
    known = category >= 0
    counts = np.bincount(raw.category[~known], minlength=len(raw.category_ids)).tolist()
    dropped = {ident: count for ident, count in zip(raw.category_ids, counts, strict=True) if count}
    record = np.flatnonzero(known)
    everything = len(record) == n
    return truth, Detections(
        image=image if everything else image[record],
        category=category if everything else category[record],
        boxes=raw.boxes if everything else raw.boxes[record],
        scores=raw.scores if everything else raw.scores[record],
        record=record,
        records=n,
        unknown_categories=[(ident, dropped[ident]) for ident in _in_order(dropped)],
        sha256=raw.sha256,
    )


def _in_order(idents: Iterable[Ident]) -> list[Ident]:
    """Ids in a fixed order, numbers before text: predictions can mix the two, which Python does not compare."""
    return sorted(idents, key=lambda ident: (isinstance(ident, str), ident))


def _positions(truth: Sequence[Ident], predicted: Sequence[Ident], codes: NDArray[np.int32]) -> Ints:
    """Where in the ground truth's ids each code's id is, or -1."""
    return lookup({ident: i for i, ident in enumerate(truth)}, predicted, len(predicted))[codes]


def _same_type(
    kind: str, truth: Sequence[Ident], predicted: Sequence[Ident], codes: NDArray[np.int32], file: str
) -> None:
    """Refuse text ids where the ground truth has numbers, and the other way round: ``"1"`` is not ``1``."""
    if not truth:
        return
    wanted = type(truth[0])
    if set(map(type, predicted)) == {wanted}:
        return
    for code, ident in enumerate(predicted):
        if type(ident) is not wanted:
            i = int(np.argmax(codes == code))
            words = {int: "numbers", str: "text"}
            raise AutoScorerError(
                ErrorCode.MISMATCH,
                f"{file}: record {i} has the {kind} id {shown(ident)}, which is {words[type(ident)]}; the ground "
                f"truth's {kind} ids are {words[wanted]}, such as {shown(truth[0])}. "
                f"Write them {'without' if wanted is int else 'with'} quotes.",
                details={"file": file, "index": i, "field": f"{kind}_id"},
            )


def _refuse_images(truth: Truth, file: str, unknown: Sequence[Ident], records: int) -> NoReturn:
    hint = "" if truth.names_all_images else (
        " The ground truth is a plain list, which can't name images without boxes: give it as a COCO object with "
        "'images', or set the param extra_images to 'count' to take them as images without boxes."
    )  # fmt: skip
    raise AutoScorerError(
        ErrorCode.MISMATCH,
        f"{file}: {records} detections are on {len(unknown)} images that the ground truth does not hold: "
        f"{', '.join(map(shown, unknown[:_SHOWN]))}{', …' if len(unknown) > _SHOWN else ''}.{hint}",
        details={"file": file, "unknown_images": len(unknown), "records": records, "first": list(unknown[:_SHOWN])},
    )


def _with_images(truth: Truth, extra: Sequence[Ident]) -> Truth:
    """The same ground truth over more images."""
    image_ids = _in_order([*truth.image_ids, *extra])
    index = {ident: i for i, ident in enumerate(image_ids)}
    moved = np.array([index[ident] for ident in truth.image_ids], np.int64)
    fields = {name: getattr(truth, name) for name in truth.__dataclass_fields__}
    image = moved[truth.image] if len(truth.image) else truth.image
    return Truth(**{**fields, "image_ids": image_ids, "image": image})


# Checks


def _index(idents: Iterable[Ident], kind: str, where: str, path: Path) -> dict[Ident, int]:
    """Id → position in sorted order; ids must be of one type, and each there once."""
    listed = list(idents)
    if len({type(ident) for ident in listed}) > 1:
        bad_file(path, f"{kind} ids are partly numbers and partly text; expected one of them throughout")
    if (i := first_repeated(listed)) is not None:
        bad_record(path, where, i, f"{kind} id {shown(listed[i])} appears twice", "id")
    return {ident: i for i, ident in enumerate(_in_order(listed))}


def _unique_names(names: dict[Ident, str], index: dict[Ident, int]) -> list[str]:
    """A name for every category, in order; a name that several share gets the id behind it."""
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    return [f"{names[ident]} [{ident}]" if names[ident] in shared else names[ident] for ident in index]
