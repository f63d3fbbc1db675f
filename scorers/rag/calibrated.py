"""What a Result says of its judges: means corrected for how they err, and metrics whose judges nobody has measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from ...schemas.calibration import Calibration, Rate
from ...schemas.rag import JudgedBy
from ...schemas.result import Result
from .calibration import Calibrations, calibration_key
from .catalogue import METRICS
from .corrected import Corrected, are_alike, prediction_powered, rogan_gladen
from .evaluate import Models
from .run import DatasetScores
from .templates import prompt_digests

__all__ = ["add_corrected", "add_note", "judged_by", "uncalibrated"]


def add_corrected(result: Result, run: DatasetScores, home: Path, level: float) -> None:
    """Put ``<metric>_corrected`` beside each metric whose judges were held against people, with interval and note.

    Args:
        result: Gets them. Its score stays the judges' own.
        run: What the judges said.
        home: Where calibrations are kept.
        level: Nominal coverage of the intervals.
    """
    kept = Calibrations(home)
    for metric in _judged(run):
        scores = [each for sample in run.samples if (each := sample.metrics[metric].score) is not None]
        calibration = kept.find(calibration_key(metric, run.asked))
        if calibration is None or not scores:
            continue
        name = f"{metric}_corrected"
        found = _corrected(calibration, scores, level)
        result.metrics[name] = result.disclosed.metrics[name] = found.value
        if found.interval is not None:
            result.intervals[name] = found.interval
        for note in _notes(name, calibration, scores, found):
            add_note(result, note)


def uncalibrated(run: DatasetScores, home: Path, counted: Collection[str]) -> tuple[str, ...]:
    """Those of some metrics whose judges were not held against people, as they were asked here.

    Args:
        run: What the judges said.
        home: Where calibrations are kept.
        counted: Names of metrics.
    """
    kept = Calibrations(home)
    return tuple(
        metric for metric in _judged(run) if metric in counted and kept.find(calibration_key(metric, run.asked)) is None
    )


def judged_by(metrics: Collection[str], models: Models, home: Path) -> JudgedBy | None:
    """Who is asked for some metrics, and by which words; None where they ask no model.

    Args:
        metrics: Names of metrics.
        models: Who is asked.
        home: Where calibrations are kept.
    """
    judged = [name for name in metrics if METRICS[name].judge and models.judges]
    embedded = models.embedder is not None and any(METRICS[name].is_embedded for name in metrics)
    if not judged and not embedded:
        return None
    kept, digests = Calibrations(home), prompt_digests()
    known = {name: kept.find(calibration_key(name, models)) for name in judged}
    asked = {"judge": bool(judged), "embeddings": embedded}
    return JudgedBy(
        models={what: name for what, name in models.names.items() if asked[what]},
        prompts={each: digests[each] for name in judged for each in METRICS[name].prompts},
        calibrated={name: found.made_at for name, found in known.items() if found is not None},
    )


def add_note(result: Result, note: str) -> None:
    """A note for everybody: it names no answer and no label."""
    result.notes.append(note)
    result.disclosed.notes.append(note)


def _judged(run: DatasetScores) -> list[str]:
    return [name for name in run.samples[0].metrics if METRICS[name].judge] if run.asked.judges else []


def _corrected(calibration: Calibration, scores: Sequence[float], level: float) -> Corrected:
    agreement = calibration.agreement
    if agreement.sensitivity is not None and agreement.specificity is not None:
        accepted = sum(score >= calibration.threshold for score in scores)
        return rogan_gladen(accepted, len(scores), agreement.sensitivity, agreement.specificity, level)
    judged, labels = _pairs(calibration)
    return prediction_powered(scores, judged, labels, level)


def _notes(name: str, calibration: Calibration, scores: Sequence[float], found: Corrected) -> list[str]:
    agreement = calibration.agreement
    judged, labels = _pairs(calibration)
    if agreement.sensitivity is not None and agreement.specificity is not None:
        errs = f"sensitivity {_told(agreement.sensitivity)}, specificity {_told(agreement.specificity)}"
        of = f"the share of answers that people would accept, of scores from {calibration.threshold:.6g} on"
    else:
        difference = math.fsum(label - score for label, score in zip(labels, judged, strict=True)) / len(labels)
        errs, of = (
            f"people's numbers less the judge's come to {difference:+.3g} in the mean",
            "the mean of the numbers that people would give",
        )
    what = f"calibrated {calibration.made_at[:10]} with {agreement.n:,} labels; {errs}"
    if found.value is None:
        return [f"{name} is undefined: {found.why_not} (the judge was {what})."]
    notes = [f"{name} estimates {of} (the judge was {what})."]
    if agreement.kind == "number" and not are_alike(scores, judged):
        notes.append(
            f"{name} may be off: the judge scores these answers otherwise than the labelled ones, and the correction "
            "holds for answers like those. Label some of these."
        )
    return notes


def _pairs(calibration: Calibration) -> tuple[list[float], list[float]]:
    return [pair.score for pair in calibration.pairs], [float(pair.label) for pair in calibration.pairs]


def _told(rate: Rate) -> str:
    around = "" if rate.interval is None else f" [{rate.interval.low:.3g}, {rate.interval.high:.3g}]"
    return "unknown" if rate.value is None else f"{rate.value:.3g}{around}"
