"""A judge, as a metric asks it: a prompt and a schema in, an answer that follows the schema out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...core.config_judge import JudgePrice, JudgeProfile
from .budget import Account
from .cache import key_of
from .once import Once, until
from .prompt import Prompt
from .schema import compiled
from .structured import Asked, Dialect, Post, structured_answer
from .transport import Endpoint
from .usage import Usage

__all__ = ["Judge", "usage_of"]

_MILLION = 1_000_000


class Judge:
    """One model of a profile, for one job.

    Args:
        name: The profile's name.
        profile: Where it is and how it is asked.
        model: Which of its models.
        endpoint: The connection, shared by all jobs.
        dialect: What is known of the server, shared by all jobs.
        once: Answers that are there already or under way, shared by all jobs.
        account: Whom calls are charged to.
        deadline: When calls end, on the loop's clock.

    Attributes:
        name: The profile's name.
        model: The model.
        votes: Answers to each question that the configuration asks for.
        temperature: Of its answers; None where none is sent.
    """

    def __init__(
        self,
        *,
        name: str,
        profile: JudgeProfile,
        model: str,
        endpoint: Endpoint,
        dialect: Dialect,
        once: Once,
        account: Account,
        deadline: float,
    ) -> None:
        self.name, self.model, self.votes, self.temperature = name, model, profile.votes, profile.temperature
        self._profile, self._endpoint, self._dialect, self._once = profile, endpoint, dialect, once
        self._account, self._deadline = account, deadline

    def __repr__(self) -> str:
        return f"Judge({self.name!r}, {self.model!r})"

    async def ask(self, prompt: Prompt, schema: Mapping[str, Any], *, usage: Usage, vote: int = 0) -> dict[str, Any]:
        """An answer that follows the schema.

        Args:
            prompt: What is asked.
            schema: A bounded JSON schema; ``Schema`` says which keywords there are.
            usage: Counts what it took.
            vote: The number of the vote, from 0 on; each is an answer of its own.

        Raises:
            AutoScorerError: ``JUDGE_ERROR`` with ``details["reason"]``, ``BUDGET_EXCEEDED``, ``STORAGE_FULL``.
            ValueError: The schema is none that is known here.
        """
        profile = self._profile
        asked = Asked(
            model=self.model,
            prompt=Prompt(_encodable(prompt.system), _encodable(prompt.user), prompt.version),
            schema=compiled(schema),
            temperature=profile.temperature,
            seed=None if profile.seed is None else profile.seed + vote,
            max_tokens=profile.max_tokens,
        )

        async def call() -> bytes:
            answer = await structured_answer(self._poster(usage), self._dialect, asked, profile=self.name)
            found = msgspec.json.encode(answer)
            if self._once.cache is not None:
                self._once.cache.put(key, found)
            return found

        key = self._key(asked, vote)
        async with until(self._deadline, profile=self.name, model=self.model):
            answer, mine = await self._once.get(key, call)
        if not mine:
            usage.add(Usage(cached=1))
        value: dict[str, Any] = msgspec.json.decode(answer)
        return value

    def _key(self, asked: Asked, vote: int) -> bytes:
        # Not of the body that is sent: which form a server takes is learned anew by each process.
        settings = [asked.temperature, asked.seed, asked.max_tokens, self._profile.structured, vote]
        return key_of(
            "judge",
            self._profile.base_url,
            asked.model,
            asked.prompt.version,
            asked.prompt.system,
            asked.prompt.user,
            asked.schema.text,
            msgspec.json.encode(settings),
        )

    def _poster(self, usage: Usage) -> Post:
        async def check() -> None:
            await self._account.check(self.name, self.model)

        async def post(body: dict[str, Any]) -> dict[str, Any]:
            encoded = msgspec.json.encode(body)
            answer = await self._endpoint.post("/chat/completions", encoded, model=self.model, before=check)
            taken = usage_of(answer, self._profile.price)
            usage.add(taken)
            await self._account.charge(taken)
            return answer

        return post


def usage_of(answer: Mapping[str, Any], price: JudgePrice | None) -> Usage:
    """What one answered call has taken, as the server counted it.

    Args:
        answer: The server's answer.
        price: What tokens cost; None where nobody knows.
    """
    told = answer.get("usage")
    told = told if isinstance(told, dict) else {}
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int or prompt < 0 or completion < 0:
        return Usage(calls=1, cost=None, tokens_known=False)
    cost = None if price is None else (prompt * price.prompt + completion * price.completion) / _MILLION
    return Usage(calls=1, prompt_tokens=prompt, completion_tokens=completion, cost=cost)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
