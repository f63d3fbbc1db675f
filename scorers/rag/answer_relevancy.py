"""Answer relevancy: whether the answer speaks to the question."""

from __future__ import annotations

from typing import Any

from ..judge.client import Judge
from ..judge.usage import Usage
from .asking import Asking, Measured, gathered
from .semantic_similarity import cosine
from .templates import Template

__all__ = ["QUESTIONS", "answer_relevancy"]

# Questions that are made of an answer.
QUESTIONS = 3

ANSWERED = Template("answer_relevancy")
_SCHEMA = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {"type": "string", "maxLength": 400},
            "minItems": QUESTIONS,
            "maxItems": QUESTIONS,
        },
        "noncommittal": {"type": "boolean"},
    },
    "required": ["questions", "noncommittal"],
    "additionalProperties": False,
}


async def answer_relevancy(ask: Asking, usage: Usage) -> Measured:
    """The mean cosine of the question and of questions that the answer answers; 0 for one that commits to nothing.

    answer_relevancy = mean over i of max(0, cos(E(question), E(question_i))), where a judge makes the questions i from
    the answer alone (Es et al., RAGAS, EACL 2024). Needs question, answer.

    Returns:
        The score; 0 for an empty answer, for which nobody is asked.

    Raises:
        AutoScorerError: A model could not be asked.
    """
    answer, question = ask.sample.answer or "", ask.sample.question or ""
    if not answer.strip():
        return Measured(0.0, reason="The answer is empty.")
    embedder = ask.embedder
    assert embedder is not None
    prompt = ANSWERED.fill({"statement": answer}, chinese=ask.is_chinese)

    async def of(judge: Judge, vote: int) -> tuple[float, bool]:
        found: dict[str, Any] = await judge.ask(prompt, _SCHEMA, usage=usage, vote=vote)
        if found["noncommittal"]:
            return 0.0, True
        asked, *made = await embedder.embed([question, *found["questions"]], usage=usage)
        return sum(max(0.0, cosine(asked, each)) for each in made) / len(made), False

    votes = await gathered(of(judge, vote) for judge, vote in ask.voters)
    evasive = sum(is_evasive for _, is_evasive in votes)
    reason = "The answer is noncommittal." if 2 * evasive > len(votes) else None
    return Measured.of([score for score, _ in votes], reason=reason)
