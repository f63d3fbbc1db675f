"""What people say of answers: JSON lines, each a sample, a metric and a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from ...core.errors import AutoScorerError, ErrorCode, suggest
from ...schemas.calibration import Label
from ...schemas.rag import MOST_CONTEXTS
from ..tables.block import bad_format
from .catalogue import METRICS
from .dataset import Dataset
from .sample import Sample

__all__ = ["Labelled", "Labels", "read_labels"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a person says of one answer.

    Args:
        sample: The answer.
        metric: What it was looked at for.
        label: True or false, or a number from 0 to 1.
    """

    sample: Sample
    metric: str
    label: bool | float


@dataclass(frozen=True)
class Labels:
    """A file of labels.

    Attributes:
        items: In the order of the file, one at least; those of one metric are all true or false, or all numbers.
        sha256: Hex digest of the file's bytes.
    """

    items: Sequence[Labelled]
    sha256: str

    @property
    def asked(self) -> dict[Sample, list[str]]:
        """Each answer, with the metrics of which it has a label."""
        found: dict[Sample, list[str]] = {}
        for item in self.items:
            found.setdefault(item.sample, []).append(item.metric)
        return found


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: StrictStr | StrictInt | None = None
    question: StrictStr | None = None
    answer: StrictStr | None = None
    contexts: Annotated[tuple[StrictStr, ...], Field(max_length=MOST_CONTEXTS)] | None = None
    ground_truth: StrictStr | None = None


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sample: _Answer
    metric: StrictStr
    label: Label


def read_labels(path: Path, dataset: Dataset | None = None) -> Labels:
    """Read a file of labels, and check it.

    Args:
        path: Lines ``{"sample": {question, answer, contexts?, ground_truth?}, "metric": NAME, "label": true}``, where
            a sample may be ``{"id": ID}`` as well.
        dataset: The answers that are meant by their ids.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where it can't be opened or names ids of no workspace; ``BAD_FORMAT`` where
            a line is wrong.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{str(path)!r} can't be read: {error.strerror}.") from None
    by_id = None if dataset is None else {item.id: item.sample for item in dataset.items}
    found: dict[tuple[Sample, str], int] = {}
    kinds: dict[str, tuple[bool, int]] = {}
    items = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        item = _labelled(_parsed(line, path.name, number), by_id, path.name, number)
        is_yes_no = isinstance(item.label, bool)
        before, first = kinds.setdefault(item.metric, (is_yes_no, number))
        if before is not is_yes_no:
            raise bad_format(
                path.name,
                f"line {number}",
                f"the labels of one metric are all true or false, or all numbers; that of {item.metric} in line "
                f"{first} is of the other kind.",
            )
        if (twice := found.setdefault((item.sample, item.metric), number)) != number:
            raise bad_format(
                path.name, f"line {number}", f"line {twice} has a label for the same answer and {item.metric}."
            )
        items.append(item)
    if not items:
        raise bad_format(path.name, "", "it holds no labels; expected JSON lines with sample, metric and label.")
    return Labels(items, sha256(data).hexdigest())


def _parsed(line: bytes, name: str, number: int) -> _Line:
    try:
        return _Line.model_validate_json(line)
    except ValidationError as errors:
        error = errors.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in error["loc"] if part not in ("bool", "float", "str", "int"))
        # pydantic tells of a label that is neither, first why it is no truth value.
        problem = "expected true, false or a number from 0 to 1" if where.startswith("label") else error["msg"]
        raise bad_format(name, f"line {number}", f"{where or 'the line'}: {problem}.") from None


def _labelled(line: _Line, by_id: Mapping[str, Sample] | None, name: str, number: int) -> Labelled:
    at = f"line {number}"
    info = METRICS.get(line.metric)
    if info is None:
        raise bad_format(name, at, f"{line.metric[:80]!r} is not a metric{suggest(line.metric, METRICS) or '.'}")
    if not info.judge:
        judged = ", ".join(each for each, other in METRICS.items() if other.judge)
        raise bad_format(
            name, at, f"no judge is asked for {info.name}, so nothing is to be calibrated; for {judged} one is."
        )
    given = line.sample
    if given.id is not None:
        if given.model_fields_set != {"id"}:
            raise bad_format(name, at, "sample: expected an id alone, or question, answer, contexts and ground_truth.")
        if by_id is None:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"{name}, {at}: the answer is named by its id; say whose it is with --workspace.",
            )
        sample = by_id.get(str(given.id))
        if sample is None:
            raise bad_format(name, at, f"sample: the workspace has no answer with the id {str(given.id)[:80]!r}.")
    else:
        sample = Sample(given.question, given.answer, given.contexts, given.ground_truth)
    if missing := sample.missing(info.needs):
        raise bad_format(name, at, f"{line.metric} needs {' and '.join(missing)}, which the sample does not have.")
    return Labelled(sample, line.metric, line.label)
