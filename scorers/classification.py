"""Classification by label: F1 and its kin, and accuracy and its kin, from one confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import ArtifactWriter
from ..schemas.result import Disclosed, Interval, Result
from .artifacts import csv_text, share_matrix, write_errors
from .base import ScorerParams
from .base_csv import BaseCSVScorer, CSVParams, main_result
from .metrics.coarse import CoarseMatrix, coarse_matrix
from .metrics.confusion import Averages, ConfusionMatrix, count_matrix, metrics_of, per_class
from .metrics.intervals import bootstrap, classification_interval
from .metrics.threshold import decide
from .registry.registry import register
from .tables.aligned import AlignedTable
from .tables.labels import LabelTexts, clipped

__all__ = ["AccuracyParams", "ClassificationAccuracy", "ClassificationF1", "F1Params"]

# More classes than this would flood the metrics; all of them are in per_class.csv.
_MAX_CLASSES_IN_METRICS = 20
_MAX_NAMES_IN_NOTES = 10
_MAX_BOOTSTRAP_CLASSES = 10
_MAX_DENSE_CLASSES = 200
_MAX_CELLS = 100_000
_MAX_CELLS_OF_LONG_LABELS = 5_000


class AccuracyParams(CSVParams):
    """Params of classification_accuracy."""

    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Where the predictions are probabilities of a binary task: from here on they count as the positive "
        "label. Predicted labels stay as they are.",
    )
    positive_label: str | None = Field(
        None, description="Whose probability is predicted; needed unless the labels tell, as 0 and 1 or no and yes do."
    )

    interval_method: Literal["delta", "bootstrap"] = Field(
        "delta", description="Closed forms (Wilson, MOVER), or the multinomial bootstrap for up to 10 classes."
    )
    n_resamples: int = Field(1000, ge=100, le=100_000, description="Resamples of the bootstrap.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")

    @model_validator(mode="after")
    def _label_goes_with_threshold(self) -> AccuracyParams:
        if self.positive_label is not None and self.threshold is None:
            raise ValueError("positive_label says whose probability is predicted; give the threshold, too")
        return self


class F1Params(AccuracyParams):
    """Params of classification_f1."""

    average: Literal["macro", "micro", "weighted"] = Field("macro", description="Which F1 is the score.")


class _Classification(BaseCSVScorer):
    """What both scorers share: the matrix, intervals, notes and artifacts."""

    version: ClassVar[str] = "1.0.0"
    task_type: ClassVar[str] = "classification"
    rank_thresholds: ClassVar[tuple[float, float, float] | None] = (0.9, 0.8, 0.6)
    metrics: ClassVar[Sequence[str]] = ()
    intervals: ClassVar[Sequence[str]] = ()

    _matrix: ConfusionMatrix
    _coarse: CoarseMatrix

    def compute(self, table: AlignedTable, params: Any) -> Result:
        """Count the matrix once, and derive everything from it."""
        decided = None if params.threshold is None else decide(table, params.threshold, params.positive_label)
        self._compared = table = table if decided is None else decided.table
        matrix = count_matrix(table.truth_codes, table.prediction_codes, table.labels)
        self._matrix = matrix
        values = metrics_of(matrix.hits, matrix.truth, matrix.predicted)
        metrics: dict[str, float | None] = {name: float(values[name]) for name in self.metrics}
        notes, undefined = _notes(matrix, table), []
        if decided is not None:
            notes.insert(0, decided.note)
        for name, value in metrics.items():
            if value != value:  # NaN: undefined
                metrics[name] = None
                undefined.append(f"{name} is undefined: only one label occurs in the ground truth and the predictions.")
        notes += undefined
        if len(matrix.labels) == 1 and "matthews_corrcoef" in metrics:
            notes.append("matthews_corrcoef is 0/0 with a single label; taken as 0, as scikit-learn does.")
        intervals = self._intervals(matrix, metrics, params)
        self._coarse = coarse = coarse_matrix(matrix, self.min_count)
        disclosed = Disclosed(metrics={**metrics, **coarse.metrics()}, notes=[*undefined, coarse.note()])
        if decided is not None:
            disclosed.notes.insert(0, decided.harmless_note)
        if len(matrix.labels) <= _MAX_CLASSES_IN_METRICS:
            metrics.update(_class_metrics(matrix))
        else:
            notes.append(f"{len(matrix.labels):,} classes: the metrics of each are in per_class.csv.")
        more: dict[str, Any] = {"intervals": intervals, "notes": notes, "disclosed": disclosed}
        return main_result(self._main(params), metrics, higher_is_better=True, **more)

    def _main(self, params: Any) -> str:
        return self.metric

    def _intervals(self, matrix: ConfusionMatrix, metrics: dict[str, float | None], params: Any) -> dict[str, Interval]:
        names = [name for name in self.intervals if metrics[name] is not None]
        if params.interval_method == "bootstrap":
            if len(matrix.labels) > _MAX_BOOTSTRAP_CLASSES:
                raise AutoScorerError(
                    ErrorCode.BAD_PARAMS,
                    f"interval_method 'bootstrap' is meant for up to {_MAX_BOOTSTRAP_CLASSES} classes; here are "
                    f"{len(matrix.labels):,}. Use 'delta'.",
                    details={"params": ["interval_method"]},
                )
            found = bootstrap(matrix, names, params.confidence_level, n_resamples=params.n_resamples, seed=params.seed)
            # Resamples of a sample without an error have none either, and would claim certainty.
            names = [name for name in names if name not in found or found[name].low == found[name].high]
        else:
            found = {}
        for name in names:
            value = metrics[name]
            assert value is not None
            interval = classification_interval(matrix, name, value, params.confidence_level)
            if interval is not None:
                found[name] = interval
        return {name: found[name] for name in self.intervals if name in found}

    def write_artifacts(self, writer: ArtifactWriter, table: AlignedTable, params: Any) -> None:
        """confusion_matrix.json, per_class.csv, errors.csv, two plots; all but errors.csv in a shared version, too."""
        from .plots import curves_and_bars as plots

        matrix = self._matrix
        writer.write_json("confusion_matrix", "confusion_matrix.json", _matrix_json(matrix))
        precision, recall, f1 = per_class(matrix.hits, matrix.truth, matrix.predicted)
        columns = (precision, recall, f1, matrix.truth, matrix.predicted)
        # One number after the other: lists of them all would take more memory than everything else.
        rows = zip(_shown(matrix.labels), *(map(column.item, range(len(column))) for column in columns), strict=True)
        header = ("label", "precision", "recall", "f1", "support", "predicted")
        writer.write("per_class", "per_class.csv", csv_text(header, rows))
        write_errors(writer, self._compared or table)
        writer.write("confusion_matrix_plot", "confusion_matrix.svg", plots.counted_confusion_svg(matrix))
        worst = plots.lowest(f1)
        labels = [matrix.labels[index] for index in worst.tolist()]
        svg = plots.per_class_svg(labels, f1[worst].tolist(), title="F1 by class", total=len(matrix.labels))
        writer.write("per_class_plot", "per_class.svg", svg)
        share_matrix(writer, self._coarse)


@register("classification_f1")
class ClassificationF1(_Classification):
    """F1, precision and recall, averaged over classes as scikit-learn does by default."""

    name: ClassVar[str] = "classification_f1"
    description: ClassVar[str] = "F1 (macro, micro or weighted), precision, recall and accuracy of predicted labels."
    metric: ClassVar[str] = "f1_macro"
    Params: ClassVar[type[ScorerParams]] = F1Params
    metrics: ClassVar[Sequence[str]] = (
        *(f"{name}_{average}" for name in ("f1", "precision", "recall") for average in Averages),
        "accuracy",
    )
    intervals: ClassVar[Sequence[str]] = metrics

    def _main(self, params: Any) -> str:
        return f"f1_{params.average}"


@register("classification_accuracy")
class ClassificationAccuracy(_Classification):
    """Accuracy, plain, balanced and corrected for chance."""

    name: ClassVar[str] = "classification_accuracy"
    description: ClassVar[str] = "Accuracy, balanced accuracy, Matthews' coefficient and Cohen's kappa."
    metric: ClassVar[str] = "accuracy"
    Params: ClassVar[type[ScorerParams]] = AccuracyParams
    metrics: ClassVar[Sequence[str]] = ("accuracy", "balanced_accuracy", "matthews_corrcoef", "cohen_kappa")
    intervals: ClassVar[Sequence[str]] = metrics


def _class_metrics(matrix: ConfusionMatrix) -> dict[str, float | None]:
    precision, recall, f1 = per_class(matrix.hits, matrix.truth, matrix.predicted)
    columns = {"precision": precision, "recall": recall, "f1": f1, "support": matrix.truth}
    return {
        f"{name}/{label}": float(column[index])
        for name, column in columns.items()
        for index, label in enumerate(matrix.labels)
    }


def _notes(matrix: ConfusionMatrix, table: AlignedTable) -> list[str]:
    notes = []
    for counts, what in (
        (matrix.predicted, "never predicted: its precision is 0/0 and counts as 0"),
        (matrix.truth, "predicted but not in the ground truth: its recall is 0/0 and counts as 0"),
    ):
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            names = ", ".join(repr(matrix.labels[index][:80]) for index in absent[:_MAX_NAMES_IN_NOTES].tolist())
            dots = ", …" if len(absent) > _MAX_NAMES_IN_NOTES else ""
            many = len(absent) > 1
            what = what.replace("its", "their") if many else what
            notes.append(f"{len(absent):,} label{'s' * many} {what} ({names}{dots}).")
    if matrix.labels[0] == "":
        notes.append(
            f"The empty text is a label like any other: {matrix.truth[0]:,} times in the ground truth, "
            f"{matrix.predicted[0]:,} times predicted."
        )
    return notes


def _shown(labels: Sequence[str]) -> Iterable[str]:
    """The labels as a table of all of them shows them: as they are, unless they would take much memory."""
    return map(clipped, labels) if isinstance(labels, LabelTexts) else labels


def _matrix_json(matrix: ConfusionMatrix) -> dict[str, Any]:
    """Dense for up to 200 labels; else its cells, the largest first, at most 100,000 of them."""
    if len(matrix.labels) <= _MAX_DENSE_CLASSES:
        return {"labels": matrix.labels, "format": "dense", "matrix": matrix.dense().tolist()}
    labels, most = matrix.labels, _MAX_CELLS
    if isinstance(labels, LabelTexts):
        most = _MAX_CELLS_OF_LONG_LABELS
    order = np.argsort(-matrix.counts, kind="stable")[:most]
    rows, columns = matrix.rows[order], matrix.columns[order]
    if isinstance(labels, LabelTexts):  # those of the cells alone
        used = np.union1d(rows, columns)
        labels = [clipped(labels[index]) for index in used.tolist()]
        rows, columns = np.searchsorted(used, rows), np.searchsorted(used, columns)
    cells = np.stack([rows, columns, matrix.counts[order]], axis=1)
    return {
        "labels": labels,
        "format": "cells",
        "columns": ["truth", "prediction", "count"],
        "cells": cells.tolist(),
        "cells_left_out": len(matrix.counts) - len(order),
    }
