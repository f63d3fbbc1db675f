"""Context recall: whether what was retrieved holds what a right answer needs."""

from __future__ import annotations

from ..judge.usage import Usage
from .asking import Asking, Measured
from .faithfulness import held_share
from .sample import Undefined
from .templates import Template

__all__ = ["context_recall"]

ATTRIBUTED = Template("context_recall")


async def context_recall(ask: Asking, usage: Usage) -> Measured:
    """The share of the ground truth's claims that the contexts hold.

    context_recall = claims of the ground truth that the contexts support / claims of the ground truth (RAGAS). Needs
    question, contexts, ground_truth.

    Returns:
        The score, with the claims.

    Raises:
        Undefined: The ground truth makes no claim.
        AutoScorerError: The judge could not be asked.
    """
    claims = await ask.claims("ground_truth", usage)
    if not claims:
        raise Undefined("The ground truth makes no claim that could be looked for.")
    return await held_share(ask, ATTRIBUTED, claims, usage)
