"""The withheld part: ground truth and predictions divided by what is said of each row's use.

A row is public, private or ignored, as Kaggle calls it. The public rows make the Result that teams see, and the private
ones another that they do not. Every scorer can be used: what it reads are two files that hold one part's rows. A row is
taken as the text that stands in the file, so a number is the one that it would be without the division.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import Workspace, open_regular
from ...executors.files import remove_tree
from ...schemas.benchmark import Benchmark
from ...scorers.tables.aligned import read_columns

__all__ = ["Parts", "Use", "divided", "usage_of"]

Use = Literal["public", "private", "ignored"]

USES: Mapping[str, Use] = {"public": "public", "private": "private", "ignored": "ignored"}


@dataclass(frozen=True)
class Parts:
    """Three workspaces that are made for the time of one scoring.

    Attributes:
        both: Public and private rows together: what the join by id is checked on, so that an error does not tell which
            part an id is in.
        public: The public rows.
        private: The private rows.
    """

    both: Path
    public: Path
    private: Path

    def take_artifacts(self, space: Workspace) -> None:
        """Put what the scorer drew of the public part in the submission's place."""
        made = self.public / "output" / "artifacts"
        if not made.is_dir():
            return
        if os.path.lexists(space.artifacts):
            remove_tree(space.artifacts)
        space.output.mkdir(exist_ok=True)
        shutil.copytree(made, space.artifacts)


@contextlib.contextmanager
def divided(space: Workspace, spec: Benchmark) -> Iterator[Parts]:
    """The parts of a submission, for as long as the block lasts.

    Args:
        space: The submission.
        spec: Its benchmark, which withholds a part.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``BAD_FORMAT``, ``OUTPUT_REJECTED``; ``INVALID_BENCHMARK`` where a row's use
            is not said.
    """
    assert space.benchmark is not None
    folder = BenchmarkFolder(space.benchmark)
    truth, predictions = space.ground_truth(), space.predictions()
    encodings = spec.data.encodings
    use = usage_of(folder, spec)
    column = spec.withheld.column if spec.withheld is not None else None
    keys = _id_keys(spec, truth)
    scratch = folder.state / "scoring"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=scratch))
    try:
        made = Parts(root / "both", root / "public", root / "private")
        for part, uses in (
            (made.both, frozenset({"public", "private"})),
            (made.public, frozenset({"public"})),
            (made.private, frozenset({"private"})),
        ):
            (part / "input").mkdir(parents=True)
            (part / "output").mkdir()
            # What a model saw may be of use to a scorer, too.
            if (space.input / "data").is_dir():
                (part / "input" / "data").symlink_to(space.input / "data")
            # An id that nobody knows is told where the whole is checked.
            unknown = part is made.both
            _select(truth, part / "input", use, uses, unknown=False, encoding=encodings[0], keys=keys, without=column)
            _select(predictions, part / "output", use, uses, unknown=unknown, encoding=encodings[1], keys=keys)
            (part / "meta.json").write_text("{}\n")
        yield made
    finally:
        remove_tree(root)


def usage_of(folder: BenchmarkFolder, spec: Benchmark) -> dict[str, Use]:
    """The use of every row of the ground truth, by its id.

    Raises:
        AutoScorerError: ``INVALID_BENCHMARK`` where it is not said of each, or not in these words; ``BAD_FORMAT``.
    """
    assert spec.withheld is not None
    truth = folder.as_workspace().ground_truth()
    if spec.withheld.file is not None:
        columns, _ = read_columns(folder.input / spec.withheld.file)
        key = _first(("id", *_id_keys(spec, truth)), columns)
        name = next((each for each in columns if each.casefold() == "usage"), None)
        if key is None or name is None:
            raise _wrong(f"input/{spec.withheld.file} needs a column of ids and one named Usage")
        pairs = list(zip(columns[key], columns[name], strict=True))
    else:
        name = spec.withheld.column
        assert name is not None
        pairs = [(ident, _ident(row.get(name, ""))) for ident, row in _rows(truth, spec)]
    use: dict[str, Use] = {}
    for ident, said in pairs:
        word = said.strip().casefold()
        if word not in USES:
            raise _wrong(f"the use of the row {ident[:100]!r} is {said[:100]!r}; expected Public, Private or Ignored")
        if use.setdefault(ident, USES[word]) != USES[word]:
            raise _wrong(f"the id {ident[:100]!r} is in two parts")
    for part in ("public", "private"):
        if part not in use.values():
            raise _wrong(f"no row is {part}")
    if unsaid := sorted({ident for ident, _ in _rows(truth, spec)} - use.keys()):
        raise _wrong(f"nothing is said of the use of {len(unsaid):,} rows, such as {unsaid[0][:100]!r}")
    return use


def _wrong(what: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_BENCHMARK, f"The withheld part can't be told: {what}.", details={"key": "withheld"}
    )


def _id_keys(spec: Benchmark, truth: Path) -> tuple[str, ...]:
    """What the id of a row may be called, best first."""
    given = spec.params.get("id_column")
    if isinstance(given, str):
        return (given,)
    # A box may have an id of its own.
    return ("image_id",) if _is_coco(truth, spec.data.encodings[0]) else ("id", "image_id")


