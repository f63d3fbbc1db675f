"""Answer correctness: what the answer says against what it should have said."""

from __future__ import annotations

from ..judge.usage import Usage
from .asking import Asking, Measured, gathered, majority, share, together
from .sample import Undefined
from .semantic_similarity import similarity
from .templates import Template

__all__ = ["answer_correctness", "claim_f1"]

# RAGAS' weights of facts and of similarity.
_FACTS, _SIMILARITY = 0.75, 0.25

STATED = Template("answer_correctness")


async def answer_correctness(ask: Asking, usage: Usage) -> Measured:
    """F1 of the answer's claims against the ground truth's, with their similarity where there are embeddings.

    precision = the answer's claims that the ground truth states / claims of the answer; recall = the ground truth's
    claims that the answer states / claims of the ground truth; F1 = 2 precision × recall / (precision + recall). With
    embeddings the score is 0.75 F1 + 0.25 similarity, as in RAGAS. It counts true positives among the answer's claims
    alone, so a long answer hides what it leaves out there; and an answer without a claim has F1 = 1 there, 0 here.
    Needs question, answer, ground_truth.

    Returns:
        The score, with the claims of both: first the answer's, then the ground truth's.

    Raises:
        Undefined: The ground truth makes no claim.
        AutoScorerError: A model could not be asked.
    """
    said, wanted = await gathered((ask.claims("answer", usage), ask.claims("ground_truth", usage)))
    if not wanted:
        raise Undefined("The ground truth makes no claim that could be looked for.")
    answer, truth = ask.sample.answer or "", ask.sample.ground_truth or ""
    question = ask.sample.question or ""
    async with together() as group:
        right = group.create_task(ask.ballots(STATED, said, {"question": question, "reference": truth}, usage))
        covering = wanted if said else []
        covered = group.create_task(ask.ballots(STATED, covering, {"question": question, "reference": answer}, usage))
        similar = group.create_task(_similarity(ask, usage))
    scores = [
        claim_f1(share(ballot), share(other)) if said else 0.0
        for ballot, other in zip(right.result(), covered.result(), strict=True)
    ]
    notes = [] if said else ["The answer makes no claim."]
    nearness = similar.result()
    if nearness is None:
        notes.append("There are no embeddings, so the claims alone count.")
    else:
        scores = [_FACTS * score + _SIMILARITY * nearness for score in scores]
    claims = majority(said, right.result()) + majority(covering, covered.result())
    return Measured.of(scores, claims, " ".join(notes) or None)


async def _similarity(ask: Asking, usage: Usage) -> float | None:
    return None if ask.embedder is None else await similarity(ask, usage)


def claim_f1(precision: float, recall: float) -> float:
    """2 P R / (P + R); 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
