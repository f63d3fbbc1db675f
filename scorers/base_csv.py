"""The public base of scorers that compare two tables by id.

Ten lines make a scorer::

    @register("within_one")
    class WithinOne(BaseCSVScorer):
        name = "within_one"
        version = "1.0.0"
        metric = "within_one"
        values = "number"

        def per_row(self, table, params):
            return abs(table.prediction - table.truth) <= 1

The base class reads both files, checks and joins them by id (``tables``), times, hashes and writes the artifacts. A
scorer that needs something else overrides ``score`` and shares nothing but ``validate``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.errors import AutoScorerError, ErrorCode
from ..core.sample_file import Measure
from ..core.workspace import ArtifactWriter, Workspace
from ..schemas.result import Result, Summary
from .artifacts import MAX_ERROR_ROWS, csv_text, share_matrix, write_errors
from .base import BaseScorer, ScorerParams
from .metrics.coarse import coarse_matrix
from .metrics.confusion import count_matrix
from .metrics.intervals import mean_interval
from .samples import RowValues, write_samples
from .tables.aligned import AlignedTable, Columns, Values, check_table, load_aligned
from .tables.arrays import Floats

__all__ = ["MAX_ERROR_ROWS", "BaseCSVScorer", "CSVParams", "csv_text"]

# A plot of more labels than this says nothing.
_MAX_PLOTTED_LABELS = 200


class CSVParams(ScorerParams):
    """Params of every tabular scorer. Subclass it to add your own."""

    id_column: str = Field("id", min_length=1, description="The id column, in both files.")
    label_column: str | None = Field(None, min_length=1, description="The value column, in both files.")
    truth_column: str | None = Field(None, min_length=1, description="The ground truth's value column.")
    prediction_column: str | None = Field(None, min_length=1, description="The predictions' value column.")


class BaseCSVScorer(BaseScorer):
    """A scorer of two tables joined by id: implement ``compute``, or override ``score`` altogether.

    Class attributes, beside those of ``BaseScorer``:
        values: ``text`` (labels, exactly as written) or ``number`` (finite float64).
        truth_columns: Names the ground truth's value column may have when the params name none, best first.
        prediction_columns: The same for the predictions.
    """

    values: ClassVar[Values] = "text"
    truth_columns: ClassVar[Sequence[str]] = ("label",)
    prediction_columns: ClassVar[Sequence[str]] = ("label", "prediction")
    Params: ClassVar[type[ScorerParams]] = CSVParams

    _loaded: tuple[object, AlignedTable, float] | None = None
    # What was compared, where that is not the table as it was read; and what ``per_row`` said of each row.
    _compared: AlignedTable | None = None
    _row_values: RowValues | None = None

    def compute(self, table: AlignedTable, params: Any) -> Mapping[str, float | None] | Result:
        """Compute the metrics.

        Args:
            table: Ground truth and predictions, joined by id.
            params: The checked params, an instance of ``Params``.

        Returns:
            Metric name to number, the main one under ``metric`` (or the only one); or a Result.
        """
        if type(self).per_row is not BaseCSVScorer.per_row:
            return self._mean_of_rows(np.asarray(self.per_row(table, params)), table, params)
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"{type(self).__name__} implements none of per_row, compute and score; write one of them.",
        )

    def per_row(self, table: AlignedTable, params: Any) -> Floats:
        """The loss or the score of each row, where the metric is its mean. Implement it instead of ``compute``.

        The metric then gets a confidence interval by itself: Wilson's where every value is 0 or 1, else the normal one.

        Args:
            table: Ground truth and predictions, joined by id; n rows.
            params: The checked params, an instance of ``Params``.

        Returns:
            Finite numbers, or booleans; shape (n,).
        """
        raise NotImplementedError

    def _mean_of_rows(self, values: NDArray[Any], table: AlignedTable, params: Any) -> Result:
        rows = len(table.truth_codes if self.values == "text" else table.truth_numbers)
        numbers = values.astype(np.float64) if values.dtype.kind in "biuf" else np.empty(0)
        if numbers.shape != (rows,) or not np.isfinite(numbers).all():
            raise AutoScorerError(
                ErrorCode.SCORER_ERROR,
                f"{type(self).__name__}.per_row has to return one finite number for each of the {rows:,} rows, got "
                f"{values.dtype} of the shape {values.shape}.",
            )
        main = self.metric
        self._row_values = RowValues(Measure(main, higher_is_better=self.higher_is_better), numbers)
        interval = mean_interval(numbers, params.confidence_level)
        return main_result(
            main,
            {main: math.fsum(numbers.tolist()) / rows},
            higher_is_better=self.higher_is_better,
            intervals={main: interval} if interval is not None else {},
            notes=[] if interval is not None else [f"No interval for {main}: it does not vary between the rows."],
        )

    def write_artifacts(self, writer: ArtifactWriter, table: AlignedTable, params: Any) -> None:
        """Write what a reader of the Result may want to see: the errors, and a plot of all rows."""
        write_errors(writer, table)
        from .plots import curves_and_bars as plots

        if self.values == "number":
            svg = plots.residual_svg(table.truth_numbers, table.prediction_numbers)
            writer.write("residuals", "residuals.svg", svg)
            svg = plots.coarse_residual_svg(table.truth_numbers, table.prediction_numbers, self.min_count)
            writer.share("residuals", "residuals.svg", svg)
        elif len(table.labels) <= _MAX_PLOTTED_LABELS:
            matrix = count_matrix(table.truth_codes, table.prediction_codes, table.labels)
            svg = plots.confusion_matrix_svg(matrix.labels, matrix.dense())
            writer.write("confusion_matrix_plot", "confusion_matrix.svg", svg)
            share_matrix(writer, coarse_matrix(matrix, self.min_count), plot_only=True)

    def validate(self, workspace: Path, params: dict[str, Any]) -> None:
        """Check the params, the ground truth, and the predictions when they are there.

        What is read here is kept for ``score``, which reads again only what has changed since. A scorer that
        overrides ``score`` reads in its own way: of its files only the ground truth's presence is checked.

        Raises:
            AutoScorerError: The first problem.
        """
        parsed = self.parse_params(params)
        place = Workspace(workspace)
        truth = place.ground_truth()
        if type(self).score is not BaseCSVScorer.score:
            return
        try:
            place.predictions()
        except AutoScorerError as error:
            if error.code is not ErrorCode.MISSING_FILE:
                raise
            columns = self._columns(parsed)
            check_table(truth, columns.id, columns.truth, self.values, encoding=self.encodings[0])
            return
        self._load(place, parsed)

    def score(self, workspace: Path, params: dict[str, Any]) -> Result:
        """Read, join, compute, write the artifacts.

        Raises:
            AutoScorerError: ``BAD_PARAMS``, ``MISSING_FILE``, ``BAD_FORMAT``, ``PARSE_ERROR``, ``MISMATCH``, or
                ``SCORER_ERROR`` when ``compute`` returns something else than it should.
        """
        parsed = self.parse_params(params)
        table, seconds = self._load(Workspace(workspace), parsed)
        started = time.perf_counter()
        result = self._as_result(self.compute(table, parsed))
        computed = time.perf_counter()
        result.timing.load, result.timing.compute = seconds, computed - started
        if parsed.artifacts:
            writer = ArtifactWriter(workspace)
            self.write_artifacts(writer, table, parsed)
            write_samples(writer, self._compared or table, self._row_values)
            result.artifacts = {**result.artifacts, **writer.artifacts}
            result.disclosed.artifacts = {**result.disclosed.artifacts, **writer.shared}
            result.timing.save = time.perf_counter() - computed
        result.versioning.ground_truth_sha256 = table.ground_truth_sha256
        result.versioning.predictions_sha256 = table.predictions_sha256
        self._loaded = None
        return result

    def _columns(self, params: ScorerParams) -> Columns:
        if not isinstance(params, CSVParams):
            return Columns(truth=tuple(self.truth_columns), prediction=tuple(self.prediction_columns))
        truth, prediction = (name or params.label_column for name in (params.truth_column, params.prediction_column))
        return Columns(
            id=params.id_column,
            truth=(truth,) if truth else tuple(self.truth_columns),
            prediction=(prediction,) if prediction else tuple(self.prediction_columns),
        )

    def _load(self, workspace: Workspace, params: ScorerParams) -> tuple[AlignedTable, float]:
        """The joined table and the seconds it took; as ``validate`` read it, if nothing has changed."""
        columns = self._columns(params)
        key = (columns, *(_identity(path) for path in (workspace.ground_truth(), workspace.predictions())))
        if self._loaded is None or self._loaded[0] != key:
            started = time.perf_counter()
            table = load_aligned(workspace, columns, self.values, encodings=self.encodings)
            self._loaded = (key, table, time.perf_counter() - started)
        return self._loaded[1], self._loaded[2]

    def _as_result(self, computed: Mapping[str, float | None] | Result) -> Result:
        if isinstance(computed, Result):
            return computed
        name = type(self).__name__
        if not isinstance(computed, Mapping) or not computed:
            raise AutoScorerError(
                ErrorCode.SCORER_ERROR, f"{name}.compute has to return metrics or a Result, got {computed!r}."
            )
        try:
            metrics = {str(key): None if value is None else float(value) for key, value in computed.items()}
        except (TypeError, ValueError):
            raise AutoScorerError(
                ErrorCode.SCORER_ERROR, f"{name}.compute has to return numbers, got {computed!r}."
            ) from None
        main = self.metric if self.metric in metrics else next(iter(metrics))
        if self.metric not in metrics and len(metrics) > 1:
            raise AutoScorerError(
                ErrorCode.SCORER_ERROR,
                f"{name}.compute returned {', '.join(metrics)} and not its main metric {self.metric!r}. "
                "Set the class attribute 'metric' to the one that is the score.",
            )
        return main_result(main, metrics, higher_is_better=self.higher_is_better)


def main_result(main: str, metrics: Mapping[str, float | None], *, higher_is_better: bool, **more: Any) -> Result:
    """A Result whose summary shows the main metric as the score and under its own name."""
    value = metrics[main]
    shown = value if value is not None and math.isfinite(value) else None
    summary = Summary.model_validate({"score": shown, main: shown, "higher_is_better": higher_is_better})
    return Result(summary=summary, metrics=dict(metrics), **more)


def _identity(path: Path) -> tuple[object, ...]:
    """What changes when a file does."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return (path, None)
    return (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
