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
from itertools import chain, repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import open_regular
from .coco_json import (
    AnnotationRecord,
    BoxRecord,
    CocoRecord,
    DetectionRecord,
    annotation_keys,
    bad_file,
    bad_record,
    coco_keys,
    decode,
    file_name,
    first_repeated,
    read_bytes,
    refuse_duplicate_keys,
)

__all__ = ["Detections", "Ident", "RawDetections", "Truth", "join", "read_detections", "read_truth"]

Ident = int | str
ExtraImages = Literal["refuse", "count"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Coordinates beyond it overflow in w * h, sides below its inverse underflow to a 0 / 0 in the IoU.
_LARGEST = 1e100
_SHOWN = 5
_CROWD = frozenset({1})  # and True, which equals it


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
    """Predictions as columns, not yet joined with a ground truth; D boxes in file order."""

    image_ids: list[Ident]
    category_ids: list[Ident]
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


def read_truth(path: Path) -> Truth:
    """Read and check a ground truth.

    Args:
        path: ``gt.json`` (COCO object or plain list) or ``gt.jsonl`` (plain list, a box a line).

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
    raw, sha256 = read_bytes(file, path)
    if path.suffix == ".json" and raw.lstrip()[:1] == b"{":
        coco = decode(raw, CocoRecord, path)
        refuse_duplicate_keys(raw, coco_keys(coco), path, bytes(coco.info) + b"\n" + bytes(coco.licenses))
        images, categories, annotations, where = coco.images, coco.categories, coco.annotations, "annotations"
        image_index = _index([image.id for image in images], "image", "images", path)
        category_index = _index([c.id for c in categories], "category", "categories", path)
        names = {c.id: c.name or str(c.id) for c in categories}
    else:
        annotations, where = decode(raw, list[AnnotationRecord], path), "record"
        refuse_duplicate_keys(raw, annotation_keys(annotations), path)
        image_index = _index(dict.fromkeys(a.image_id for a in annotations), "image", where, path)
        category_index = _index(dict.fromkeys(a.category_id for a in annotations), "category", where, path)
        names = {ident: str(ident) for ident in category_index}
    del raw
    n = len(annotations)
    boxes = _boxes(annotations, where, path)
    _refuse_duplicate_ids(annotations, where, path)
    image = _lookup(image_index, map(attrgetter("image_id"), annotations), n)
    category = _lookup(category_index, map(attrgetter("category_id"), annotations), n)
    for codes, kind, attribute in ((image, "images", "image_id"), (category, "categories", "category_id")):
        if (i := _first(codes < 0)) is not None:
            ident = getattr(annotations[i], attribute)
            bad_record(path, where, i, f"{attribute} {_show(ident)} is not among the file's {kind}")
    area, given = _optional_floats(list(map(attrgetter("area"), annotations)))
    if (i := _first(given & ~((area >= 0) & (area <= _LARGEST**2)))) is not None:
        bad_record(path, where, i, f"area must be a finite number of at least 0, got {area[i]}", "area")
    crowd = map(_CROWD.__contains__, map(attrgetter("iscrowd"), annotations))
    return Truth(
        image_ids=list(image_index),
        category_ids=list(category_index),
        category_names=_unique_names(names, category_index),
        image=image,
        category=category,
        boxes=boxes,
        area=np.where(given, area, boxes[:, 2] * boxes[:, 3]),
        crowd=np.fromiter(crowd, np.bool_, n),
        names_all_images=where == "annotations",
        areas_filled=int(n - given.sum()),
        sha256=sha256,
    )


def read_detections(path: Path) -> RawDetections:
    """Read and check predictions: a COCO results list, or one record a line.

    Args:
        path: ``pred.json`` or ``pred.jsonl``; opened without following links.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``OUTPUT_REJECTED``, or ``BAD_FORMAT`` with the record's index.
    """
    raw, sha256 = read_bytes(open_regular(path), path)
    records = decode(raw, list[DetectionRecord], path)
    n = len(records)
    refuse_duplicate_keys(raw, dict.fromkeys(("image_id", "category_id", "bbox", "score"), n), path)
    del raw
    boxes = _boxes(records, "record", path)
    scores = np.fromiter(map(attrgetter("score"), records), np.float64, n)
    if (i := _first(~np.isfinite(scores))) is not None:
        bad_record(path, "record", i, f"score must be a finite number, got {scores[i]}")
    return RawDetections(
        image_ids=list(map(attrgetter("image_id"), records)),
        category_ids=list(map(attrgetter("category_id"), records)),
        boxes=boxes,
        scores=scores,
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
        _same_type("image", truth.image_ids, raw.image_ids, raw.file)
        _same_type("category", truth.category_ids, raw.category_ids, raw.file)
    image_index = {ident: i for i, ident in enumerate(truth.image_ids)}
    n = len(raw.image_ids)
    image = _lookup(image_index, raw.image_ids, n)
    if (image < 0).any():
        unknown = _in_order({raw.image_ids[i] for i in np.flatnonzero(image < 0)})
        if truth.names_all_images or (extra_images == "refuse" and truth.image_ids):
            _refuse_images(truth, raw.file, unknown, int((image < 0).sum()))
        truth = _with_images(truth, unknown)
        image_index = {ident: i for i, ident in enumerate(truth.image_ids)}
        image = _lookup(image_index, raw.image_ids, n)
    category = _lookup({ident: i for i, ident in enumerate(truth.category_ids)}, raw.category_ids, n)
    known = category >= 0
    dropped = Counter(raw.category_ids[i] for i in np.flatnonzero(~known))
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


def _same_type(kind: str, truth: Sequence[Ident], predicted: Sequence[Ident], file: str) -> None:
    """Refuse text ids where the ground truth has numbers, and the other way round: ``"1"`` is not ``1``."""
    if not truth:
        return
    wanted = type(truth[0])
    if set(map(type, predicted)) == {wanted}:
        return
    for i, ident in enumerate(predicted):
        if type(ident) is not wanted:
            words = {int: "numbers", str: "text"}
            raise AutoScorerError(
                ErrorCode.MISMATCH,
                f"{file}: record {i} has the {kind} id {_show(ident)}, which is {words[type(ident)]}; the ground "
                f"truth's {kind} ids are {words[wanted]}, such as {_show(truth[0])}. "
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
        f"{', '.join(map(_show, unknown[:_SHOWN]))}{', …' if len(unknown) > _SHOWN else ''}.{hint}",
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


def _boxes(records: Sequence[BoxRecord], where: str, path: Path) -> Floats:
    """The (N, 4) boxes, every one usable."""
    flat = chain.from_iterable(map(attrgetter("bbox"), records))
    boxes = np.fromiter(flat, np.float64, 4 * len(records)).reshape(-1, 4)
    if not len(boxes) or (boxes.min() >= -_LARGEST and boxes.max() <= _LARGEST and boxes[:, 2:].min() >= 1 / _LARGEST):
        return boxes
    # NaN fails every comparison, so it ends up among the bad ones.
    good = (np.abs(boxes) <= _LARGEST).all(axis=1)
    good &= ((boxes[:, 2:] == 0) | (boxes[:, 2:] >= 1 / _LARGEST)).all(axis=1)
    if (i := _first(~good)) is not None:
        bad_record(
            path,
            where,
            i,
            f"bbox must be [x, y, width, height], finite, with sides of at least 0, got {boxes[i].tolist()}",
            "bbox",
        )
    return boxes


def _first(mask: Bools) -> int | None:
    return int(mask.argmax()) if mask.any() else None


def _optional_floats(values: list[Any]) -> tuple[Floats, Bools]:
    """The values, NaN for those absent, and which are there."""
    if set(map(type, values)) <= {float}:
        return np.array(values, np.float64), np.ones(len(values), np.bool_)
    given = np.fromiter((type(value) is float for value in values), np.bool_, len(values))
    return np.fromiter((v if type(v) is float else np.nan for v in values), np.float64, len(values)), given


def _index(idents: Iterable[Ident], kind: str, where: str, path: Path) -> dict[Ident, int]:
    """Id → position in sorted order; ids must be of one type, and each there once."""
    listed = list(idents)
    if len({type(ident) for ident in listed}) > 1:
        bad_file(path, f"{kind} ids are partly numbers and partly text; expected one of them throughout")
    if (i := first_repeated(listed)) is not None:
        bad_record(path, where, i, f"{kind} id {_show(listed[i])} is there twice", "id")
    return {ident: i for i, ident in enumerate(_in_order(listed))}


def _refuse_duplicate_ids(annotations: Sequence[AnnotationRecord], where: str, path: Path) -> None:
    given = [a for a in annotations if type(a.id) in (int, str)]
    if (j := first_repeated(list(map(attrgetter("id"), given)))) is not None:
        at = next(i for i, a in enumerate(annotations) if a is given[j])
        bad_record(path, where, at, f"annotation id {_show(given[j].id)} is there twice", "id")


def _lookup(index: dict[Ident, int], idents: Iterable[Ident], n: int) -> Ints:
    return np.fromiter(map(index.get, idents, repeat(-1)), np.int64, n)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _unique_names(names: dict[Ident, str], index: dict[Ident, int]) -> list[str]:
    """A name for every category, in order; a name that several share gets the id behind it."""
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    return [f"{names[ident]} [{ident}]" if names[ident] in shared else names[ident] for ident in index]
