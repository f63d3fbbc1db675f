"""Faithfulness: whether the contexts support what the answer says."""

from __future__ import annotations

from ..judge.usage import Usage
from .asking import Asking, Measured, majority, share
from .sample import Undefined
from .templates import Template

__all__ = ["faithfulness", "numbered"]

SUPPORTED = Template("faithfulness")


async def faithfulness(ask: Asking, usage: Usage) -> Measured:
    """The share of the answer's claims that the contexts support.

    faithfulness = supported claims / claims of the answer (Es et al., RAGAS, EACL 2024). Every claim has a verdict of
    its own, so a claim that the judge passed over can't count as supported. Needs question, answer, contexts.

    Returns:
        The score, with the claims.

    Raises:
        Undefined: The answer makes no claim.
        AutoScorerError: The judge could not be asked.
    """
    claims = await ask.claims("answer", usage)
    if not claims:
        raise Undefined("The answer makes no claim that could be checked.")
    blocks = {"question": ask.sample.question or "", "contexts": numbered(ask.sample.contexts or ())}
    ballots = await ask.ballots(SUPPORTED, claims, blocks, usage)
    return Measured.of([share(ballot) for ballot in ballots], majority(claims, ballots))


def numbered(contexts: tuple[str, ...]) -> str:
    """Passages as one text, each with its number."""
    return "\n\n".join(f"[{number}] {text}" for number, text in enumerate(contexts, 1))