def _first(keys: tuple[str, ...], names: Mapping[str, Any]) -> str | None:
    return next((key for key in keys if key in names), None)


# --- one file ------------------------------------------------------------------------------------------------------


class _Raw(str):
    """A number of JSON as the text that it was written with."""


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_Raw, parse_float=_Raw)


def _ident(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _read(path: Path, encoding: str) -> str:
    with open_regular(path) as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig" if encoding.replace("-", "").lower() == "utf8" else encoding)
    except UnicodeDecodeError as error:
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT, f"{path.name} is not {encoding} (byte {error.start}).", details={"file": path.name}
        ) from None


def _records(path: Path, encoding: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a JSON list or of JSON lines, each with the text that it was written with."""
    text = _read(path, encoding)
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield _object(path, f"line {number}", line), line.strip()
        return
    decoder = json.JSONDecoder(parse_int=_Raw, parse_float=_Raw)
    at = _blank(text, 0)
    if text[at : at + 1] != "[":
        raise _bad(path, "expected a list of objects")
    at = _blank(text, at + 1)
    number = 0
    while text[at : at + 1] != "]":
        number += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise _bad(path, f"record {number} is not valid JSON") from None
        if not isinstance(value, dict):
            raise _bad(path, f"record {number} is not an object")
        yield value, text[at:end]
        at = _blank(text, end)
        if text[at : at + 1] == ",":
            at = _blank(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _bad(path, f"expected a comma or the end of the list after record {number}")


def _object(path: Path, where: str, text: str) -> dict[str, Any]:
    try:
        value = _loads(text)
    except (ValueError, RecursionError):
        raise _bad(path, f"{where} is not valid JSON") from None
    if not isinstance(value, dict):
        raise _bad(path, f"{where} is not an object")
    return value


def _blank(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n") and at < len(text):
        at += 1
    return at


def _bad(path: Path, what: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BAD_FORMAT, f"{path.name}: {what}.", details={"file": path.name})


def _is_coco(path: Path, encoding: str) -> bool:
    return path.suffix == ".json" and _read(path, encoding).lstrip()[:1] == "{"


def _rows(path: Path, spec: Benchmark) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The id of every row of the ground truth, and the row."""
    encoding, keys = spec.data.encodings[0], _id_keys(spec, path)
    if _is_coco(path, encoding):
        yield from ((_ident(image.get("id")), image) for image in _coco(path, encoding)["images"])
    elif path.suffix in (".json", ".jsonl"):
        for record, _ in _records(path, encoding):
            if (key := _first(keys, record)) is not None:
                yield _ident(record[key]), record
    else:
        columns, _ = read_columns(path, encoding=encoding)
        if (key := _first(keys, columns)) is None:
            raise _wrong(f"input/{path.name} has no column of ids ({' or '.join(keys)})")
        for number, ident in enumerate(columns[key]):
            yield ident, {name: values[number] for name, values in columns.items()}


def _coco(path: Path, encoding: str) -> dict[str, Any]:
    content = _object(path, "the file", _read(path, encoding))
    if not isinstance(content.get("images"), list) or not all(isinstance(each, dict) for each in content["images"]):
        raise _bad(path, "expected an object with a list of images")
    return content


def _select(
    path: Path,
    into: Path,
    use: Mapping[str, Use],
    uses: frozenset[str],
    *,
    unknown: bool,
    encoding: str,
    keys: tuple[str, ...],
    without: str | None = None,
) -> None:
    """Write the rows of these uses to a folder, as a file of the same name.

    Args:
        path: The ground truth, or the predictions.
        into: The folder.
        use: Of each id.
        uses: Those that are wanted.
        unknown: Whether a row whose id is not in the ground truth goes along.
        encoding: What the file is written in; what is made is UTF-8.
        keys: What its id may be called.
        without: A column to leave out.
    """

    def wanted(ident: str) -> bool:
        return use[ident] in uses if ident in use else unknown

    if _is_coco(path, encoding):
        content = json.loads(_read(path, encoding))
        content["images"] = [each for each in content.get("images", []) if wanted(_ident(each.get("id")))]
        if isinstance(content.get("annotations"), list):
            content["annotations"] = [each for each in content["annotations"] if wanted(_ident(each.get("image_id")))]
        (into / path.name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    elif path.suffix in (".json", ".jsonl"):
        kept = []
        for record, text in _records(path, encoding):
            key = _first(keys, record)
            # What has no id is told by the scorer, of the whole.
            if wanted(_ident(record[key])) if key is not None else unknown:
                kept.append(text)
        content = "\n".join(kept) + "\n" if path.suffix == ".jsonl" else "[" + ",\n".join(kept) + "]\n"
        (into / path.name).write_text(content, encoding="utf-8")
    else:
        columns, _ = read_columns(path, encoding=encoding)
        key = _first(keys, columns)
        if key is None:
            # The scorer says which column it misses.
            shutil.copyfile(path, into / path.name)
            return
        keep = [wanted(ident) for ident in columns[key]]
        names = [name for name in columns if name != without]
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(
            row for row, take in zip(zip(*(columns[name] for name in names), strict=True), keep, strict=True) if take
        )
        (into / f"{path.stem}.csv").write_text(table.getvalue(), encoding="utf-8")
