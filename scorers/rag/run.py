"""All answers of a data set through their metrics, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ...core.config import Settings, load_settings
from ...schemas.rag import SampleScores
from ..judge.budget import Budget
from ..judge.client import Judge
from ..judge.runtime import JudgeRuntime, open_judges
from .asking import gathered
from .dataset import Dataset
from .evaluate import Models, evaluate

__all__ = ["DatasetScores", "models_of", "score_dataset"]

# Answers under way for each call that judges may have at a time, and at least.
_AHEAD = 2
_LEAST = 4


@dataclass(frozen=True)
class DatasetScores:
    """What the answers came to.

    Attributes:
        samples: The scores of each, in the order of the data set.
        asked: Who was asked.
    """

    samples: Sequence[SampleScores]
    asked: Models

    @property
    def models(self) -> Mapping[str, str]:
        """What models were asked for, and their names."""
        return self.asked.names


async def score_dataset(
    dataset: Dataset,
    settings: Settings | None,
    *,
    metrics: Callable[[bool, bool], Sequence[str]],
    judge: str | Sequence[str] | None = None,
    embeddings: str | None = None,
    votes: int | None = None,
    weights: Mapping[str, float] | None = None,
    on_sample: Callable[[int, SampleScores], None] = lambda number, scores: None,
) -> DatasetScores:
    """Score every answer of a data set.

    Args:
        dataset: The answers.
        settings: The configuration; read from its usual places when None.
        metrics: Which metrics to score, given whether there is a judge and whether there are embeddings.
        judge: A profile or model, or several; the default when None.
        embeddings: A profile or model; the default when None.
        votes: How often each judge is asked; as its profile says when None.
        weights: Metric to weight.
        on_sample: Told of each answer when it is done.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for a profile that there is not.
    """
    settings = settings or load_settings()
    async with open_judges(settings) as runtime:
        # What is spent is the job's, all of it; a deadline is an answer's.
        opened = partial(models_of, runtime, judge, embeddings, votes, Budget.of(settings.judge.budget))
        models = opened()
        wanted = metrics(bool(models.judges), models.embedder is not None)
        places = asyncio.Semaphore(max(_LEAST, _AHEAD * settings.judge.concurrency))

        async def one(number: int) -> SampleScores:
            async with places:
                scores = await evaluate(dataset.items[number].sample, wanted, opened(), weights=weights)
            on_sample(number, scores)
            return scores

        return DatasetScores(await gathered(one(number) for number in range(len(dataset.items))), models)


def models_of(
    runtime: JudgeRuntime,
    judge: str | Sequence[str] | None,
    embeddings: str | None,
    votes: int | None,
    budget: Budget | None,
    caller: str = "",
) -> Models:
    """The models that one answer's metrics may ask, within a deadline that begins now.

    Args:
        runtime: What they share.
        judge: A profile or a model, or several for a jury; the default when None.
        embeddings: A profile or a model; the default when None.
        votes: How often each judge is asked; as its profile says when None.
        budget: What may be spent; as configured for a job when None.
        caller: Whose day's budget it counts for.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for one that there is not.
    """
    names = [judge] if judge is None or isinstance(judge, str) else list(judge)
    judges: dict[tuple[str, str], Judge] = {}
    embedder = None
    for name in names:
        session = runtime.session(judge=name, embeddings=embeddings, caller=caller, budget=budget)
        budget, embedder = session.budget, session.embedder
        if session.judge is not None:
            # One who is named twice is one.
            judges[session.judge.name, session.judge.model] = session.judge
    return Models(tuple(judges.values()), votes, embedder)
