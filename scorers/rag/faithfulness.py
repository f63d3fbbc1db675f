"""Faithfulness: whether the contexts support what the answer says."""

from __future__ import annotations

from ..judge.usage import Usage
from .asking import Asking, Measured, majority, share
from .sample import Undefined
from .templates import Template

__all__ = ["faithfulness", "held_share"]

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
    return await held_share(ask, SUPPORTED, claims, usage)


async def held_share(ask: Asking, template: Template, claims: list[str], usage: Usage) -> Measured:
    """The share of claims, of one at least, that the contexts hold: as each voter says."""
    contexts = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(ask.sample.contexts or (), 1))
    ballots = await ask.ballots(template, claims, {"question": ask.sample.question or "", "contexts": contexts}, usage)
    return Measured.of([share(ballot) for ballot in ballots], majority(claims, ballots))
