"""Context precision and utilization: whether the passages that help come first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..judge.client import Judge
from ..judge.usage import Usage
from .asking import Asking, Measured, gathered, majority, verdict_schema
from .templates import Template

__all__ = ["average_precision", "context_precision", "context_utilization"]

USEFUL = Template("context_precision")
_SCHEMA = verdict_schema(["c0"])


async def context_precision(ask: Asking, usage: Usage) -> Measured:
    """The average precision of the contexts, where those count as relevant that help towards the ground truth.

    context_precision = sum over k of precision@k × relevant(k) / number of relevant contexts, and 0 where none is
    (RAGAS; the average precision of Manning et al., Introduction to Information Retrieval, 8.4). The order of the
    contexts matters, and their number alone does not. Needs question, contexts, ground_truth.

    Returns:
        The score, with a verdict for each context.

    Raises:
        AutoScorerError: The judge could not be asked.
    """
    return await _measure(ask, usage, ask.sample.ground_truth or "")


async def context_utilization(ask: Asking, usage: Usage) -> Measured:
    """As ``context_precision``, where those contexts count as relevant that the answer made use of.

    Needs question, contexts, answer: no ground truth.

    Returns:
        The score, with a verdict for each context.

    Raises:
        AutoScorerError: The judge could not be asked.
    """
    return await _measure(ask, usage, ask.sample.answer or "")


async def _measure(ask: Asking, usage: Usage, answer: str) -> Measured:
    contexts = ask.sample.contexts or ()

    async def of(judge: Judge, vote: int, context: str) -> dict[str, Any]:
        blocks = {"question": ask.sample.question or "", "answer": answer, "context": context}
        prompt = USEFUL.fill(blocks, chinese=ask.is_chinese)
        verdict: dict[str, Any] = (await judge.ask(prompt, _SCHEMA, usage=usage, vote=vote))["c0"]
        return verdict

    found = await gathered(of(judge, vote, context) for judge, vote in ask.voters for context in contexts)
    ballots = [found[at : at + len(contexts)] for at in range(0, len(found), len(contexts))]
    scores = [average_precision([each["verdict"] for each in ballot]) for ballot in ballots]
    reason = None if any(scores) else "None of the contexts helps."
    return Measured.of(scores, majority(contexts, ballots), reason)


def average_precision(relevant: Sequence[bool]) -> float:
    """The mean of precision@k over the places k of what is relevant; 0 where nothing is."""
    hits = list(accumulate(map(int, relevant)))
    if not hits or not hits[-1]:
        return 0.0
    return (
        sum(hit / place for place, (hit, is_hit) in enumerate(zip(hits, relevant, strict=True), 1) if is_hit) / hits[-1]
    )
