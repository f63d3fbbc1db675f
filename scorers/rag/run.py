"""All answers of a data set through their metrics, many at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from ...core.config import Settings, load_settings
from ...schemas.rag import SampleScores
from .dataset import Dataset
from .evaluate import Models, evaluate

__all__ = ["DatasetScores", "Models", "opened_models", "score_dataset"]

# Answers under way for each call that a judge may have at a time: most of them wait for an answer of their own.
_AHEAD = 2
_LEAST = 4


@dataclass(frozen=True)
class DatasetScores:
    """What the answers came to.

    Attributes:
        samples: The scores of each, in the order of the data set.
        models: What models were asked for, and their names.
    """

    samples: Sequence[SampleScores]
    models: Mapping[str, str]


async def score_dataset(
    dataset: Dataset,
    settings: Settings | None,
    *,
    metrics: Callable[[Models], Sequence[str]],
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
        metrics: Which metrics to score, given the models that there are.
        judge: A profile or model, or several; the default when None.
        embeddings: A profile or model; the default when None.
        votes: How often each judge is asked; as its profile says when None.
        weights: Metric to weight.
        on_sample: Told of each answer when it is done.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for a profile that there is not.
    """
    names = (judge,) if isinstance(judge, str) else tuple(judge) if judge is not None else (None,)
    async with opened_models(settings or load_settings(), names, embeddings, votes) as models:
        wanted = metrics(models)
        places = asyncio.Semaphore(max(_LEAST, _AHEAD * sum(each.concurrency for each in models.judges)))
        found: list[SampleScores | None] = [None] * len(dataset.items)

        async def one(number: int) -> None:
            async with places:
                scores = await evaluate(dataset.items[number].sample, wanted, models, weights=weights)
            found[number] = scores
            on_sample(number, scores)

        async with asyncio.TaskGroup() as group:
            for number in range(len(dataset.items)):
                group.create_task(one(number))
        return DatasetScores([scores for scores in found if scores is not None], models.names)


@contextlib.asynccontextmanager
async def opened_models(
    settings: Settings, judges: Sequence[str | None], embeddings: str | None, votes: int | None
) -> AsyncIterator[Models]:
    """The models that are configured, or asked for by name; none of them is asked for anything yet.

    Args:
        settings: The configuration.
        judges: Profiles or models; None is the default, if there is one.
        embeddings: The same.
        votes: How often each judge is asked; as its profile says when None.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for one that there is not.
    """
    from ..judge.runtime import open_judges

    async with open_judges(settings) as runtime:
        sessions = [runtime.session(judge=name, embeddings=embeddings) for name in judges]
        found = [session.judge for session in sessions if session.judge is not None]
        # One who is named twice is one.
        unique = {(each.name, each.model): each for each in found}
        yield Models(list(unique.values()), votes, sessions[0].embedder)
