"""A model that embeds, as a metric asks it: texts in, vectors out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...core.config_judge import EmbeddingsProfile, JudgePrice
from .budget import Account
from .cache import key_of
from .client import usage_of
from .failures import failure
from .once import Once, until
from .transport import Endpoint
from .usage import Usage

__all__ = ["Embedder"]


class Embedder:
    """One model of a profile, for one job.

    Args:
        name: The profile's name.
        profile: Where it is and how it is asked.
        model: Which of its models.
        endpoint: The connection, shared by all jobs.
        once: Vectors that are there already or under way, shared by all jobs.
        account: Whom calls are charged to.
        deadline: When calls end, on the loop's clock.

    Attributes:
        name: The profile's name.
        model: The model.
    """

    def __init__(
        self,
        *,
        name: str,
        profile: EmbeddingsProfile,
        model: str,
        endpoint: Endpoint,
        once: Once,
        account: Account,
        deadline: float,
    ) -> None:
        self.name, self.model = name, model
        self._profile, self._endpoint, self._once = profile, endpoint, once
        self._account, self._deadline = account, deadline
        price = profile.price
        self._price = None if price is None else JudgePrice(prompt=price.prompt, completion=0)

    def __repr__(self) -> str:
        return f"Embedder({self.name!r}, {self.model!r})"

    async def embed(self, texts: Sequence[str], *, usage: Usage) -> list[list[float]]:
        """A vector for each text.

        Args:
            texts: The texts; equal ones are asked for once.
            usage: Counts what it took; each text that was there already counts as ``cached``.

        Returns:
            Vectors in the order of the texts: finite, and all of one length.

        Raises:
            AutoScorerError: ``JUDGE_ERROR`` with ``details["reason"]``, ``BUDGET_EXCEEDED``, ``STORAGE_FULL``.
        """
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        keys = {text: key_of("embeddings", self._profile.base_url, self.model, text) for text in clean}
        async with until(self._deadline, profile=self.name, model=self.model):
            vectors = await self._cached(keys)
            usage.add(Usage(cached=len(vectors)))
            missing = [text for text in keys if text not in vectors]
            size = self._profile.batch
            batches = [missing[start : start + size] for start in range(0, len(missing), size)]
            # All of them, whatever becomes of one: the others are kept for the next attempt.
            found = await asyncio.gather(
                *(self._batch(batch, keys, usage) for batch in batches), return_exceptions=True
            )
        for batch, answer in zip(batches, found, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            vectors.update(zip(batch, answer, strict=True))
        if len({len(vector) for vector in vectors.values()}) > 1:
            raise self._unusable("vectors differ in their lengths")
        return [vectors[text].tolist() for text in clean]

    async def _cached(self, keys: Mapping[str, bytes]) -> dict[str, array[float]]:
        if self._once.cache is None or not keys:
            return {}
        found = await self._once.cache.get_all(list(keys.values()))
        return {text: array("d", value) for text, value in zip(keys, found, strict=True) if value is not None}

    async def _batch(self, texts: list[str], keys: Mapping[str, bytes], usage: Usage) -> list[array[float]]:
        async def check() -> None:
            await self._account.check(self.name, self.model)

        async def call() -> bytes:
            body = msgspec.json.encode({"model": self.model, "input": texts})
            answer = await self._endpoint.post("/embeddings", body, model=self.model, before=check)
            told = answer.get("usage")
            # Nothing is completed, so servers leave that out, or say 0.
            counted = {"usage": {**told, "completion_tokens": 0}} if isinstance(told, dict) else {}
            taken = usage_of(counted, self._price)
            usage.add(taken)
            await self._account.charge(taken)
            vectors = self._read(answer, len(texts))
            if self._once.cache is not None:
                for text, vector in zip(texts, vectors, strict=True):
                    self._once.cache.put(keys[text], vector.tobytes())
            return b"".join(vector.tobytes() for vector in vectors)

        raw, mine = await self._once.shared(key_of(*(keys[text] for text in texts)), call)
        if not mine:
            usage.add(Usage(cached=len(texts)))
        step = len(raw) // len(texts)
        return [array("d", raw[start : start + step]) for start in range(0, len(raw), step)]

    def _read(self, answer: Mapping[str, Any], number: int) -> list[array[float]]:
        data = answer.get("data")
        if not isinstance(data, list) or len(data) != number or not all(isinstance(each, dict) for each in data):
            raise self._unusable(f"expected {number} vectors")
        indexes = [each.get("index", place) for place, each in enumerate(data)]
        if any(type(index) is not int for index in indexes) or sorted(indexes) != list(range(number)):
            raise self._unusable("vectors are not numbered as the texts are")
        vectors = [
            self._vector(each.get("embedding")) for _, each in sorted(zip(indexes, data, strict=True), key=_first)
        ]
        if len({len(vector) for vector in vectors}) != 1:
            raise self._unusable("vectors differ in their lengths")
        return vectors

    def _vector(self, value: Any) -> array[float]:
        try:
            if isinstance(value, str):  # base64 of 32-bit numbers, little-endian
                numbers = array("f", base64.b64decode(value, validate=True))
                vector = array("d", numbers)
            else:
                vector = array("d", value)
        except (TypeError, ValueError, OverflowError, binascii.Error):
            raise self._unusable("a vector is no list of numbers") from None
        if not vector or not all(map(math.isfinite, vector)):
            raise self._unusable("a vector is empty or not finite")
        return vector

    def _unusable(self, why: str) -> Exception:
        return failure("bad_answer", profile=self.name, model=self.model, retryable=True, why=why)


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]
