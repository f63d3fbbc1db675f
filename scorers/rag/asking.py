"""One answer before its judges: what several metrics ask for is asked once, and each verdict by every voter."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, TypeVar

from ...schemas.rag import ClaimVerdict
from ..judge.client import Judge
from ..judge.embedder import Embedder
from ..judge.usage import Usage
from .sample import Sample
from .templates import Template, is_chinese

__all__ = [
    "MOST_CLAIMS",
    "Asking",
    "Ballot",
    "Measured",
    "gathered",
    "majority",
    "share",
    "together",
    "verdict_schema",
]

T = TypeVar("T")

# Claims of one part of a text, and characters of such a part: a judge that is asked for all of a long text leaves some
# out. Verdicts in one answer. Characters of a claim and of a reason.
MOST_CLAIMS = 30
_PART = 1500
_VERDICTS = 15
_CLAIM, _REASON = 400, 300
# Where a sentence ends: not within 3.14.
_END = re.compile(r"[.!?](?=\s)|[。！？；]|\n")

_CLAIMS_SCHEMA = {
    "type": "object",
    "properties": {
        "claims": {"type": "array", "items": {"type": "string", "maxLength": _CLAIM}, "maxItems": MOST_CLAIMS}
    },
    "required": ["claims"],
    "additionalProperties": False,
}
# The reason comes first: what is written before a verdict can still change it.
_VERDICT = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": _REASON}, "verdict": {"type": "boolean"}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}

CLAIMS = Template("claims")


def verdict_schema(keys: Sequence[str]) -> dict[str, Any]:
    """A verdict with its reason under each of the keys: one that is missing can't pass for a good one."""
    return {
        "type": "object",
        "properties": dict.fromkeys(keys, _VERDICT),
        "required": list(keys),
        "additionalProperties": False,
    }


# What one voter says of several texts: of each ``verdict`` and ``reason``.
Ballot = list[dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """What a metric came to.

    Args:
        score: 0 to 1, the mean over the voters.
        claims: What was judged; the verdict of the majority of the voters.
        spread: The highest voter's score less the lowest; None for one voter.
        reason: What to know of the score.
    """

    score: float
    claims: Sequence[ClaimVerdict] = ()
    spread: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, scores: Sequence[float], claims: Sequence[ClaimVerdict] = (), reason: str | None = None) -> Measured:
        """What the scores of all voters come to."""
        spread = max(scores) - min(scores) if len(scores) > 1 else None
        return cls(math.fsum(scores) / len(scores), claims, spread, reason)


@dataclass
class Asking:
    """What the metrics of one answer ask, and whom.

    Args:
        sample: The answer.
        judges: The judges; more than one are a jury.
        votes: How often each of them is asked for every verdict; as its profile says when None.
        embedder: Turns texts into vectors; None where there is none.
        repeat: How often all of it was asked before; what was answered then is not taken again.
    """

    sample: Sample
    judges: Sequence[Judge] = ()
    votes: int | None = None
    embedder: Embedder | None = None
    repeat: int = 0
    _claims: dict[str, asyncio.Task[list[str]]] = field(default_factory=dict)

    @property
    def is_chinese(self) -> bool:
        """Whether the judges are asked in Chinese."""
        return is_chinese(self.sample.question, self.sample.answer, self.sample.ground_truth)

    @property
    def voters(self) -> list[tuple[Judge, int]]:
        """Each judge with each number of a vote."""
        return [
            (judge, self.repeat * votes + vote)
            for judge in self.judges
            for votes in (self.votes or judge.votes,)
            for vote in range(votes)
        ]

    async def claims(self, which: Literal["answer", "ground_truth"], usage: Usage) -> list[str]:
        """The claims that a text makes, in its order; the first judge splits it, once for all metrics.

        Args:
            which: The text.
            usage: Of the metric that asks; the first one pays.
        """
        if which not in self._claims:
            self._claims[which] = asyncio.create_task(self._split(getattr(self.sample, which) or "", usage))
        # One metric that is given up must not take the claims from another.
        return await asyncio.shield(self._claims[which])

    async def close(self) -> None:
        """End what nobody waits for any more."""
        for task in self._claims.values():
            task.cancel()
        await asyncio.gather(*self._claims.values(), return_exceptions=True)

    async def _split(self, text: str, usage: Usage) -> list[str]:
        async def split(part: str) -> list[str]:
            prompt = CLAIMS.fill({"question": self.sample.question or "", "statement": part}, chinese=self.is_chinese)
            answer = await self.judges[0].ask(prompt, _CLAIMS_SCHEMA, usage=usage, vote=self.repeat)
            return [claim.strip() for claim in answer["claims"] if claim.strip()]

        found = await gathered(split(part) for part in _parts(text))
        # Each once: a judge that repeats itself must not weigh a claim twice.
        return list(dict.fromkeys(claim for claims in found for claim in claims))

    async def ballots(
        self, template: Template, claims: Sequence[str], blocks: Mapping[str, str], usage: Usage
    ) -> list[Ballot]:
        """Have every voter judge every claim.

        Args:
            template: What is asked of the block ``claims``.
            claims: What to judge; nobody is asked of nothing.
            blocks: The other texts that it needs.
            usage: Of the metric.

        Returns:
            A ballot of each voter, in their order.
        """

        async def of(judge: Judge, vote: int, some: range) -> Ballot:
            keys = [f"c{number}" for number in some]
            listed = "\n".join(f"{key}: {claims[number]}" for key, number in zip(keys, some, strict=True))
            prompt = template.fill({**blocks, "claims": listed}, chinese=self.is_chinese)
            answer = await judge.ask(prompt, verdict_schema(keys), usage=usage, vote=vote)
            return [answer[key] for key in keys]

        groups = [range(at, min(at + _VERDICTS, len(claims))) for at in range(0, len(claims), _VERDICTS)]
        voters = self.voters
        found: list[Ballot] = await gathered(of(judge, vote, some) for judge, vote in voters for some in groups)
        size = len(groups)
        return [list(chain(*found[at * size : (at + 1) * size])) for at in range(len(voters))]


def share(ballot: Ballot) -> float:
    """The share of verdicts that are true, of one at least."""
    return sum(bool(each["verdict"]) for each in ballot) / len(ballot)


def majority(texts: Sequence[str], ballots: Sequence[Ballot]) -> list[ClaimVerdict]:
    """What most voters say of each text, with the reason of one of them; false where they are evenly divided."""
    found = []
    for place, text in enumerate(texts):
        said = [ballot[place] for ballot in ballots]
        verdict = 2 * sum(each["verdict"] for each in said) > len(said)
        reason = next((each["reason"] for each in said if each["verdict"] is verdict), None)
        found.append(ClaimVerdict(text=text, verdict=verdict, reason=reason or None))
    return found


async def gathered(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in their order; the first that fails ends the others, which nobody would read."""
    async with together() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


@contextlib.asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks of which the first that fails ends the others, and whose error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _parts(text: str) -> list[str]:
    """A text in parts that end with a sentence where one ends, each short enough to be split into all of its claims."""
    parts = []
    rest = text.strip()
    while len(rest) > _PART:
        ends = [found.end() for found in _END.finditer(rest, _PART // 2, _PART)]
        at = ends[-1] if ends else rest.rfind(" ", _PART // 2, _PART) + 1 or _PART
        parts.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [*parts, rest] if rest else parts
