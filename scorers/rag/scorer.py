"""The scorer ``rag``: the answers of a workspace, by free metrics, embeddings and judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field, field_validator

from ...core.config import load_settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import ArtifactWriter, Workspace
from ...schemas.rag import check_weights
from ...schemas.result import Disclosed, Result, Summary
from ..base import BaseScorer, ScorerParams
from ..registry.registry import register
from .aggregate import Totals, totals
from .artifacts import write_artifacts
from .calibrated import add_corrected, add_note, uncalibrated
from .catalogue import METRICS, check_metrics, default_metrics, default_weights
from .dataset import Dataset, check_ground_truth, read_dataset
from .progress import Progress
from .run import score_dataset
from .sample import Sample
from .templates import prompt_digests

__all__ = ["RagParams", "RagScorer"]

_MAIN = "rag_score"


class RagParams(ScorerParams):
    """Params of ``rag``."""

    # The schema lists them, for forms. ``check_metrics`` refuses what is none of them, and names a near one.
    metrics: tuple[Annotated[str, Field(json_schema_extra={"enum": [*METRICS]})], ...] | None = Field(
        None, min_length=1, description="Names of metrics; those that fit the files and the configuration when absent."
    )
    weights: dict[str, float] | None = Field(
        None, min_length=1, description="Metric to weight in the score; those that are not named do not count."
    )
    judge: str | tuple[str, ...] | None = Field(
        None, description="A profile or a model of judge.profiles; several are a jury. judge.default when absent."
    )
    embeddings: str | None = Field(
        None, description="A profile or a model of embeddings.profiles; embeddings.default when absent."
    )
    votes: int | None = Field(
        None,
        ge=1,
        le=15,
        description="How often each judge is asked for every verdict; as its profile says when absent.",
    )
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of the values that may fail before the score neither passes nor ranks."
    )

    @field_validator("weights")
    @classmethod
    def _not_negative(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        return check_weights(value)


@register("rag")
class RagScorer(BaseScorer):
    """Answers of a retrieval-augmented system.

    The score is the weighted mean of the metrics' means over the answers. An answer for which a metric has no value
    does not count in that metric's mean; how many there are stands beside it.
    """

    name = "rag"
    version = "1.0.0"
    description = "Answers of a retrieval-augmented system: faithfulness, relevancy, correctness, overlap"
    task_type = "rag"
    metric = _MAIN
    Params = RagParams

    def validate(self, workspace: Path, params: dict[str, Any]) -> None:
        """Check params, ground truth, and predictions where there are some.

        Raises:
            AutoScorerError: ``BAD_PARAMS``, ``MISSING_FILE``, ``BAD_FORMAT`` or ``MISMATCH``.
        """
        self._checked(params)
        space = Workspace(workspace)
        try:
            space.predictions()
        except AutoScorerError as error:
            if error.code is not ErrorCode.MISSING_FILE:
                raise
            check_ground_truth(space.ground_truth(), self.encodings[0])
            return
        read_dataset(space, self.encodings)

    def score(self, workspace: Path, params: dict[str, Any]) -> Result:
        """Score the answers.

        Raises:
            AutoScorerError: As ``validate``; ``JUDGE_ERROR`` or ``BUDGET_EXCEEDED`` where no metric has a value and
                that is why.
        """
        checked = self._checked(params)
        space, settings = Workspace(workspace), self.settings or load_settings()
        started = time.perf_counter()
        dataset = read_dataset(space, self.encodings)
        loaded = time.perf_counter()
        run = asyncio.run(
            score_dataset(
                dataset,
                settings,
                metrics=lambda judge, embeddings: _metrics_of(dataset, checked, judge=judge, embeddings=embeddings),
                judge=checked.judge,
                embeddings=checked.embeddings,
                votes=checked.votes,
                weights=checked.weights,
                on_sample=Progress(len(dataset.items), self.progress).count,
            )
        )
        names = tuple(run.samples[0].metrics)
        weights = _weights(dataset, names, checked.weights)
        found = totals(run.samples, weights, checked.confidence_level)
        if all(each.mean is None for each in found.metrics.values()):
            _raise_first_failure(found)
        self.is_partial = found.failed > checked.max_failed
        result = _result(found, dataset)
        result.versioning.models = dict(run.models)
        result.versioning.prompts = prompt_digests() if any(METRICS[name].judge for name in names) else {}
        add_corrected(result, run, settings.home, checked.confidence_level)
        if settings.judge.require_calibration:
            unknown = uncalibrated(run, settings.home, [name for name in names if weights.get(name)])
            self.is_uncalibrated = bool(unknown)
            if unknown:
                add_note(result, _uncalibrated_note(unknown, checked))
        computed = time.perf_counter()
        if checked.artifacts:
            writer = ArtifactWriter(workspace)
            write_artifacts(writer, dataset, run.samples, found)
            result.artifacts.update(writer.artifacts)
        result.timing.load, result.timing.compute = loaded - started, computed - loaded
        result.timing.save = time.perf_counter() - computed
        result.versioning.ground_truth_sha256 = dataset.ground_truth_sha256
        result.versioning.predictions_sha256 = dataset.predictions_sha256
        return result

    def _checked(self, params: Mapping[str, Any]) -> RagParams:
        checked = cast(RagParams, self.parse_params(params))
        check_metrics(checked.metrics or ())
        check_metrics(checked.weights or (), "weights")
        return checked


def _metrics_of(dataset: Dataset, params: RagParams, *, judge: bool, embeddings: bool) -> tuple[str, ...]:
    """What to score: what the params name, or what fits an answer that has what any of them has."""
    if params.metrics is not None:
        return check_metrics(params.metrics)
    named = [name for name, weight in (params.weights or {}).items() if weight]
    if named:
        return tuple(named)
    return default_metrics(_fullest(dataset), judge=judge, embeddings=embeddings)


def _fullest(dataset: Dataset) -> Sample:
    samples = [item.sample for item in dataset.items]
    contexts = next((each.contexts for each in samples if each.contexts), None)
    return Sample("?", "", contexts, next((each.ground_truth for each in samples if each.ground_truth), None))


def _weights(dataset: Dataset, names: tuple[str, ...], weights: Mapping[str, float] | None) -> Mapping[str, float]:
    if weights is not None:
        return weights
    defaults = default_weights(_fullest(dataset))
    counted = {name: defaults[name] for name in names if name in defaults}
    return counted or dict.fromkeys(names, 1.0)


def _raise_first_failure(found: Totals) -> None:
    failures = [each.first_failure for each in found.metrics.values() if each.first_failure is not None]
    if failures:
        code = ErrorCode(failures[0].error_code or "JUDGE_ERROR")
        raise AutoScorerError(
            code,
            f"No metric of any answer could be had. The first one says: {failures[0].reason}",
            details={"failed": sum(each.failed for each in found.metrics.values())},
        )


def _result(found: Totals, dataset: Dataset) -> Result:
    metrics = {_MAIN: found.score, **{name: each.mean for name, each in found.metrics.items()}}
    summary = Summary.model_validate({"score": found.score, _MAIN: found.score, "higher_is_better": True})
    intervals = {name: each.interval for name, each in found.metrics.items() if each.interval is not None}
    if found.interval is not None:
        intervals[_MAIN] = found.interval
    notes = _notes(found, len(dataset.items))
    metrics["coverage"] = found.coverage
    return Result(
        summary=summary,
        metrics=metrics,
        intervals=intervals,
        notes=notes,
        disclosed=Disclosed(metrics=dict(metrics), notes=notes),
    )


def _notes(found: Totals, n: int) -> list[str]:
    """What a reader must know; none of it quotes an answer or the ground truth."""
    notes = []
    if found.score is None:
        notes.append("No metric that counts in the score has a value, so the score is undefined.")
    for name, each in found.metrics.items():
        without = {
            "have an input missing": each.skipped,
            "have no value (undefined)": each.undefined,
            "could not be judged": each.failed,
        }
        parts = [f"{count:,} {why}" for why, count in without.items() if count]
        if parts:
            notes.append(f"{name}: {each.ok:,} of {n:,} answers count; {', '.join(parts)}.")
        if each.mean is None:
            notes.append(f"{name} is undefined: no answer has it.")
    if found.failed:
        notes.append(
            f"This Result is partial: {found.failed:.2%} of the values that were asked for could not be had. Score the "
            "workspace again: what was judged is known, and only the rest is asked for."
        )
    return notes


def _uncalibrated_note(metrics: Sequence[str], params: RagParams) -> str:
    judges = [params.judge] if isinstance(params.judge, str) else params.judge or ()
    options = [f"--judge {judge}" for judge in judges]
    options += [f"--embeddings {params.embeddings}"] if params.embeddings else []
    options += [f"--votes {params.votes}"] if params.votes else []
    command = " ".join(["autoscorer judge calibrate LABELS", *options])
    return (
        f"This Result neither passes nor ranks: nobody has held the judge against people for {', '.join(metrics)}, and "
        f"judge.require_calibration asks for that. Label some answers, run `{command}`, and score again."
    )
