"""A judge held against people: their labels judged, what comes of it computed, and kept in the home.

A calibration holds for one metric, asked of the very judges with the very questions. It is kept under the digest of
these, so that where one of them changes there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.provenance import utc_now
from ...core.workspace import write_atomic
from ...schemas.calibration import Calibration, CalibrationKey, JudgeIdentity, Pair
from ...schemas.rag import MetricScore
from ..judge.budget import Budget
from ..judge.runtime import open_judges
from .agreement import agreement_of, stability_of
from .asking import gathered
from .catalogue import METRICS
from .evaluate import Models, evaluate
from .labels import Labels
from .run import models_of
from .sample import Sample
from .templates import prompt_digests

__all__ = ["THRESHOLD", "Calibrations", "calibrate", "calibration_key"]

logger = logging.getLogger(__name__)

# A score from here on is a yes, where nobody says from where on.
THRESHOLD = 0.5


def calibration_key(metric: str, models: Models) -> CalibrationKey:
    """What a calibration of a metric must hold for.

    Args:
        metric: One that asks a judge.
        models: Who is asked.
    """
    info, digests = METRICS[metric], prompt_digests()
    embedder = models.embedder if info.is_embedded else None
    return CalibrationKey(
        metric=metric,
        judges=tuple(
            JudgeIdentity(
                profile=judge.name,
                model=judge.model,
                votes=models.votes or judge.votes,
                temperature=judge.temperature,
            )
            for judge in models.judges
        ),
        embeddings=None if embedder is None else f"{embedder.name}: {embedder.model}",
        prompts={name: digests[name] for name in info.prompts},
    )


class Calibrations:
    """The calibrations of a home, each a file.

    Args:
        home: The installation's folder.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "calibrations"

    def save(self, calibration: Calibration) -> Path:
        """Keep one, in the place of an earlier one for the same."""
        path = self.folder / f"{calibration.holds_for.digest}.json"
        write_atomic(path, calibration.model_dump_json(indent=2).encode())
        return path

    def find(self, key: CalibrationKey) -> Calibration | None:
        """The one for these judges, questions and votes; None where there is none."""
        found = self._read(self.folder / f"{key.digest}.json")
        return found if found is not None and found.holds_for == key else None

    def all(self) -> tuple[list[Calibration], list[str]]:
        """All of them, newest first, and the names of files that can't be read."""
        read = {path.name: self._read(path) for path in sorted(self.folder.glob("[!.]*.json"))}
        found = [each for each in read.values() if each is not None]
        return (
            sorted(found, key=lambda each: each.made_at, reverse=True),
            [name for name, each in read.items() if each is None],
        )

    def _read(self, path: Path) -> Calibration | None:
        try:
            return Calibration.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            logger.warning(
                "The calibration %s can't be read, and counts as none; calibrate the judge again.", path.name
            )
            return None


async def calibrate(
    labels: Labels,
    settings: Settings,
    *,
    judge: str | Sequence[str] | None = None,
    embeddings: str | None = None,
    votes: int | None = None,
    repeats: int = 1,
    threshold: float = THRESHOLD,
    budget: Budget | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> list[Calibration]:
    """Have the judge judge what people have, and compare.

    Args:
        labels: What people say.
        settings: The configuration.
        judge: A profile or model, or several; the default when None.
        embeddings: A profile or model; the default when None.
        votes: How often each judge is asked for every verdict; as its profile says when None.
        repeats: How often all of it is asked. The first time is what is held against the labels.
        threshold: Scores from here on are a yes.
        budget: What may be spent, and then what was; as configured for a job when None.
        on_answer: Called as each answer is done, in each repeat.

    Returns:
        A calibration for each metric that has labels, in their order. None is kept yet.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for a profile that there is not; ``INVALID_REQUEST`` where no judge is
            configured or no answer has a value of a metric; ``JUDGE_ERROR`` or ``BUDGET_EXCEEDED`` where that is why.
    """
    asked = labels.asked
    async with open_judges(settings) as runtime:
        budget = budget or Budget.of(settings.judge.budget)
        models = models_of(runtime, judge, embeddings, votes, budget)
        if not models.judges:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST, "No judge is configured: set judge.profiles and judge.default, or name one."
            )

        def opened(repeat: int) -> Models:
            # A deadline is an answer's.
            return replace(models_of(runtime, judge, embeddings, votes, budget), repeat=repeat)

        rounds = [
            await _judged(asked, partial(opened, repeat), settings.judge.concurrency, on_answer)
            for repeat in range(repeats)
        ]
    metrics = dict.fromkeys(item.metric for item in labels.items)
    return [_calibration(calibration_key(metric, models), labels, rounds, threshold) for metric in metrics]


async def _judged(
    asked: Mapping[Sample, Sequence[str]],
    opened: Callable[[], Models],
    concurrency: int,
    on_answer: Callable[[], None],
) -> dict[tuple[Sample, str], MetricScore]:
    """The scores of all samples, each by its metrics; calls keep within limits, and samples a little ahead of them."""
    places = asyncio.Semaphore(max(4, 2 * concurrency))

    async def one(sample: Sample, metrics: Sequence[str]) -> list[tuple[tuple[Sample, str], MetricScore]]:
        async with places:
            scores = await evaluate(sample, metrics, opened())
        on_answer()
        return [((sample, name), score) for name, score in scores.metrics.items()]

    return dict(chain(*await gathered(one(sample, metrics) for sample, metrics in asked.items())))


def _calibration(
    key: CalibrationKey,
    labels: Labels,
    rounds: Sequence[Mapping[tuple[Sample, str], MetricScore]],
    threshold: float,
) -> Calibration:
    items = [item for item in labels.items if item.metric == key.metric]
    scores = [[each[item.sample, item.metric] for item in items] for each in rounds]
    pairs = tuple(
        Pair(score=found.score, label=item.label)
        for item, found in zip(items, scores[0], strict=True)
        if found.score is not None
    )
    if not pairs:
        first = next((found for found in scores[0] if found.status == "failed"), scores[0][0])
        raise AutoScorerError(
            ErrorCode(first.error_code or ErrorCode.INVALID_REQUEST),
            f"No labelled answer has a value of {key.metric}. The first one says: {first.reason}",
        )
    agreement = agreement_of(pairs, threshold)
    repeats = [[found.score for found in each] for each in scores]
    return Calibration(
        holds_for=key,
        made_at=utc_now(),
        labels_sha256=labels.sha256,
        threshold=threshold,
        agreement=agreement,
        stability=stability_of(repeats, threshold, agreement.kind) if len(repeats) > 1 else None,
        undefined=sum(found.status == "undefined" for found in scores[0]),
        failed=sum(found.status in ("failed", "skipped") for found in scores[0]),
        pairs=pairs,
    )
